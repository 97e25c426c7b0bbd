"""The whole loop, on a tiny model and a small world."""
