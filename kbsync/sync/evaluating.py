"""The evaluate stage: base model and candidate → outcomes and metrics, as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kbsync.edit.load import load_of
from kbsync.edit.memit import Rebuilt
from kbsync.evaluate import drift, probes
from kbsync.evaluate.answers import ANSWER_TOKENS
from kbsync.evaluate.metrics import NAMES, Metric, summarise
from kbsync.facts import EditRequest, Outcome, Phase, PromptKind
from kbsync.store import checkpoints, outcomes
from kbsync.store.outcomes import Metric as StoredMetric
from kbsync.store.requests import StoredRequest
from kbsync.sync.progress import Task
from kbsync.sync.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Measured:
    """What the stage found."""

    metrics: list[Metric]
    counts: dict[str, float]


@dataclass(frozen=True, slots=True)
class Answers:
    """What base model and candidate said, summed up in metrics; `retired` are the facts that were retired."""

    outcomes: list[Outcome]
    metrics: list[Metric]
    retired: list[StoredRequest]


def evaluate(
    bench: Workbench, run_id: int, live: Sequence[StoredRequest], rebuilt: Rebuilt, task: Task
) -> Measured:
    """Ask base model and candidate, and store what they said as the run's outcomes and metrics.

    The loaded model holds the base weights afterwards.
    """
    found = ask(bench, live, rebuilt, task)
    ids = {stored.request.content_hash: stored.id for stored in (*live, *found.retired)}
    with bench.store.begin() as tx:
        outcomes.forget_outcomes(tx, run_id)  # those of a candidate that was bisected since
        outcomes.save_outcomes(tx, run_id, found.outcomes, ids)
        rows = [StoredMetric(m.name, m.phase, m.value, m.count) for m in found.metrics]
        outcomes.save_metrics(tx, run_id, rows)
    load = load_of(bench.editor, rebuilt)
    prompts = sum(one.phase is Phase.AFTER for one in found.outcomes)
    counts = {"facts": len(live), "prompts": prompts, "retired": len(found.retired)}
    return Measured(found.metrics, {**counts, "occupied": round(load.occupied, 6), "drift": round(load.drift, 6)})


def ask(bench: Workbench, live: Sequence[StoredRequest], rebuilt: Rebuilt, task: Task) -> Answers:
    """Ask the base model and the candidate every prompt of every live fact, and of every fact just retired.

    What the base model says does not change, so its outcomes are taken from the store where the same prompts
    were asked before. Nothing is stored. The loaded model holds the base weights afterwards.
    """
    retired = _retired(bench, live)
    before = _ask_base(bench, live, retired, task)
    bench.editor.load(rebuilt.tensors)
    try:
        after = _ask_candidate(bench, live, retired, before, task)
        perplexity = drift.text_perplexity(bench.base.model, bench.base.encoder, bench.settings.evaluate)
    finally:
        bench.editor.restore()
    both = [*before, *after]
    tokens = bench.settings.evaluate.drift_tokens
    metrics = [
        *summarise(both),
        Metric("perplexity", Phase.BEFORE, bench.base_perplexity(), tokens),
        Metric("perplexity", Phase.AFTER, perplexity, tokens),
    ]
    favoured = drift.favoured_share(after)
    return Answers(both, metrics + ([favoured] if favoured is not None else []), retired)


def _retired(bench: Workbench, live: Sequence[StoredRequest]) -> list[StoredRequest]:
    """Facts that the published model holds and the candidate must not."""
    published = bench.live_checkpoint()
    keep = {stored.request.content_hash for stored in live}
    with bench.store.read() as tx:
        held = checkpoints.held_requests(tx, published.id if published else None)
    return [stored for stored in held if stored.request.content_hash not in keep]


def _ask_base(
    bench: Workbench, live: Sequence[StoredRequest], retired: Sequence[StoredRequest], task: Task
) -> list[Outcome]:
    """The base model's outcomes: from the store where they are still right, else asked."""
    bench.editor.restore()
    base = bench.base
    ids = [stored.id for stored in live]
    with bench.store.read() as tx:
        known = outcomes.latest_outcomes(tx, ids, Phase.BEFORE, base.hash)
    reuse: dict[int, list[Outcome]] = {}
    for stored in live:
        old = known.get(stored.id, [])
        if old and _same_questions(stored.request, old):
            reuse[stored.id] = [o for o in old if o.kind is not PromptKind.RETIRED]
    ask = [stored.request for stored in live if stored.id not in reuse]
    task.total(probes.prompt_count(ask) + probes.prompt_count([s.request for s in live]))
    task.describe("base model")
    said = _said(bench, [request for request in ask if request.target_old is None])
    contrasts = {r.content_hash: probes.contrast_of(r, said.get(r.content_hash, "")) for r in ask}
    asked = _ask(bench, ask, contrasts, Phase.BEFORE, task)
    bench.base_perplexity()
    gone = [stored.request for stored in retired]
    levels = _with_said(bench, gone, drift.ask_retired(base.model, base.encoder, gone))
    return [o for old in reuse.values() for o in old] + asked + levels


