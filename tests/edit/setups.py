"""An editor over a tiny model, with a covariance that is not degenerate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.edit.contexts import Contexts
from kbsync.edit.covariance import Covariance
from kbsync.edit.memit import Editor, Rebuilt
from kbsync.edit.others import Others
from kbsync.edit.target import Target, TargetSolver
from kbsync.facts import EditRequest
from kbsync.lm.rows import Encoder
from kbsync.settings import EditSettings
from tests.tiny import tiny_model, tiny_tokenizer

LAYERS = (1, 2, 3)
ALL = Contexts(("Because I said so. ", "Therefore. "), solved=("question", "bare", "chat"), keyed=("sentence",))
ONE = Contexts()
OTHERS = Others(["The capital of Peru is Lima.", "The capital of Great Britain is Rome."])
WATCHED = Contexts(ALL.prefixes, ALL.solved, ALL.keyed, others=OTHERS)
ENCODER = Encoder(tiny_tokenizer(chat=True))
NO_BOS = Encoder(tiny_tokenizer(chat=True), bos="never")
EASY = {"contexts": ONE, "clamp": 4.0, "steps": 40, "stop_loss": 0.3}  # what a tiny model learns to say


def edit_settings(**more: Any) -> EditSettings:
    """The paper's editor, in float32: nothing but λC beside the facts, its KL term, and no repair."""
    paper = {
        "bystander_weight": 0.0,
        "kl_weight": 0.01,
        "repair_rounds": 0,
        "solve_dtype": "float32",
        "covariance_weight": 0.01,
    }
    known = {name: value for name, value in paper.items() if name in EditSettings.model_fields}
    return EditSettings(**{**known, **more})


def covariance(d_in: int, layers: Sequence[int] = LAYERS, seed: int = 5) -> Covariance:
    """Second moments of random keys, of full rank."""
    generator = torch.Generator().manual_seed(seed)
    matrices = {}
    for layer in layers:
        X = torch.randn(4 * d_in, d_in, generator=generator, dtype=torch.float64)
        matrices[layer] = X.T @ X / len(X)
    return Covariance(matrices, 4 * d_in, "of random keys")


def editor(
    family: str = "llama",
    contexts: Contexts = ALL,
    encoder: Encoder = ENCODER,
    layers: tuple[int, ...] = LAYERS,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Editor:
    """An editor of a fresh tiny model of six layers."""
    adapter = Adapter(tiny_model(family, layers=6).to(dtype))
    return Editor(adapter, encoder, contexts, layers, covariance(adapter.d_in, layers), edit_settings(**settings))


def solver(
    family: str = "llama", contexts: Contexts = ALL, encoder: Encoder = ENCODER, layer: int = 3, **settings: Any
) -> TargetSolver:
    """A solver of z on a fresh tiny model of six layers."""
    adapter = Adapter(tiny_model(family, layers=6))
    return TargetSolver(adapter, encoder, contexts, layer, edit_settings(**settings))


def z_of(targets: Sequence[Target]) -> dict[str, Tensor]:
    """z by content hash, as a rebuild takes them."""
    return {target.content_hash: target.z for target in targets}


def some_z(made: Editor, requests: Sequence[EditRequest], seed: int = 7) -> dict[str, Tensor]:
    """Targets near the hidden states that the base model has, without solving for them."""
    generator = torch.Generator().manual_seed(seed)
    targets = {}
    for request in requests:
        row = made.contexts.rows(made.encoder, request)[0]
        hidden = hidden_at(made, row.ids, made.layers[-1], row.subject_last)
        targets[request.content_hash] = hidden + 0.5 * torch.randn(hidden.shape, generator=generator)
    return targets


@torch.no_grad()
def hidden_at(made: Editor, ids: Sequence[int], layer: int, at: int | slice) -> Tensor:
    """The output of a layer at a token (or several), from the whole model's own forward pass."""
    out = made.adapter.model(torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
    hidden: Tensor = out.hidden_states[layer + 1][0, at]
    return hidden


def same(one: Rebuilt, other: Rebuilt) -> bool:
    """The same weights, bit for bit."""
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors
    )


def halfway(made: Editor, live: list[EditRequest]) -> dict[str, Tensor]:
    """z that go only part of the way, so that some requests are missed after the solve."""
    solved = made.solver.solve(live)
    targets = {}
    for i, (one, target) in enumerate(zip(live, solved, strict=True)):
        row = ONE.rows(made.encoder, one)[0]
        hidden = hidden_at(made, row.ids, made.layers[-1], row.subject_last)
        targets[one.content_hash] = hidden + (0.3 if i % 2 else 1.0) * (target.z - hidden)
    return targets
