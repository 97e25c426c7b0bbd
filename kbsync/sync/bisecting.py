"""A refused candidate, bisected: which new requests the gate refuses it for, so that the others can go live.

Each trial is a rebuild from the base weights and an evaluation; every z is in the store by then. What is found is
committed in one transaction: the run goes on with a new plan, as the next run would after a kill.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from kbsync.errors import NotFinite
from kbsync.evaluate import gate
from kbsync.evaluate.bisect import Culprit, Found, bisect
from kbsync.evaluate.blame import Judged, missed, suspects, to_blame
from kbsync.evaluate.gate import Verdict
from kbsync.evaluate.room import Room
from kbsync.facts import Outcome
from kbsync.store import checkpoints, outcomes, quarantines
from kbsync.store.outcomes import Verdict as StoredVerdict
from kbsync.store.quarantines import Evidence, Trial
from kbsync.store.requests import StoredRequest
from kbsync.store.tables import KeptOut
from kbsync.sync import building, evaluating
from kbsync.sync.clock import now
from kbsync.sync.progress import Silent, Task
from kbsync.sync.workbench import Workbench

CROWDED = "it does not fit, but does no more damage than those that do"


@dataclass(frozen=True, slots=True)
class Bisected:
    """What a run's bisections have come to: how many trials and rows of them, and the ids of the requests that were
    quarantined and left out.

    `goes_on`: the last one has changed what is wanted, so the run plans anew. `words` say why it has not.
    """

    trials: int = 0
    rows: int = 0
    quarantined: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()
    goes_on: bool = False
    words: str | None = None

    @property
    def counts(self) -> dict[str, float]:
        """For the gate's row; empty where nothing was bisected."""
        counts = {"trials": self.trials, "quarantined": len(self.quarantined), "left out": len(self.left_out)}
        return {name: number for name, number in counts.items() if number}

    @property
    def kept_out(self) -> str | None:
        """What a run that ends well says of what it has kept out; None where that is nothing."""
        parts = [f"{len(self.quarantined)} quarantined"] if self.quarantined else []
        parts += [f"{len(self.left_out)} left out until the next run"] if self.left_out else []
        return f"facts kept out by the gate: {', '.join(parts)}; `kbsync held` says why" if parts else None


def bisect_refused(
    bench: Workbench,
    run_id: int,
    live: Sequence[StoredRequest],
    verdicts: Sequence[Verdict],
    room: Room | None,
    before: Bisected,
) -> Bisected:
    """Bisect a refused candidate; `before` is what the run's bisections have come to so far, and `room` is None for
    one that could not be measured.

    Culprits are quarantined, and so are a few edits that miss by themselves where nobody else is to blame; what was
    not tried is left out of this run, and `goes_on` is set. Where the new facts are not to blame, or the model is
    full, nothing is kept out: the refusal stands.
    """
    before = replace(before, goes_on=False, words=None)
    with bench.store.read() as tx:
        held = checkpoints.live_hashes(tx)
    base = [one for one in live if one.request.content_hash in held]
    new = {one.request.content_hash: one for one in live if one.request.content_hash not in held}
    most = bench.settings.gate.bisect_rebuilds - before.trials
    if most <= 0 or not new:
        return before
    with bench.store.read() as tx:
        said = outcomes.outcomes_of(tx, run_id)
    groups = [[new[one].id for one in group] for group in suspects(said, sorted(new))]
    by_id = {one.id: one for one in new.values()}
    with bench.progress.stage("bisect", total=most, unit="trials") as task:
        trials = _Trials(bench, run_id, base, by_id, before.rows, task)
        refused = Judged(len(live), tuple(verdicts))
        trials.note(by_id, refused, 0.0)
        found = bisect(groups, refused, trials.judge, _passes, _is_to_blame, most)
    before = replace(before, trials=before.trials + found.tests, rows=trials.rows)
    return _carry_out(bench, run_id, found, _missed(found, refused, said, by_id), by_id, room, before)


def _passes(judged: Judged) -> bool:
    return gate.passed(judged.verdicts)


def _is_to_blame(with_it: Judged, without: Judged) -> bool:
    return to_blame(with_it, without) is not None


def _missed(
    found: Found[int, Judged], refused: Judged, said: Sequence[Outcome], by_id: Mapping[int, StoredRequest]
) -> dict[int, tuple[str, Evidence]]:
    """Of the requests for which there is no room, those that miss by themselves, with what they say: as few of the
    worst as let the others pass, since the others were tried in the order of how well they look."""
    if found.crowd is None or found.passed is None:
        return {}
    surplus = {by_id[one].request.content_hash: one for one in (*found.crowded, *found.untested)}
    named = missed(found.crowd, said, surplus, len(by_id))
    whole = {verdict.metric: verdict for verdict in refused.verdicts if not verdict.passed}
    told = {}
    for one, (rule, words) in named.items():
        broken = whole.get(rule.metric, rule)
        old, without = _without(
            found.passed, rule, "it" if len(named) == 1 else f"the {len(named)} worst that miss"
        )
        evidence = Evidence(rule.metric, broken.value, old, rule.comparison, rule.threshold)
        told[surplus[one]] = f"{broken.reason}; {words}; {without}", evidence
    return told


