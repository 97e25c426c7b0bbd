"""What kbsync measures of itself."""
