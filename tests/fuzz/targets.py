"""Every surface that reads something from outside, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import file_targets, source_targets, words_targets
from tests.fuzz.draw import Target

TARGETS: Mapping[str, Target] = {
    one.name: one for one in (*source_targets.TARGETS, *words_targets.TARGETS, *file_targets.TARGETS)
}
