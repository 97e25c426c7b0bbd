"""How a replay through the trust filter is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kbsync.cli import show

if TYPE_CHECKING:
    from kbsync.bench.trust import Replay, Share


def trust_data(one: Replay) -> dict[str, Any]:
    """A replay as `--json` prints it."""
    return {
        "leaked": {str(kind): _share(share) for kind, share in one.leaked.items()},
        "through": _share(one.through),
        "undone_by_their_authors": one.undone,
        "hours": {"median": one.hours[0], "p95": one.hours[1]},
        "held_at_the_end": one.held,
        "syncs": one.syncs,
    }


def _share(share: Share) -> dict[str, float]:
    return {"hits": share.hits, "count": share.count, "share": share.share}


def print_trust(changes: int, found: Mapping[str, Replay]) -> None:
    """A column for each setting, a row for each kind."""
    replays = list(found.values())
    rows: list[list[object]] = [
        [str(kind), *(f"{one.leaked[kind].hits} of {one.leaked[kind].count}" for one in replays)]
        for kind in replays[0].leaked
    ]
    rows.append(["honest, through", *(f"{100 * one.through.share:.2f} %" for one in replays)])
    rows.append(["median wait", *(f"{one.hours[0]:.1f} h" for one in replays)])
    show.table(["reached the model", *found], rows, title=f"{changes} changes of a month", numbers=list(found))
