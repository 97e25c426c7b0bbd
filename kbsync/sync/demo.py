"""The demo: a real SPARQL server, real changes, a real model, on one machine in a few minutes.

It is the same code as the service: only the endpoint, the folders and the passing of time are the demo's own.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kbsync.errors import ConfigError
from kbsync.facts import Outcome, Phase, PromptKind
from kbsync.settings import Settings, load_settings, share
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.store import outcomes, requests
from kbsync.store.requests import StoredRequest
from kbsync.store.tables import RequestStatus
from kbsync.sync.inspect import find_checkpoint, rebuilt_hash
from kbsync.sync.progress import Progress
from kbsync.sync.run import Report, sync_once
from kbsync.sync.workbench import Workbench

WINDOWS = ("data/demo/window-1.ru.gz", "data/demo/window-2.ru.gz")
_MARK = ".kbsync-demo"
_WRITTEN: Mapping[str, tuple[str, ...]] = {  # sections and keys of the config that is left behind; (): all keys
    "store": ("url",),
    "checkpoint": ("folder",),
    "model": ("base", "cache"),
    "source": ("endpoint",),
    "watch": ("relations", "baseline"),
    "trust": (),
    "edit": (),
    "covariance": (),
}

# z in two contexts instead of the defaults' four takes about half the time, and repair that asks only at the prompt
# less than half. What goes with two contexts: a smaller λ, fewer facts in a shorter C, the KL term, a longer δ, and
# layers 4 to 8, where text bears so small a λ better than in 2 to 6.
_QUICK: Mapping[str, Mapping[str, object]] = {
    "edit": {
        "layers": (4, 5, 6, 7, 8),
        "contexts": ("question",),
        "key_contexts": (),
        "repair_contexts": (),
        "covariance_weight": 600.0,
        "covariance_facts": "off",
        "clamp": 2.0,
        "kl_weight": 0.01,
    },
    "covariance": {"tokens": 20_000, "facts_share": 0.05},
}

QUERIES = (
    "SELECT subject_label, relation_label, object_label FROM live_facts ORDER BY subject_label LIMIT 10",
    "SELECT run, status, efficacy_success, efficacy_accuracy, perplexity_ratio FROM run_summary",
    "SELECT reason, count(*) AS facts FROM held_facts GROUP BY reason ORDER BY facts DESC",
)


@dataclass(frozen=True, slots=True)
class DemoRow:
    """One fact of the last sync. `expected` is the object that the synced model should say (for a retired
    fact: should no longer favour); `verdict` is `edited`, `favoured` (more likely than the old object, but not
    said), `missed`, `back to base`, or `still favoured`."""

    fact: str
    kind: str
    expected: str
    base_says: str
    synced_says: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the second sync, and whether it was kept."""

    text: str
    passed: bool


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo shows. `reports` are the first pull and the two syncs, in order."""

    reports: tuple[Report, ...]
    rows: tuple[DemoRow, ...]
    checks: tuple[Check, ...]
    checkpoint: Path | None
    store: str
    config: Path
    seconds: float
    queries: tuple[str, ...] = field(default=QUERIES)


def run_demo(folder: Path, progress: Progress, config: Path | None = None) -> DemoResult:
    """Run the whole demo in `folder`, which is emptied first; the endpoint is stopped at the end, also on Ctrl-C.

    Raises ConfigError when `folder` holds something that is not a demo's.
    """
    started = time.monotonic()
    _clear(folder)
    reports = []
    with EmbeddedWikidata([share("data/demo/wikidata.nt.gz")]) as wikidata:
        progress.note(f"embedded Wikidata: an Oxigraph SPARQL server at {wikidata.endpoint}")
        settings = demo_settings(folder, wikidata.endpoint, config)
        written = _write_config(folder, settings)
        with Workbench(settings, progress) as bench:
            progress.note("first pull: the facts as of the baseline are taken as known, nothing is edited")
            reports.append(sync_once(bench, "demo"))
            for number, window in enumerate(WINDOWS, start=1):
                wikidata.apply(share(window))
                progress.note(f"time moves on: window {number} of real changes was applied to Wikidata; syncing")
                reports.append(sync_once(bench, "demo"))
            rows = _rows(bench, reports[-1])
            checks = _checks(bench, reports)
    return DemoResult(
        reports=tuple(reports),
        rows=tuple(rows),
        checks=tuple(checks),
        checkpoint=reports[-1].checkpoint,
        store=settings.store.url,
        config=written,
        seconds=time.monotonic() - started,
    )


def demo_settings(folder: Path, endpoint: str, config: Path | None = None) -> Settings:
    """The embedded configuration, with settings of the editor that take less time, or `config` as it is; both with
    the demo's endpoint, store and folders."""
    return load_settings(
        config or share("config/embedded.toml"),
        {
            **(_QUICK if config is None else {}),
            "source": {"endpoint": endpoint},
            "model": {"cache": (folder.parent / "cache").resolve()},  # outlives the demo, and never lies in a wheel
            "store": {"url": f"sqlite:///{(folder / 'kbsync.db').resolve()}"},
            "checkpoint": {"folder": (folder / "checkpoints").resolve()},
        },
    )


