"""One sync, from Wikidata to a published model. Each stage reads what the one before it committed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from kbsync import failpoints
from kbsync.errors import BrokenTarget, NotFinite
from kbsync.store import changes, checkpoints, quarantines, requests, runs
from kbsync.store.checkpoints import Checkpoint
from kbsync.store.requests import StoredRequest
from kbsync.store.runs import Run
from kbsync.store.tables import KeptOut, RequestStatus, RunStatus
from kbsync.sync.clock import now
from kbsync.sync.planning import Planned, plan
from kbsync.sync.progress import Task
from kbsync.sync.pulling import pull
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    from kbsync.edit.memit import Rebuilt
    from kbsync.evaluate.gate import Soundness, Verdict
    from kbsync.evaluate.metrics import Metric
    from kbsync.evaluate.room import Room
    from kbsync.sync.bisecting import Bisected

log = structlog.get_logger("kbsync")

STAGES = ("pull", "plan", "solve", "rebuild", "evaluate", "gate", "publish")


@dataclass(slots=True)
class Sync:
    """One run under way: what its stages have found so far."""

    bench: Workbench
    run_id: int
    force: bool = False
    only_touched: bool = False
    counts: dict[str, Mapping[str, float]] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    room: Room | None = None
    checkpoint: Path | None = None
    bisected: Bisected | None = None
    planned_on: int | None = None  # the publication that was live then

    def run(self) -> tuple[RunStatus, str | None]:
        """All stages in order; the status and the reason that the run ends with.

        A candidate that the gate refuses is bisected. Where that finds requests to keep out, the stages from the
        plan on are gone through again, without them.
        """
        self.pull()
        while (ended := self._carry_through()) is None:
            log.warning("facts are kept out, and the run goes on without them", run=self.run_id)
            assert self.bisected is not None
            self.bisected = replace(self.bisected, goes_on=False)
        self._let_in()
        return ended

    def _carry_through(self) -> tuple[RunStatus, str | None] | None:
        """The stages after the pull; None when the gate's bisection has kept requests out, and there is another
        plan to be carried through."""
        planned = self.plan()
        if planned.question is not None:
            return RunStatus.WAITING, planned.question
        if not self.force and as_published(self.bench, planned.wanted):
            return RunStatus.UNCHANGED, self._with_kept_out("the live model holds the wanted facts already")
        live = self.solve(planned.wanted)
        if not self.force and same_live_set(self.bench, live):
            self.confirm(live)
            return RunStatus.UNCHANGED, self._with_kept_out("the live model holds the wanted facts already")
        if not self.force and (refused := standing_refusal(self.bench, live)) is not None:
            return RunStatus.REJECTED, self.refuse_again(refused, live)
        rebuilt, candidate = self.rebuild(live), None
        if rebuilt is not None:
            self.evaluate(live, rebuilt)
            candidate = self.gate(live, rebuilt)
        if candidate is None:
            return None if self._goes_on else (RunStatus.REJECTED, self.refusal)
        self.publish(live, candidate)
        return RunStatus.PUBLISHED, self._with_kept_out()

    def pull(self) -> None:
        """Wikidata → changes → rows."""
        with self._stage("pull", unit="relations") as task:
            self._count("pull", pull(self.bench, self.run_id, task, self.only_touched))

    def plan(self) -> Planned:
        """Facts in the store → the live set wanted, in words."""
        with self._stage("plan"):
            planned = plan(self.bench, self.run_id)
            self._count("plan", planned.counts)
            self.planned_on = planned.publication
        return planned

    def solve(self, wanted: Sequence[StoredRequest]) -> list[StoredRequest]:
        """Edit requests → targets z, cached by content."""
        from kbsync.sync import solving

        anew = self._identify()  # loads the base model and C, before the stage's own clock starts
        with self._stage("solve", unit="edits") as task:
            live, counts = solving.solve(self.bench, self.run_id, wanted, anew, task)
            self._count("solve", counts)
        return live

    def rebuild(self, live: Sequence[StoredRequest]) -> Rebuilt | None:
        """Base weights + live set → candidate weights; None where they are not finite, and are refused for it.

        Whoever makes them so is looked for, as in the gate; a z that the store had broken is not worth it."""
        from kbsync.evaluate.gate import Soundness
        from kbsync.sync import building, publishing

        with self._stage("rebuild") as task:
            try:
                rebuilt = building.rebuild(self.bench, [stored.request for stored in live], task)
            except NotFinite as error:
                self._judge(None, Soundness(len(self.bench.editor.layers), [str(error)]))
                publishing.keep_verdicts(self.bench, self.run_id, self.verdicts)
                if not isinstance(error, BrokenTarget):
                    self._count("rebuild", self._bisect(live).counts)
                if not self._goes_on:
                    stands = not isinstance(error, BrokenTarget)  # such a z is solved again
                    publishing.reject(self.bench, self.run_id, live, None, stands)
                return None
            building.warn(rebuilt, self.run_id)
            self._count("rebuild", building.counts(rebuilt, len(live)))
        return rebuilt

    def evaluate(self, live: Sequence[StoredRequest], rebuilt: Rebuilt) -> None:
        """Base model and candidate → outcomes and metrics."""
        from kbsync.sync import evaluating

        with self._stage("evaluate", unit="prompts") as task:
            measured = evaluating.evaluate(self.bench, self.run_id, live, rebuilt, task)
            self.metrics = measured.metrics
            self._count("evaluate", measured.counts)

    def gate(self, live: Sequence[StoredRequest], rebuilt: Rebuilt) -> int | None:
        """Metrics → verdicts; writes the candidate, and returns its checkpoint's id if it may go live.

        A refused one is bisected first; it is not written where the run goes on without some of its facts."""
        from kbsync.evaluate.gate import Soundness, passed
        from kbsync.sync import publishing, readback, room

        with self._stage("gate"):
            self._judge(self.metrics, Soundness(len(rebuilt.tensors)))
            self.room = room.measure(self.bench, self.run_id, len(live), self.metrics, self.verdicts, rebuilt)
            for warning in self.room.warnings():
                log.warning("room", run=self.run_id, warning=warning)
            bisected = self._bisect(live) if not passed(self.verdicts) else self.bisected
            counts = {**_room_counts(self.room), **(bisected.counts if bisected is not None else {})}
            candidate = None
            if not self._goes_on:
                candidate, self.checkpoint = publishing.write(self.bench, self.run_id, live, rebuilt, self.metrics)
                files = readback.check(self.bench, live, rebuilt, candidate)
                self._judge(self.metrics, files.sound)
                counts |= files.counts
            publishing.keep_verdicts(self.bench, self.run_id, self.verdicts)
            failed = sum(not verdict.passed for verdict in self.verdicts)
            self._count("gate", {"rules": len(self.verdicts), "failed": failed, **counts})
            if candidate is not None and failed:
                publishing.reject(self.bench, self.run_id, live, candidate, is_about_weights(self.verdicts))
                return None
        return candidate

    def _judge(self, metrics: Sequence[Metric] | None, sound: Soundness) -> None:
        """All of the gate's rules that can be asked of the candidate now."""
        from kbsync.evaluate.gate import verdicts_on

        self.verdicts = verdicts_on(metrics, sound, self.bench.settings.gate)

    def publish(self, live: Sequence[StoredRequest], candidate: int) -> None:
        """The candidate goes live, in one step."""
        from kbsync.sync import publishing

        with self._stage("publish"):
            publishing.publish(self.bench, self.run_id, live, candidate, self.planned_on)
            self._count("publish", {"facts": len(live)})

    def confirm(self, live: Sequence[StoredRequest]) -> None:
        """The published model holds these facts: requests that were solved anew for a model that never went live
        stand as edited again."""
        with self.bench.store.begin() as tx:
            ids = {stored.id for stored in live if stored.status is not RequestStatus.EDITED}
            requests.set_status(tx, self.run_id, now(), ids, RequestStatus.EDITED)
            changes.settle(tx, {stored.request.fact: "edited" for stored in live if stored.id in ids})

    def refuse_again(self, before: Run, live: Sequence[StoredRequest]) -> str:
        """The refusal of an earlier run stands, also for changes that came since; why this run is refused."""
        from kbsync.sync import publishing

        with self.bench.store.begin() as tx:
            publishing.name_refused(tx, before.id, live, checkpoints.live_hashes(tx))
        return f"run {before.id} built the same candidate, and the gate refused it: {before.reason}"

    def _bisect(self, live: Sequence[StoredRequest]) -> Bisected:
        """Look for the requests because of which the candidate is refused, and keep them out."""
        from kbsync.sync.bisecting import Bisected, bisect_refused

        so_far = self.bisected or Bisected()
        self.bisected = bisect_refused(self.bench, self.run_id, live, self.verdicts, self.room, so_far)
        return self.bisected

    @property
    def _goes_on(self) -> bool:
        """Whether the last bisection has changed what is wanted."""
        return self.bisected is not None and self.bisected.goes_on

    def _let_in(self) -> None:
        """The run is over: what bisections left out, this run's or a killed one's, may be tried by the next one."""
        with self.bench.store.read() as tx:
            waits = KeptOut.LEFT_OUT in quarantines.counted(tx)
        if waits:
            with self.bench.store.begin() as tx:
                quarantines.let_in_left_out(tx, now(), f"run {self.run_id}")

    def _with_kept_out(self, reason: str | None = None) -> str | None:
        """A reason, and what this run has kept out."""
        kept_out = self.bisected.kept_out if self.bisected is not None else None
        return "; ".join(part for part in (reason, kept_out) if part) or None

    @property
    def refusal(self) -> str:
        """Why the gate refuses the candidate, and what to do when that is because the model is full."""
        from kbsync.evaluate.gate import refusal

        found = self.bisected.words if self.bisected is not None else None
        reason = "; ".join(part for part in (refusal(self.verdicts), found) if part)
        full = self.room.advice(self.bench.settings.watch.when_full) if self.room is not None else None
        return str(self._with_kept_out(reason if full is None else f"{reason}; {full}"))

    def _identify(self) -> bool:
        """Note which base model and settings this run uses; whether they differ from the live model's."""
        bench = self.bench
        live = bench.live_checkpoint()
        base_hash, settings_hash = bench.base.hash, bench.settings_hash  # loads the model, may write to the store
        with bench.store.begin() as tx:
            runs.identify(tx, self.run_id, base_hash, settings_hash)
            before = _last_settled(tx)
        if live is not None:
            return live.base_hash != bench.base.hash
        return before is None or before.base_hash != bench.base.hash

    @contextmanager
    def _stage(self, name: str, unit: str = "") -> Iterator[Task]:
        """Enter a stage: its row, its clock, its progress bar."""
        store = self.bench.store
        with store.begin() as tx:
            runs.stage_started(tx, self.run_id, name, now())
        failpoints.hit(f"stage.{name}.begin")
        self.counts[name] = {}
        with bound_contextvars(stage=name), self.bench.progress.stage(name, unit=unit) as task:
            yield task
        failpoints.hit(f"stage.{name}.end")
        with store.begin() as tx:
            runs.stage_finished(tx, self.run_id, name, now(), self.counts[name])

    def _count(self, stage: str, counts: Mapping[str, float]) -> None:
        self.counts[stage] = dict(counts)


