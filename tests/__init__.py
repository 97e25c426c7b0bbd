"""Tests of kbsync; the folders mirror the package."""
