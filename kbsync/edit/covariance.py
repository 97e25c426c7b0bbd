"""C, the uncentered second moment of keys over ordinary text: what the solve must leave alone.

Computed once per base model, layers and text; kept on disk under a hash of exactly these, and resumable: a killed
computation goes on from its last saved part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.edit.keys import KeyTap
from kbsync.errors import EditError
from kbsync.facts import digest
from kbsync.lm.batch import align
from kbsync.lm.rows import Encoder
from kbsync.lm.text import english, user_text

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import CovarianceSettings

_BATCH = 8  # sequences read together
_SAVE_EVERY = 8  # batches between saves of the partial sums


@dataclass(frozen=True, slots=True)
class Covariance:
    """C per critical layer, (d_in, d_in) float64, with the tokens behind it and the hash it is kept under."""

    matrices: Mapping[int, Tensor]
    tokens: int
    hash: str


def token_chunks(encoder: Encoder, settings: CovarianceSettings, facts: Sequence[str] = ()) -> list[list[int]]:
    """The text as sequences of `chunk_tokens` ids after BOS, `tokens` ids in all.

    `facts` are sentences such as "The capital of Japan is Tokyo."; they make up `facts_share` of the tokens, as
    far as there are enough of them. Raises EditError when there is less text than asked for.
    """
    share = int(settings.tokens * settings.facts_share)
    said = _cut(encoder, facts, share, settings.chunk_tokens)
    wanted = settings.tokens - sum(map(len, said))
    paragraphs: Iterable[str] = user_text(settings.text) if settings.text else english()
    read = _cut(encoder, paragraphs, wanted, settings.chunk_tokens)
    found = sum(map(len, said)) + sum(map(len, read))
    if found < settings.tokens:
        raise EditError(
            f"covariance.tokens asks for {settings.tokens} tokens of text, but there are only {found}; "
            "lower it or name more files in covariance.text"
        )
    head = [encoder.bos_id] if encoder.bos_id is not None else []
    return [head + chunk for chunk in (*read, *said)]


def _cut(encoder: Encoder, texts: Iterable[str], tokens: int, size: int) -> list[list[int]]:
    """The first `tokens` ids of `texts`, joined, in chunks of `size` (the last one may be shorter)."""
    ids: list[int] = []
    for text in texts:
        if len(ids) >= tokens:
            break
        ids += encoder.text_ids(text if not ids else f" {text}")
    ids = ids[:tokens]
    return [ids[at : at + size] for at in range(0, len(ids), size)]


def covariance_hash(
    base_hash: str, layers: Sequence[int], chunks: Sequence[Sequence[int]], chunk_tokens: int
) -> str:
    """What C depends on: the base model, the layers, and the exact tokens."""
    return digest({"base": base_hash, "layers": list(layers), "tokens": digest(chunks), "chunk": chunk_tokens})


class CovarianceStore:
    """Covariances on disk, one folder for all; files appear whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "covariance"

    def path(self, key: str) -> Path:
        """Where the covariance of a hash lies once it is complete."""
        return self.folder / f"{key[:32]}.safetensors"

    def read(self, key: str) -> Covariance | None:
        """A complete covariance, or None. Raises EditError when the file is there but damaged."""
        path = self.path(key)
        if not path.exists():
            return None
        try:
            tensors = load_file(path)
            tokens = int(tensors.pop("tokens"))
            return Covariance({int(name): t.double() for name, t in tensors.items()}, tokens, key)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise EditError(f"{path} is damaged ({error}); delete it and run `kbsync covariance`") from None

    def write(self, path: Path, sums: Mapping[int, Tensor], tokens: int) -> None:
        """Save tensors under `path` in one rename."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        tensors = {str(layer): t.contiguous() for layer, t in sums.items()}
        tensors["tokens"] = torch.tensor(tokens)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, temporary)
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            raise EditError(f"the covariance can't be written to {path}: {error}") from None
        finally:
            with suppress(OSError):
                temporary.unlink()


def compute_covariance(
    adapter: Adapter,
    encoder: Encoder,
    base_hash: str,
    layers: Sequence[int],
    settings: CovarianceSettings,
    folder: Path,
    on_tokens: Callable[[int, int], None] | None = None,
    facts: Sequence[str] = (),
) -> Covariance:
    """C of the critical layers, from disk when it is there, else computed (and resumed) by one pass over the text.

    Only the layers up to the last critical one are run. `on_tokens(done, all)` is told the progress. Raises
    EditError when there is too little text.
    """
    chunks = token_chunks(encoder, settings, facts)
    key = covariance_hash(base_hash, layers, chunks, settings.chunk_tokens)
    store = CovarianceStore(folder)
    found = store.read(key)
    if found is not None:
        return found
    partial = store.path(key).with_suffix(".part")
    sums, done = _resume(partial, adapter, layers)
    total = sum(len(c) for c in chunks)
    batches = list(_batches(chunks))
    counted = sum(len(c) for batch in batches[:done] for c in batch)
    for i, batch in enumerate(batches[done:], start=done + 1):
        for layer, moment in _second_moments(adapter, layers, batch).items():
            sums[layer] += moment
        counted += sum(len(c) for c in batch)
        if i % _SAVE_EVERY == 0:
            store.write(partial, sums, i)
        if on_tokens is not None:
            on_tokens(counted, total)
    matrices = {layer: s / counted for layer, s in sums.items()}
    store.write(store.path(key), matrices, counted)
    partial.unlink(missing_ok=True)
    return Covariance(matrices, counted, key)


def _resume(partial: Path, adapter: Adapter, layers: Sequence[int]) -> tuple[dict[int, Tensor], int]:
    """The sums and the number of batches behind them; zeros when nothing usable was saved."""
    try:
        tensors = load_file(partial)
        done = int(tensors.pop("tokens"))
        return {int(name): t.double() for name, t in tensors.items()}, done
    except (SafetensorError, OSError, ValueError, KeyError):
        d = adapter.d_in
        return {layer: torch.zeros(d, d, dtype=torch.float64) for layer in layers}, 0


def _batches(chunks: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    for at in range(0, len(chunks), _BATCH):
        yield list(chunks[at : at + _BATCH])


@torch.inference_mode()
def _second_moments(adapter: Adapter, layers: Sequence[int], chunks: Sequence[list[int]]) -> dict[int, Tensor]:
    """Σ k kᵀ over the tokens of a batch, per layer, on the CPU in float64."""
    device = adapter.device
    batch = align(chunks, [0] * len(chunks), device)
    with KeyTap(adapter, layers) as tap:
        adapter.run(batch, (0, batch.ids.shape[1]), (0, max(layers) + 1))
        moments = {}
        for layer in layers:
            keys = tap.keys[layer][batch.real.flatten()].float()  # (tokens, d_in)
            moments[layer] = (keys.T @ keys).double().cpu()
    return moments