def _clear(folder: Path) -> None:
    """Empty the folder of an earlier demo; never anything else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise ConfigError(f"{folder} is not empty and was not made by the demo; give another --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text("made by kbsync demo, and emptied by the next one\n", encoding="utf-8")


def _write_config(folder: Path, settings: Settings) -> Path:
    """A config file that points later commands (`kbsync -c … sql`) at the demo's store and checkpoints."""
    path = folder / "kbsync.toml"
    whole = settings.model_dump(mode="json")
    lines = ["# written by kbsync demo: the store, checkpoints, model and editor settings that it left behind"]
    for section, keys in _WRITTEN.items():
        lines += ["", f"[{section}]"]
        values = {key: whole[section][key] for key in keys or whole[section]}
        # a JSON text, number, truth value or list of these is the same thing in TOML
        told = {key: "off" if value is None else value for key, value in values.items()}  # TOML has no null
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _rows(bench: Workbench, report: Report) -> list[DemoRow]:
    """Every fact that the last sync edited, replaced or retired, with what both models say."""
    with bench.store.read() as tx:
        found = outcomes.outcomes_of(tx, report.run_id)
        stored = {s.request.content_hash: s for s in requests.requests_with(tx, list(RequestStatus))}
    before = {(o.content_hash, o.kind): o for o in found if o.phase is Phase.BEFORE and o.index == 0}
    shown = [
        o for o in found
        if o.phase is Phase.AFTER and o.kind in (PromptKind.REWRITE, PromptKind.RETIRED)
    ]  # fmt: skip
    return [_row(stored[o.content_hash], before[o.content_hash, o.kind], o) for o in shown]


def _row(stored: StoredRequest, before: Outcome, after: Outcome) -> DemoRow:
    request = stored.request
    retired = after.kind is PromptKind.RETIRED
    if retired:
        verdict = "back to base" if after.success else "still favoured"
    elif after.accuracy:
        verdict = "edited"
    else:
        verdict = "favoured" if after.success else "missed"
    return DemoRow(
        fact=f"{request.subject_label}: {request.relation_label}",
        kind="retired" if retired else ("replaced" if request.target_old else "added"),
        expected=request.target_new,
        base_says=before.said or "",
        synced_says=after.said or "",
        verdict=verdict,
    )


def _checks(bench: Workbench, reports: Sequence[Report]) -> list[Check]:
    """The promises of the second sync: the newest objects, no trace of the old, and the same bits from scratch."""
    with bench.store.read() as tx:
        first = outcomes.outcomes_of(tx, reports[1].run_id, Phase.AFTER)
        second = outcomes.outcomes_of(tx, reports[2].run_id, Phase.AFTER)
        stored = {s.request.content_hash: s.request.fact for s in requests.requests_with(tx, list(RequestStatus))}
    pair = {key: (fact.subject, fact.relation) for key, fact in stored.items()}
    changed_first = {pair[o.content_hash] for o in first if o.kind is PromptKind.REWRITE}
    retired = [o for o in second if o.kind is PromptKind.RETIRED]
    left = {pair[o.content_hash] for o in retired}
    again = [o for o in second if o.kind is PromptKind.REWRITE and pair[o.content_hash] in changed_first & left]
    fallen = [o for o in retired if o.success]
    said = sum(o.accuracy for o in again)
    checkpoint = find_checkpoint(bench, None)
    same = rebuilt_hash(bench, checkpoint) == checkpoint.weights_hash
    return [
        Check(
            f"{said} of {len(again)} facts that changed twice answer with their newest object", said == len(again)
        ),
        Check(
            f"{len(fallen)} of {len(retired)} replaced or retired objects are back at the base model's own level",
            len(fallen) == len(retired),
        ),
        Check("the weights equal, bit for bit, those built in one go from the facts in another order", same),
    ]
