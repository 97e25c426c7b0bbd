"""The tokens behind C: facts, the model's own samples, a data set, and plain text for all that these leave.

Everything is read as a stream, from the start each time and each time the same, so memory does not grow with the
text. What can't be read again as it was (samples, a data set of the Hub) is kept beside C.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from kbsync.edit import kept
from kbsync.errors import EditError
from kbsync.facts import digest
from kbsync.lm.dataset import dataset_text
from kbsync.lm.place import main_device
from kbsync.lm.rows import Encoder
from kbsync.lm.samples import TOP, sample_texts
from kbsync.lm.text import english, user_text

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import CovarianceSettings

SOURCES = ("facts", "samples", "dataset", "text")
_TOGETHER = {"cpu": 16}  # samples that are extended together; more on other devices
_MANY_TOGETHER = 128


class Chunk(NamedTuple):
    """Ids that are read as one sequence, BOS in front where the model takes one."""

    source: str
    ids: list[int]


class TokenHash:
    """sha256 over chunks as they come by: where each begins and ends, and every id."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, ids: Sequence[int]) -> None:
        """One more chunk."""
        self._sum.update(struct.pack(f"<{len(ids) + 1}I", len(ids), *ids))

    @property
    def value(self) -> str:
        """The hash of all chunks so far, in hex."""
        return self._sum.hexdigest()


@dataclass(frozen=True, slots=True)
class Survey:
    """What a mixture came to: tokens per source, BOS included, and the hash of them all."""

    sources: dict[str, int]
    hash: str

    @property
    def tokens(self) -> int:
        """All tokens, BOS included."""
        return sum(self.sources.values())


