"""The rebuild stage: base weights + live set → candidate weights."""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.edit.memit import Rebuilt
from kbsync.facts import EditRequest
from kbsync.sync.progress import Task
from kbsync.sync.solving import load_targets
from kbsync.sync.workbench import Workbench


def rebuild(bench: Workbench, live: Sequence[EditRequest], task: Task) -> Rebuilt:
    """Build the synced weights of a live set from base; the loaded model holds them afterwards."""
    return bench.editor.rebuild(live, load_targets(bench, live), on_step=task.describe)


def counts(rebuilt: Rebuilt, facts: int) -> dict[str, float]:
    """What the rebuild took, for the run's row."""
    misses = rebuilt.misses
    return {
        "facts": facts,
        "missed_after_solve": misses[0] if misses else 0,
        "missed_after_repair": misses[-1] if misses else 0,
        "repair_rounds": max(len(misses) - 1, 0),
        "residual": round(rebuilt.residual, 6),
        **{f"{part}_s": round(seconds, 3) for part, seconds in rebuilt.seconds.items()},
    }
