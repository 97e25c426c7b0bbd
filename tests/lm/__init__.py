"""Tests of the language model itself."""
