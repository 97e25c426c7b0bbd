"""The only place where stages meet; `stages.py` reads as the table of contents."""
