"""A store with a past: two models published, one candidate refused and bisected, one rollback, some facts held."""

from __future__ import annotations

import math
import struct

from sqlalchemy.orm import Session

from kbsync.facts import (
    Change,
    ChangeKind,
    Divergence,
    DivergenceKind,
    EditRequest,
    EndpointState,
    Held,
    Outcome,
    Phase,
    PromptKind,
    Pulled,
)
from kbsync.store import (
    changes,
    checkpoints,
    endpoints,
    entities,
    holds,
    known,
    mirror,
    outcomes,
    quarantines,
    reconciles,
    requests,
    runs,
    targets,
    trust,
)
from kbsync.store.engine import Store
from kbsync.store.outcomes import Metric, Verdict
from kbsync.store.quarantines import Evidence, Trial
from kbsync.store.tables import KeptOut, RequestStatus, RunStatus, Way
from kbsync.store.targets import Target
from kbsync.store.trust import StoredVerdict
from tests.store.examples import edit_request, fact, item, later, named, new_checkpoint, page, statement

UNITED_STATES = edit_request(fact("Q30", "Q6279"), "United States", "Joe Biden", "Donald Trump")
FRANCE = edit_request(fact("Q142", "Q3"), "France", "Gabriel Attal", "Élisabeth Borne")
STAGES = ("pull", "plan", "solve", "rebuild", "evaluate", "gate", "publish")


def tell(store: Store) -> None:
    """Run 1 at noon publishes model-1 (one edit), run 2 an hour later model-2 (two), run 3 is refused for its
    French edit.

    At 15:00 model-2 is rolled back.
    """
    with store.begin() as tx:
        first = _begin(tx, 0)
        known.complete_first_pull(tx, first, "P6", later(0))
        endpoints.save_endpoint(tx, EndpointState("query.example.org", requests=12), later(0))
        old = [statement(1, "Q22686"), statement(1, "Q2", "Q142"), statement(1, "Q9", "Q5")]
        mirror.apply(tx, first, later(0), page(old), True)
        _labels(tx)
        mirror.apply(tx, first, later(1), _replacement("Q30", "Q22686", "Q6279"), False)
        _publish(tx, first, 0, "model-1", [UNITED_STATES])
    with store.begin() as tx:
        second = _begin(tx, 60)
        mirror.apply(tx, second, later(61), _replacement("Q142", "Q2", "Q3"), False)
        different = Divergence(DivergenceKind.DELETED_STATEMENT, "Q142", "Q142-1", "Q2")
        reconciles.save_divergences(tx, second, later(61), "P6", [different])
        reconciles.finish(tx, second, later(61), "P6", reconciles.COMPLETE, None, 3, 4)
        holds.save_held(tx, second, later(61), [Held(fact("Q5", "Q9"), "no label")])
        waits = StoredVerdict(fact("Q5", "Q7"), Way.ENTER, False, "no reference", None, later(60), None)
        trust.save_verdicts(tx, second, later(61), [waits])
        _publish(tx, second, 60, "model-2", [UNITED_STATES, FRANCE])
    with store.begin() as tx:
        third = _begin(tx, 120)
        bad = checkpoints.add_candidate(tx, third, later(121), new_checkpoint("model-3"), [])
        reason = "perplexity_ratio 1.300 is not ≤ 1.05"
        outcomes.save_verdicts(tx, third, [Verdict("perplexity_ratio", 1.3, 1.05, "≤", False, reason)])
        checkpoints.reject(tx, bad)
        _bisect(tx, third)
        runs.finish_run(tx, third, RunStatus.REJECTED, later(122), reason)
        checkpoints.rollback(tx, later(180))


def _bisect(tx: Session, run_id: int) -> None:
    """Without the French edit the candidate passes, with it not."""
    (france,) = requests.requests_of_facts(tx, [FRANCE.fact])[FRANCE.fact]
    for number, (ids, ratio) in enumerate((((france.id,), 1.3), ((), 1.04))):
        verdict = Verdict("perplexity_ratio", ratio, 1.05, "≤", ratio <= 1.05)
        trial = Trial(number, 1 + len(ids), ids, verdict.passed, 3.0, (verdict,))
        quarantines.save_trial(tx, run_id, later(121), trial)
    evidence = Evidence("perplexity_ratio", 1.3, 1.04, "≤", 1.05)
    found = [(france, "perplexity_ratio 1.300 is not ≤ 1.05; without it, it is 1.040", evidence)]
    quarantines.keep_out(tx, run_id, later(121), "base", KeptOut.QUARANTINED, found)


