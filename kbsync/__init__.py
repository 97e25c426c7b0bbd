"""kbsync keeps a language model's facts in line with Wikidata."""

__version__ = "0.1.0"