def _room_counts(room: Room) -> dict[str, float]:
    """The room in the gate's counts: how many more facts fit, and the warnings that there are."""
    counts: dict[str, float] = {"warnings": len(room.warnings())} if room.warnings() else {}
    return counts if room.headroom is None else {**counts, "headroom": room.headroom}


def as_published(bench: Workbench, wanted: Sequence[StoredRequest]) -> bool:
    """Whether every wanted fact is settled and the live model holds exactly those that are edits.

    Answered without loading the base model, so a sync without changes takes no time. A base model or settings
    that changed are told by the configuration that the last settled run wrote down.
    """
    if any(s.status not in (RequestStatus.EDITED, RequestStatus.KNOWN, RequestStatus.FAILED) for s in wanted):
        return False
    edited = [s for s in wanted if s.status is RequestStatus.EDITED]
    live = bench.live_checkpoint()
    if live is not None and live.damage is not None:
        return False
    return same_configuration(bench) and _held_hashes(bench, live) == {s.request.content_hash for s in edited}


def same_configuration(bench: Workbench) -> bool:
    """Whether the last run that settled a model had this run's model and editor settings, and that model is the
    live one (a rollback may have brought back one of other settings)."""
    live = bench.live_checkpoint()
    with bench.store.read() as tx:
        last = _last_settled(tx)
    if last is None:
        return False
    if live is not None and (live.base_hash, live.settings_hash) != (last.base_hash, last.settings_hash):
        return False
    mine = shaping_settings(bench)
    return all(last.settings.get(section) == value for section, value in mine.items())


