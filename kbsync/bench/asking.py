"""What base model and candidate say of a benchmark's edits, at the same prompts and in other surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from kbsync.bench.writing import Writing
from kbsync.errors import ConfigError
from kbsync.facts import EditRequest, Outcome, Phase, PromptKind
from kbsync.sync.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Kept:
    """Edits to measure with; how many the base model knows already, and why others can't be asked."""

    requests: tuple[EditRequest, ...]
    known: int
    unaskable: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """What one model said. `elsewhere`: by surroundings and content hash, whether it says the new object.

    `written`: by metric and content hash, what its texts about some of the subjects are worth.
    """

    outcomes: tuple[Outcome, ...]
    elsewhere: Mapping[str, Mapping[str, bool]]
    written: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def among(self, requests: Sequence[EditRequest]) -> list[EditRequest]:
        """Those of these that it was asked about."""
        known = {outcome.content_hash for outcome in self.outcomes}
        return [request for request in requests if request.content_hash in known]

    def of(self, requests: Sequence[EditRequest]) -> Asked:
        """What it said of these alone."""
        wanted = {request.content_hash for request in requests}
        return Asked(
            tuple(o for o in self.outcomes if o.content_hash in wanted),
            {name: {h: said[h] for h in said if h in wanted} for name, said in self.elsewhere.items()},
            {name: {h: own[h] for h in own if h in wanted} for name, own in self.written.items()},
        )


def sort_out(bench: Workbench, chosen: Sequence[EditRequest]) -> Kept:
    """Leave out what the base model says already, as a sync does, and what its tokenizer can't be asked.

    Raises ConfigError when nothing is left.
    """
    from kbsync.evaluate.probes import known_already, unaskable

    base = bench.base
    bench.editor.restore()
    reasons = [unaskable(base.encoder, request) for request in chosen]
    askable = [request for request, reason in zip(chosen, reasons, strict=True) if reason is None]
    known = known_already(base.model, base.encoder, askable)
    kept = tuple(request for request, is_known in zip(askable, known, strict=True) if not is_known)
    if not kept:
        raise ConfigError(
            f"none of {len(chosen)} edits is left to measure with: the base model knows them; ask for more"
        )
    faults = [reason for reason in reasons if reason is not None]
    return Kept(kept, sum(known), {reason: faults.count(reason) for reason in sorted(set(faults))})


def ask_base(bench: Workbench, requests: Sequence[EditRequest], writing: Writing | None = None) -> Asked:
    """What the base model says; where an edit has no old object, its own answer is what the new one must beat.

    With `writing`, it writes too.
    """
    from kbsync.evaluate.probes import contrast_of, greedy_answers

    bench.editor.restore()
    base = bench.base
    without = [request for request in requests if request.target_old is None]
    said = greedy_answers(base.model, base.encoder, without, bench.settings.evaluate.said_tokens)
    answers = {request.content_hash: text for request, text in zip(without, said, strict=True)}
    contrasts = {r.content_hash: contrast_of(r, answers.get(r.content_hash, "")) for r in requests}
    return _ask(bench, requests, contrasts, Phase.BEFORE, writing)


def ask_candidate(
    bench: Workbench, requests: Sequence[EditRequest], base: Asked, writing: Writing | None = None
) -> Asked:
    """What the model as it is now says of what `base` was asked, against the same objects."""
    contrasts = {o.content_hash: o.target_old for o in base.outcomes if o.kind is PromptKind.REWRITE}
    return _ask(bench, requests, contrasts, Phase.AFTER, writing)


def _ask(
    bench: Workbench,
    requests: Sequence[EditRequest],
    contrasts: Mapping[str, str | None],
    phase: Phase,
    writing: Writing | None,
) -> Asked:
    from kbsync.evaluate.answers import ANSWER_TOKENS
    from kbsync.evaluate.surroundings import said_elsewhere

    outcomes = ask(bench, requests, phase, contrasts, {PromptKind.NEIGHBORHOOD: ANSWER_TOKENS})
    with bench.progress.stage("ask elsewhere"):
        elsewhere = said_elsewhere(bench.base.model, bench.base.encoder, requests)
    return Asked(tuple(outcomes), elsewhere, writing.measure(bench) if writing is not None else {})


def ask(
    bench: Workbench,
    requests: Sequence[EditRequest],
    phase: Phase,
    contrasts: Mapping[str, str | None] | None = None,
    say: Mapping[PromptKind, int] = MappingProxyType({}),
) -> list[Outcome]:
    """Outcomes of the model as it is now: against the requests' old objects, where there are no `contrasts`.

    `say`: as `kbsync.evaluate.probes.ask` takes it.
    """
    from kbsync.evaluate import probes

    if contrasts is None:
        contrasts = {request.content_hash: request.target_old for request in requests}
    with bench.progress.stage("ask the base model" if phase is Phase.BEFORE else "ask the candidate"):
        return probes.ask(bench.base.model, bench.base.encoder, requests, contrasts, phase, say=say)