def _carry_out(
    bench: Workbench,
    run_id: int,
    found: Found[int, Judged],
    missing: Mapping[int, tuple[str, Evidence]],
    by_id: Mapping[int, StoredRequest],
    room: Room | None,
    before: Bisected,
) -> Bisected:
    """Write down who is kept out, in one transaction; or say why nobody is."""
    full = bool(found.crowded) and not missing and room is not None and room.keeps is not None
    if not found.culprits and not missing and (full or not found.kept):
        return replace(before, words=_why_not(found, before))
    left = {} if full else dict.fromkeys(found.crowded, CROWDED)
    if not full:
        left |= dict.fromkeys(found.untested, f"not tried yet: the bisection of run {run_id} ended before it")
    left = {one: reason for one, reason in left.items() if one not in missing}
    quarantined = [(by_id[one.one], *_evidence(one)) for one in found.culprits]
    quarantined += [(by_id[one], *words) for one, words in missing.items()]
    with bench.store.begin() as tx:
        at, base_hash = now(), bench.base.hash
        quarantines.keep_out(tx, run_id, at, base_hash, KeptOut.QUARANTINED, quarantined)
        rest = [(by_id[one], reason, None) for one, reason in left.items()]
        quarantines.keep_out(tx, run_id, at, base_hash, KeptOut.LEFT_OUT, rest)
    return replace(
        before,
        quarantined=(*before.quarantined, *(stored.id for stored, _, _ in quarantined)),
        left_out=(*before.left_out, *left),
        goes_on=True,
    )


def _why_not(found: Found[int, Judged], before: Bisected) -> str:
    """Why nothing is kept out, for the refusal."""
    if found.base is not None and not _passes(found.base):
        return "what the live model holds does not pass without the new facts either"
    if found.crowded:
        return "no single new fact is to blame"
    return f"{before.trials} rebuilds were too few to find which new facts are to blame (gate.bisect_rebuilds)"


def _evidence(culprit: Culprit[int, Judged]) -> tuple[str, Evidence]:
    """Why a request is to blame: a sentence, and its numbers."""
    rule = to_blame(culprit.with_it, culprit.without)
    assert rule is not None, "a culprit is to blame"
    old, without = _without(culprit.without, rule, "it")
    evidence = Evidence(rule.metric, rule.value, old, rule.comparison, rule.threshold)
    return f"{rule.reason}; {without}", evidence


def _without(judged: Judged, rule: Verdict, whom: str) -> tuple[float | None, str]:
    """What the rule's value is without these, as a number and in words."""
    old = next((one.value for one in judged.verdicts if one.metric == rule.metric), None)
    return old, f"without {whom}, " + (f"it is {old:.3f}" if old is not None else "there is nothing to measure")


@dataclass
class _Trials:
    """Builds and judges what is live already with some of the new requests; each trial is a row at once."""

    bench: Workbench
    run_id: int
    base: Sequence[StoredRequest]
    new: Mapping[int, StoredRequest]
    rows: int
    task: Task

    def judge(self, ids: frozenset[int]) -> Judged:
        """How the gate judges the live facts with these new ones."""
        self.task.describe(f"{len(ids)} of {len(self.new)} new facts, with {len(self.base)} that are live")
        began = time.monotonic()
        live = [*self.base, *(self.new[one] for one in sorted(ids))]
        with Silent().stage("trial") as quiet:
            judged = Judged(len(live), self._verdicts(live, quiet))
        self.note(ids, judged, time.monotonic() - began)
        self.task.advance()
        return judged

    def _verdicts(self, live: Sequence[StoredRequest], quiet: Task) -> tuple[Verdict, ...]:
        layers, rules = len(self.bench.editor.layers), self.bench.settings.gate
        try:
            rebuilt = building.rebuild(self.bench, [one.request for one in live], quiet)
        except NotFinite as error:
            return tuple(gate.verdicts_on(None, gate.Soundness(layers, [str(error)]), rules))
        answers = evaluating.ask(self.bench, live, rebuilt, quiet)
        return tuple(gate.verdicts_on(answers.metrics, gate.Soundness(layers), rules))

    def note(self, ids: Collection[int], judged: Judged, seconds: float) -> None:
        """Keep a trial in the store."""
        rules = [StoredVerdict(v.metric, v.value, v.threshold, v.comparison, v.passed) for v in judged.verdicts]
        trial = Trial(self.rows, judged.facts, tuple(sorted(ids)), _passes(judged), seconds, tuple(rules))
        with self.bench.store.begin() as tx:
            quarantines.save_trial(tx, self.run_id, now(), trial)
        self.rows += 1