def _same_questions(request: EditRequest, asked: Sequence[Outcome]) -> bool:
    """Whether stored outcomes are those of the request's prompts and objects as they are now, answers included."""
    contrast = next((o.target_old for o in asked if o.kind is PromptKind.REWRITE), None)
    if request.target_old not in (None, contrast):
        return False
    if any(o.said is None for o in asked if o.kind is PromptKind.NEIGHBORHOOD):
        return False  # of a time when neighbors' answers were not kept
    wanted = {
        (p.kind, p.index): (p.prompt.text, p.wins if p.kind is PromptKind.NEIGHBORHOOD else p.loses)
        for p in probes.probes_of(request, contrast)
    }
    return {(o.kind, o.index): (o.prompt, o.target_old) for o in asked if o.kind in NAMES} == wanted


def _ask_candidate(
    bench: Workbench,
    live: Sequence[StoredRequest],
    retired: Sequence[StoredRequest],
    before: Sequence[Outcome],
    task: Task,
) -> list[Outcome]:
    """The candidate's outcomes at the same prompts, against the same objects."""
    requests = [stored.request for stored in live]
    contrasts = {o.content_hash: o.target_old for o in before if o.kind is PromptKind.REWRITE}
    levels = {o.content_hash: o for o in before if o.kind is PromptKind.RETIRED}
    task.describe("candidate")
    asked = _ask(bench, requests, contrasts, Phase.AFTER, task)
    gone = [stored.request for stored in retired]
    return asked + _with_said(bench, gone, drift.ask_retired(bench.base.model, bench.base.encoder, gone, levels))


def _with_said(bench: Workbench, requests: Sequence[EditRequest], asked: Sequence[Outcome]) -> list[Outcome]:
    said = _said(bench, requests)
    return [replace(o, said=said[o.content_hash]) for o in asked]


def _said(bench: Workbench, requests: Sequence[EditRequest]) -> dict[str, str]:
    """What greedy decoding says after each rewrite prompt, by content hash."""
    tokens = bench.settings.evaluate.said_tokens
    texts = probes.greedy_answers(bench.base.model, bench.base.encoder, requests, tokens)
    return {request.content_hash: text for request, text in zip(requests, texts, strict=True)}


def _ask(
    bench: Workbench,
    requests: Sequence[EditRequest],
    contrasts: Mapping[str, str | None],
    phase: Phase,
    task: Task,
) -> list[Outcome]:
    """Outcomes of the model as it is now, with what it says at rewrite and neighborhood prompts."""
    base = bench.base
    say = {PromptKind.REWRITE: bench.settings.evaluate.said_tokens, PromptKind.NEIGHBORHOOD: ANSWER_TOKENS}
    return probes.ask(base.model, base.encoder, requests, contrasts, phase, task.advance, say)