def _last_settled(tx: Session) -> Run | None:
    """The last run that loaded the base model and found, or made, the live model as it should be. A run that was
    interrupted or failed may have changed nothing yet."""
    return runs.last_identified(tx, (RunStatus.PUBLISHED, RunStatus.UNCHANGED))


def shaping_settings(bench: Workbench) -> dict[str, Any]:
    """The sections of the configuration that shape weights, as plain JSON."""
    whole = bench.settings.model_dump(mode="json")
    return {section: whole[section] for section in ("model", "edit", "covariance")}


def same_live_set(bench: Workbench, live: Sequence[StoredRequest]) -> bool:
    """Whether the published model was built from this live set, base model and settings, and is whole."""
    published = bench.live_checkpoint()
    if published is not None and published.damage is not None:
        return False
    return _is_build_of(bench, published, live) if published is not None else not live


def is_about_weights(verdicts: Sequence[Verdict]) -> bool:
    """Whether a refusal is about what was built, not only about what lay on the disk: written again, that may be
    whole."""
    from kbsync.evaluate.gate import FINITE, READ_BACK

    return not {verdict.metric for verdict in verdicts if not verdict.passed} <= {FINITE, READ_BACK}


def standing_refusal(bench: Workbench, live: Sequence[StoredRequest]) -> Run | None:
    """The run whose refusal says that this candidate need not be built again: the gate refused the same one there,
    and nothing has changed since.

    The same one: equal live set, prompts, base model and settings, also those of the evaluation and the gate, and
    the live model holds the same (what is retired is measured against it).
    """
    from kbsync.sync.publishing import judged_hash

    with bench.store.read() as tx:
        run, held = runs.last_refusal(tx), checkpoints.live_hashes(tx)
    if run is None:
        return None
    if (run.base_hash, run.settings_hash) != (bench.base.hash, bench.settings_hash):
        return None
    whole = bench.settings.model_dump(mode="json")
    if any(run.settings.get(section) != whole[section] for section in ("evaluate", "gate")):
        return None
    return run if run.refused_hash == judged_hash(live, held) else None


def _is_build_of(bench: Workbench, checkpoint: Checkpoint, live: Sequence[StoredRequest]) -> bool:
    """Whether a checkpoint was built from this live set, base model and settings."""
    ground = checkpoint.base_hash, checkpoint.settings_hash
    if ground != (bench.base.hash, bench.settings_hash):
        return False
    return _held_hashes(bench, checkpoint) == {stored.request.content_hash for stored in live}


def _held_hashes(bench: Workbench, checkpoint: Checkpoint | None) -> set[str]:
    """Content hashes of what a checkpoint holds; the base model (None) holds nothing."""
    with bench.store.read() as tx:
        return set(checkpoints.held_set(tx, checkpoint.id if checkpoint else None).values())
