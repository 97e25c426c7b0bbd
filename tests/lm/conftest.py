"""What the tests of the language model share."""

from __future__ import annotations

from tests.tiny import one_thread

__all__ = ["one_thread"]
