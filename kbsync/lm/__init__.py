"""The language model itself: loading, hashing, tokenising, scoring. Shared by edit, evaluate and checkpoint."""
