"""Tests of the trust filter: pure decisions, and a made-up month."""
