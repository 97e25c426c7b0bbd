"""The rebuild stage: base weights + live set → candidate weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from torch import Tensor

from kbsync.edit.memit import Rebuilt
from kbsync.errors import BrokenTarget
from kbsync.facts import EditRequest
from kbsync.lm.finite import is_finite
from kbsync.store import targets
from kbsync.sync.progress import Task
from kbsync.sync.solving import load_targets, z_hash
from kbsync.sync.workbench import Workbench

log = structlog.get_logger("kbsync")


def rebuild(bench: Workbench, live: Sequence[EditRequest], task: Task) -> Rebuilt:
    """Build the synced weights of a live set from base; the loaded model holds them afterwards.

    Raises NotFinite, and the model holds the base weights, where an edited weight gets numbers that are none;
    BrokenTarget where a stored z has such, which is forgotten, so that the next sync solves it again.
    """
    found = load_targets(bench, live)
    _forget_broken(bench, live, found)
    return bench.editor.rebuild(live, found, on_step=task.describe)


def _forget_broken(bench: Workbench, live: Sequence[EditRequest], found: Mapping[str, Tensor]) -> None:
    bad = [r for r in live if r.content_hash in found and not is_finite(found[r.content_hash])]
    if not bad:
        return
    with bench.store.begin() as tx:
        targets.forget(tx, [z_hash(bench.target_hash, request.content_hash) for request in bad])
    names = ", ".join(f"z of {request.rewrite.text!r}" for request in bad)
    raise BrokenTarget(f"{names}: the store had numbers that are not finite; the next sync solves it again")


def warn(rebuilt: Rebuilt, run_id: int) -> None:
    """Say in the log which layers' solves float64 may not have been enough for."""
    for layer, found in sorted(rebuilt.conditioning.items()):
        if found.bad:
            log.warning(
                "solve",
                run=run_id,
                layer=layer,
                condition=f"{found.condition:.1e}",
                residual=f"{found.residual:.1e}",
                warning="badly posed for float64; give the covariance more tokens, or raise edit.covariance_weight",
            )


def counts(rebuilt: Rebuilt, facts: int) -> dict[str, float]:
    """What the rebuild took, and how well the solve of each layer was posed, for the run's row."""
    misses = rebuilt.misses
    return {
        "facts": facts,
        "missed_after_solve": misses[0] if misses else 0,
        "missed_after_repair": misses[-1] if misses else 0,
        "repair_rounds": max(len(misses) - 1, 0),
        "residual": round(rebuilt.residual, 6),
        **{f"condition_{layer}": float(f"{one.condition:.3g}") for layer, one in rebuilt.conditioning.items()},
        **{f"solve_residual_{layer}": float(f"{one.residual:.3g}") for layer, one in rebuilt.conditioning.items()},
        **{f"{part}_s": round(seconds, 3) for part, seconds in rebuilt.seconds.items()},
    }
