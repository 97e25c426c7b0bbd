"""What the tests of the evaluation share."""

from __future__ import annotations

from tests.tiny import one_thread

__all__ = ["one_thread"]
