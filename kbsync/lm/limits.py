"""The most that a model's files may ask for, whatever they say. Each is far beyond any model there is."""

from __future__ import annotations

MOST_LAYERS = 2048
MOST_HEADS = 65_536
MOST_EXPERTS = 65_536  # of all layers together
MOST_POSITIONS = 2**24  # tokens of a text: some models make tables of this many rows
MOST_NAMED = 65_536  # labels, stages and the like, each of which gets a name or a line of its own
MOST_TEMPLATE = 262_144  # characters of a chat template
