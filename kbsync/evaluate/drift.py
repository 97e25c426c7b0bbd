"""What the edits did to everything else: perplexity of a fixed text, and the objects of retired facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.evaluate.metrics import Metric
from kbsync.facts import EditRequest, Outcome, Phase, PromptKind
from kbsync.lm.rows import Encoder
from kbsync.lm.score import Score, perplexity, score_rows
from kbsync.lm.text import drift_text
from kbsync.settings import EvaluateSettings

# A retired object counts as favoured when its mean log-probability per token is above the base model's by more
# than this. An edit raises its object by 5.5 nats in the median (149 real edits on the embedded model); what other
# edits do to an object that nobody holds any more stayed below 1.2 (26 objects).
FAVOURED_NATS = 2.0


def text_perplexity(model: Any, encoder: Encoder, settings: EvaluateSettings) -> float:
    """Perplexity of the first `drift_tokens` tokens of the fixed text."""
    ids = encoder.text_ids(drift_text())[: settings.drift_tokens]
    return perplexity(model, ids, encoder.bos_id)


def ask_retired(
    model: Any, encoder: Encoder, requests: Sequence[EditRequest], base: Mapping[str, Outcome] | None = None
) -> list[Outcome]:
    """What `model` says of facts that were retired.

    `base` has the base model's outcomes by content hash; None when `model` is the base model itself. Success is
    that the object is not favoured over the base model's own level; accuracy that greedy decoding agrees with
    the base model on whether it says the object.
    """
    rows = [encoder.plain(request.rewrite, request.target_new) for request in requests]
    outcomes = []
    for request, score in zip(requests, score_rows(model, rows), strict=True):
        before = base[request.content_hash] if base is not None else None
        outcomes.append(
            Outcome(
                content_hash=request.content_hash,
                phase=Phase.BEFORE if base is None else Phase.AFTER,
                kind=PromptKind.RETIRED,
                index=0,
                prompt=request.rewrite.text,
                target_new=request.target_new,
                target_old=request.target_old,
                logp_new=score.logp,
                logp_old=before.logp_new if before else None,
                success=before is None or not _favoured(before, score),
                accuracy=score.greedy if before is None else score.greedy == before.accuracy,
            )
        )
    return outcomes


def _favoured(before: Outcome, score: Score) -> bool:
    return score.logp > before.logp_new + FAVOURED_NATS or (score.greedy and not before.accuracy)


def favoured_share(outcomes: Sequence[Outcome]) -> Metric | None:
    """The share of retired objects that the candidate still favours; None when nothing was retired."""
    after = [o for o in outcomes if o.kind is PromptKind.RETIRED and o.phase is Phase.AFTER]
    if not after:
        return None
    return Metric("retired_favoured", Phase.AFTER, sum(not o.success for o in after) / len(after), len(after))
