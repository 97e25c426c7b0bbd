"""C, the uncentered second moment of keys over ordinary text: what the solve must leave alone.

Computed once per base model, layers and text; kept on disk under a hash of exactly these, and resumable: a killed
computation goes on from its last saved part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kbsync.edit import kept
from kbsync.edit.adapters import Adapter
from kbsync.edit.mixture import Chunk, Mixture, Survey, TokenHash
from kbsync.edit.moments import Moments, together
from kbsync.errors import ConfigError, EditError
from kbsync.facts import digest
from kbsync.lm.rows import Encoder

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import CovarianceSettings

_SAVE_AFTER_S = 20.0  # between saves of the partial sums,
_SAVE_SHARE = 10.0  # and so many times as long as the last save took: a large model's sums take long to write
_TOKENS = "tokens."  # in front of a source's name: how many tokens it gave


@dataclass(frozen=True, slots=True)
class Covariance:
    """C per critical layer, (d_in, d_in) float64, with the tokens behind it and the hash it is kept under.

    `sources`: how many of the tokens each source gave, BOS included. `seconds`: what computing it took; None where
    it was on disk.
    """

    matrices: Mapping[int, Tensor]
    tokens: int
    hash: str
    sources: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = field(default=None, compare=False)


def covariance_hash(base_hash: str, layers: Sequence[int], tokens_hash: str, chunk_tokens: int) -> str:
    """What C depends on: the base model, the layers, and the exact tokens."""
    return digest({"base": base_hash, "layers": list(layers), "tokens": tokens_hash, "chunk": chunk_tokens})


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
        try:
            tensors = kept.read(path)
            if tensors is None:
                return None
            sources = {
                name.removeprefix(_TOKENS): int(tensors.pop(name))
                for name in sorted(tensors)
                if name.startswith(_TOKENS)
            }
            if not sources:
                raise ValueError("it does not say how many tokens it was made of")
            matrices = {int(name): t.double() for name, t in tensors.items()}
            return Covariance(matrices, sum(sources.values()), key, sources)
        except (ValueError, RuntimeError) as error:
            raise EditError(f"{path} is damaged ({error}); delete it and run `kbsync covariance`") from None

    def write(self, found: Covariance) -> None:
        """Keep a complete covariance."""
        tensors = {str(layer): matrix for layer, matrix in found.matrices.items()}
        counts = {f"{_TOKENS}{name}": torch.tensor(count) for name, count in found.sources.items()}
        kept.write(self.path(found.hash), {**tensors, **counts})


def compute_covariance(
    adapter: Adapter,
    encoder: Encoder,
    base_hash: str,
    layers: Sequence[int],
    settings: CovarianceSettings,
    folder: Path,
    on_tokens: Callable[[int, int], None] | None = None,
    facts: Sequence[str] = (),
    on_step: Callable[[str], None] | None = None,
) -> Covariance:
    """C of the critical layers, from disk when it is there, else computed (and resumed) by one pass over the text.

    The model must hold the base weights. `facts` are the store's facts in words. `on_tokens(done, all)` is told the
    progress, `on_step` what else takes long. Raises EditError when there is too little text, ConfigError when a
    source of it can't be read.
    """
    started = time.monotonic()
    store = CovarianceStore(folder)
    _check_length(adapter, encoder, settings)
    mixture = Mixture(adapter.model, encoder, base_hash, settings, store.folder, facts, on_step)
    survey = mixture.survey()
    key = covariance_hash(base_hash, layers, survey.hash, settings.chunk_tokens)
    found = store.read(key)
    if found is None:
        partial = _Partial(store.path(key).with_suffix(".part"), Moments(adapter, layers))
        matrices = _read_all(partial, mixture, survey, on_tokens or (lambda _done, _all: None))
        found = Covariance(matrices, survey.tokens, key, survey.sources, time.monotonic() - started)
        store.write(found)
        partial.path.unlink(missing_ok=True)
    return found


def _check_length(adapter: Adapter, encoder: Encoder, settings: CovarianceSettings) -> None:
    most = getattr(adapter.model.config, "max_position_embeddings", None)
    longest = settings.chunk_tokens + (encoder.bos_id is not None)
    if most is not None and longest > most:
        raise ConfigError(f"covariance.chunk_tokens: {longest} tokens with BOS, but the model reads {most} at most")


class _Partial:
    """The sums, how many chunks and tokens they are of, and the file that they are saved in now and then."""

    def __init__(self, path: Path, moments: Moments) -> None:
        self.path = path
        self.moments = moments
        self.chunks, self.tokens = self._resume()
        self._saved_at, self._took = time.monotonic(), 0.0

    def _resume(self) -> tuple[int, int]:
        """Take up what was saved, if it is usable."""
        tensors = kept.read_or_forget(self.path)
        sums = {layer: tensors.get(str(layer)) for layer in self.moments.layers}
        counts = tensors.get("counts")
        shape, whole = self.moments.sums[self.moments.layers[0]].shape, {}
        for layer, one in sums.items():
            if one is not None and one.shape == shape and one.dtype == torch.float64 and bool(one.isfinite().all()):
                whole[layer] = one
        if len(whole) < len(sums) or counts is None or counts.shape != (2,):
            return 0, 0
        self.moments.load(whole)
        return int(counts[0]), int(counts[1])

    def add(self, batch: Sequence[Chunk]) -> None:
        """Read a batch, and save when it is time."""
        self.moments.add([chunk.ids for chunk in batch])
        self.chunks += len(batch)
        self.tokens += sum(len(chunk.ids) for chunk in batch)
        began = time.monotonic()
        if began - self._saved_at >= max(_SAVE_AFTER_S, _SAVE_SHARE * self._took):
            tensors = {str(layer): own for layer, own in self.moments.sums.items()}
            kept.write(self.path, {**tensors, "counts": torch.tensor([self.chunks, self.tokens])})
            self._saved_at = time.monotonic()
            self._took = self._saved_at - began


def _read_all(
    partial: _Partial, mixture: Mixture, survey: Survey, on_tokens: Callable[[int, int], None]
) -> dict[int, Tensor]:
    """C per layer, from what `partial` has and all that comes after it.

    Raises EditError when this reading is not of what the survey saw: a file was changed in between.
    """
    seen = TokenHash()
    longest = mixture.settings.chunk_tokens + 1
    chunks = islice(_hashed(mixture.chunks(), seen), partial.chunks, None)
    for batch in _batches(chunks, together(partial.moments.adapter, longest)):
        partial.add(batch)
        on_tokens(partial.tokens, survey.tokens)
    if seen.value != survey.hash:
        partial.path.unlink(missing_ok=True)
        raise EditError("the text behind the covariance was changed while it was read; run it again")
    return partial.moments.whole(survey.tokens)


def _hashed(chunks: Iterable[Chunk], seen: TokenHash) -> Iterator[Chunk]:
    for chunk in chunks:
        seen.add(chunk.ids)
        yield chunk


def _batches(chunks: Iterator[Chunk], size: int) -> Iterator[list[Chunk]]:
    while batch := list(islice(chunks, size)):
        yield batch