class Mixture:
    """The sources of one base model's C.

    `model` holds the base weights; it is run only where samples are missing. `facts` are sentences such as "The
    capital of Japan is Tokyo.". `folder` keeps what can't be read again. `on_step` is told what takes long.
    """

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        base_hash: str,
        settings: CovarianceSettings,
        folder: Path,
        facts: Sequence[str] = (),
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.base_hash = base_hash
        self.settings = settings
        self.folder = folder
        self.facts = facts
        self._say = on_step or (lambda _: None)

    def survey(self) -> Survey:
        """Read everything once. Raises what `chunks` raises."""
        sources = dict.fromkeys(SOURCES, 0)
        seen = TokenHash()
        for chunk in self.chunks():
            sources[chunk.source] += len(chunk.ids)
            seen.add(chunk.ids)
        return Survey({name: count for name, count in sources.items() if count}, seen.value)

    def chunks(self) -> Iterator[Chunk]:
        """Sequences of `chunk_tokens` ids after BOS, `tokens` ids in all; each source's last one may be shorter. A
        fact is a sequence by itself, as the prompts are that ask for it.

        A source that has less than its share gives what it has, and there is more text instead. Raises EditError
        when there is less text than that, ConfigError for a source that can't be read.
        """
        head = [self.encoder.bos_id] if self.encoder.bos_id is not None else []
        left = self.settings.tokens
        for source in SOURCES:
            wanted = left if source == "text" else min(left, self._share(source))
            if wanted == 0:
                continue
            cut = _each if source == "facts" else _cut
            for ids in cut(self._read(source, wanted), wanted, self.settings.chunk_tokens):
                left -= len(ids)
                yield Chunk(source, head + ids)
        if left:
            raise EditError(
                f"covariance.tokens asks for {self.settings.tokens} tokens of text, but there are only "
                f"{self.settings.tokens - left}; lower it or name more files in covariance.text"
            )

    def _share(self, source: str) -> int:
        """Ids that a source is to give. A share in decimals may come out a hair below a whole number of them."""
        share: float = getattr(self.settings, f"{source}_share")
        return int(self.settings.tokens * share + 1e-6)

    def _read(self, source: str, wanted: int) -> Iterator[Sequence[int]]:
        """The ids of one source, in pieces."""
        if source == "facts":
            return (self.encoder.text_ids(text) for text in self.facts)
        if source == "samples":
            return self._samples(wanted)
        if source == "dataset":
            return self._dataset(wanted)
        return self._encode(user_text(self.settings.text) if self.settings.text else english())

    def _encode(self, texts: Iterable[str]) -> Iterator[Sequence[int]]:
        for number, text in enumerate(texts):
            yield self.encoder.text_ids(f" {text}" if number else text)

    def _samples(self, wanted: int) -> Iterator[Sequence[int]]:
        """What the base model says, kept as far as it has been sampled: more of it begins with the same."""
        size, seed = self.settings.chunk_tokens, self.settings.seed
        path = self._path("samples", {"length": size, "seed": seed, "top": TOP, "bos": self.encoder.bos_id})
        rows = -(-wanted // size)
        said = _rows(kept.read_or_forget(path), size)
        at_once = _TOGETHER.get(main_device(self.model).type, _MANY_TOGETHER)
        while len(said) < rows:
            self._say(f"sampling: {len(said)} of {rows} texts")
            more = sample_texts(self.model, self.encoder, range(len(said), len(said) + at_once), size, seed)
            said = torch.cat([said, more])
            kept.write(path, {"ids": said})
        yield from (row.tolist() for row in said)

    def _dataset(self, wanted: int) -> Iterator[Sequence[int]]:
        """A folder is read each time, as the user's files are; a data set of the Hub once, as it may change."""
        settings = self.settings
        text = dataset_text(settings)
        if Path(settings.dataset).is_absolute():
            return self._encode(text)
        names = ("dataset", "dataset_config", "dataset_split", "dataset_column", "dataset_revision")
        chosen = {name: getattr(settings, name) for name in names}
        path = self._path("dataset", {**chosen, "wanted": wanted})
        found = kept.read_or_forget(path).get("ids")
        if found is None:
            self._say(f"reading {settings.dataset}")
            found = _first(self._encode(text), wanted)
            kept.write(path, {"ids": found})
        ids = found
        return (ids[at : at + 4096].tolist() for at in range(0, len(ids), 4096))

    def _path(self, name: str, what: dict[str, Any]) -> Path:
        key = digest({"base": self.base_hash, **what})
        return self.folder / f"{name}-{key[:32]}.safetensors"


def _rows(tensors: dict[str, Tensor], size: int) -> Tensor:
    """The kept samples, (rows, size) int32; none when they are of another shape."""
    ids = tensors.get("ids")
    if ids is None or ids.dim() != 2 or ids.shape[1] != size:
        return torch.zeros(0, size, dtype=torch.int32)
    return ids


def _first(pieces: Iterable[Sequence[int]], wanted: int) -> Tensor:
    """The first `wanted` ids, (wanted,) int32, or as many as there are."""
    ids = array("i")
    for piece in pieces:
        ids.extend(piece[: wanted - len(ids)])
        if len(ids) == wanted:
            break
    return torch.tensor(ids, dtype=torch.int32)


def _each(pieces: Iterable[Sequence[int]], wanted: int, size: int) -> Iterator[list[int]]:
    """The first `wanted` ids of `pieces`, each by itself, cut at `size`."""
    for piece in pieces:
        ids = list(piece[: min(size, wanted)])
        if ids:
            yield ids
        wanted -= len(ids)
        if wanted == 0:
            break


def _cut(pieces: Iterable[Sequence[int]], wanted: int, size: int) -> Iterator[list[int]]:
    """The first `wanted` ids of `pieces`, joined, in chunks of `size` (the last one may be shorter)."""
    held: list[int] = []
    for piece in pieces:
        taken = piece[: wanted - len(held)]
        held += taken
        whole = len(held) - len(held) % size
        yield from (held[at : at + size] for at in range(0, whole, size))
        wanted -= whole
        del held[:whole]
        if len(held) == wanted:
            break
    if held:
        yield held
