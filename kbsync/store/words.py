"""An edit request's prompts as JSON and back, with the subject's place in each kept as positions."""

from __future__ import annotations

from typing import Any

from kbsync.facts import EditRequest, Fact, Neighbor, Prompt, Value
from kbsync.store.tables import RequestRow


def prompts_json(request: EditRequest) -> dict[str, Any]:
    """`{"rewrite": [text, start, end], …}` of all prompts of the request."""
    return {
        "rewrite": _triple(request.rewrite),
        "question": _triple(request.question),
        "generation": _triple(request.generation),
        "paraphrases": [_triple(prompt) for prompt in request.paraphrases],
        "neighborhood": [
            {
                "subject": neighbor.subject,
                "prompt": _triple(neighbor.prompt),
                "target": neighbor.target,
                "same_object": neighbor.same_object,
            }
            for neighbor in request.neighborhood
        ],
    }


def request_of(row: RequestRow) -> EditRequest:
    """The request exactly as it was saved."""
    prompts = row.prompts
    return EditRequest(
        fact=Fact(row.subject, row.relation, Value(row.value_kind, row.value)),
        subject_label=row.subject_label,
        relation_label=row.relation_label,
        target_new=row.target_new,
        target_old=row.target_old,
        rewrite=Prompt(*prompts["rewrite"]),
        question=Prompt(*prompts["question"]),
        generation=Prompt(*prompts["generation"]),
        paraphrases=tuple(Prompt(*triple) for triple in prompts["paraphrases"]),
        neighborhood=tuple(
            Neighbor(one["subject"], Prompt(*one["prompt"]), one["target"], one["same_object"])
            for one in prompts["neighborhood"]
        ),
    )


def _triple(prompt: Prompt) -> list[str | int]:
    return [prompt.text, prompt.start, prompt.end]
