"""What kbsync measures of itself: `kbsync bench`."""