def _begin(tx: Session, minutes: float) -> int:
    return runs.start_run(tx, "schedule", later(minutes), {"model": {"base": "embedded"}}, "base", "settings")


def _labels(tx: Session) -> None:
    names = {
        "Q30": "United States",
        "Q142": "France",
        "P6": "head of government",
        "Q22686": "Donald Trump",
        "Q6279": "Joe Biden",
        "Q2": "Élisabeth Borne",
        "Q3": "Gabriel Attal",
    }
    entities.save(tx, later(0), [named(one, label) for one, label in names.items()])


def _replacement(subject: str, old: str, new: str) -> Pulled:
    change = Change(ChangeKind.REPLACED, subject, "P6", item(old), item(new), f"{subject}-2", "ended")
    both = [statement(1, old, subject, best=False, end=later(0)), statement(2, new, subject)]
    return page(both, changes=[change])


def _publish(tx: Session, run_id: int, minutes: float, name: str, live_set: list[EditRequest]) -> None:
    """The stages after the pull, a second each."""
    for second, stage in enumerate(STAGES):
        runs.stage_started(tx, run_id, stage, later(minutes + 2 + second / 60))
        runs.stage_finished(tx, run_id, stage, later(minutes + 2 + (second + 0.5) / 60), {"facts": 1})
    ids = requests.save_requests(tx, run_id, later(minutes + 2), live_set)
    solved = [_target(one.content_hash) for one in live_set]
    targets.save_solved_batch(tx, run_id, later(minutes + 3), solved, ids)
    by_hash = dict(zip((one.content_hash for one in live_set), ids, strict=True))
    outcomes.save_outcomes(tx, run_id, [o for one in live_set for o in _outcomes(one)], by_hash)
    outcomes.save_metrics(tx, run_id, _metrics(len(ids)))
    outcomes.save_verdicts(tx, run_id, [Verdict("efficacy_success", 1.0, 0.95, "≥", True)])
    checkpoint = checkpoints.add_candidate(tx, run_id, later(minutes + 4), new_checkpoint(name), ids)
    checkpoints.publish(tx, checkpoint, run_id, later(minutes + 4))
    requests.set_status(tx, run_id, later(minutes + 4), ids, RequestStatus.EDITED)
    changes.settle(tx, {one.fact: "edited" for one in live_set})
    runs.finish_run(tx, run_id, RunStatus.PUBLISHED, later(minutes + 5))


def _target(content_hash: str) -> Target:
    vector = struct.pack("<2f", 1.0, 2.0)
    return Target(f"z-{content_hash}", content_hash, "base", "settings", 8, 2, vector, 0.01, 20, 1.5, 1, 2.0)


def _outcomes(one: EditRequest) -> list[Outcome]:
    """Before: 1 % for the new object; after: 50 %. The French edit is favoured but not said."""
    said = one is UNITED_STATES
    common = (one.target_new, one.target_old)
    return [
        Outcome(
            one.content_hash, Phase.BEFORE, PromptKind.REWRITE, 0, one.rewrite.text, *common,
            math.log(0.01), math.log(0.2), False, False, "nobody",
        ),
        Outcome(
            one.content_hash, Phase.AFTER, PromptKind.REWRITE, 0, one.rewrite.text, *common,
            math.log(0.5), math.log(0.1), True, said, "somebody",
        ),
        *(
            Outcome(
                one.content_hash, Phase.AFTER, PromptKind.PARAPHRASE, index, "p", *common,
                -1.0, -2.0, index == 0, False,
            )
            for index in range(2)
        ),
    ]  # fmt: skip


def _metrics(count: int) -> list[Metric]:
    return [
        Metric("efficacy_success", "after", 1.0, count),
        Metric("efficacy_accuracy", "after", 0.9, count),
        Metric("neighborhood_success", "before", 0.75, 8),
        Metric("neighborhood_success", "after", 0.7, 8),
        Metric("perplexity", "before", 20.0, 4000),
        Metric("perplexity", "after", 21.0, 4000),
        Metric("capacity", "after", 120.0, count),
    ]
