"""`manifest.json`: what a checkpoint is, where it comes from, and the hashes that prove it.

The file is canonical JSON (sorted keys, UTF-8) and is read strictly: a key too many or too few, a wrong type, a
key written twice, a file name that could leave the folder, or a hash that does not follow from what it covers
makes the whole manifest unreadable. A reader that guesses would publish what nobody wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kbsync.checkpoint import strict
from kbsync.errors import CheckpointError
from kbsync.facts import Value, ValueKind, digest, is_entity_id

FORMAT = 1
FILE_NAME = "manifest.json"
MAX_BYTES = 256_000_000  # ~1 million live facts; a larger file is not ours

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_plain_name(name: str) -> bool:
    """Whether `name` can be a file or folder of ours: one path part of letters, digits, `.`, `_` and `-`.

    It starts with a letter or a digit, so `.`, `..`, hidden names and our temporary folders are not plain.
    """
    return _PLAIN_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Base:
    """The model that the edits were made on. Hashes are sha256 in hex; `dtype` is torch's name of it."""

    spec: str
    weights_hash: str
    tokenizer_hash: str
    family: str
    dtype: str


@dataclass(frozen=True, slots=True, order=True)
class LiveFact:
    """One fact that the weights hold. `content_hash` is the edit request's; labels are as they were edited."""

    content_hash: str
    subject: str
    relation: str
    value: Value
    subject_label: str
    target_new: str


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the checkpoint: sha256 in hex, and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One edited tensor: torch's name of its dtype (`float32`), and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint is. `write_candidate` fills in `weights_hash`, `tensors` and `files`.

    `settings` holds whatever shapes the weights, as plain JSON; `metrics` is what the evaluation found.
    The order of `live` means nothing: it is kept sorted.
    """

    kbsync: str
    run_id: str
    created_at: datetime
    base: Base
    settings: Mapping[str, Any]
    live: tuple[LiveFact, ...]
    metrics: Mapping[str, Any]
    weights_hash: str = ""
    tensors: Mapping[str, TensorEntry] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at needs a time zone")
        object.__setattr__(self, "live", tuple(sorted(self.live)))

    @property
    def settings_hash(self) -> str:
        """sha256 of the canonical JSON of `settings`."""
        return digest(dict(self.settings))

    @property
    def live_hash(self) -> str:
        """sha256 over the live set, whatever order it came in."""
        return live_hash(self.live)

    @property
    def identity(self) -> tuple[str, str, str, str, str]:
        """What the weights are a function of, and the weights: equal for a rebuild of the same live set."""
        base = self.base
        return base.weights_hash, base.tokenizer_hash, self.settings_hash, self.live_hash, self.weights_hash


def live_hash(live: Iterable[LiveFact]) -> str:
    """sha256 over a live set, whatever order it comes in."""
    return digest([_live_json(fact) for fact in sorted(live)])


def to_json(manifest: Manifest) -> str:
    """The manifest as it stands on disk. Raises CheckpointError when a value in it is not JSON."""
    content = {
        "format": FORMAT,
        "kbsync": manifest.kbsync,
        "run_id": manifest.run_id,
        "created_at": manifest.created_at.astimezone(UTC).isoformat(),
        "base": asdict(manifest.base),
        "settings": dict(manifest.settings),
        "settings_hash": manifest.settings_hash,
        "live": [_live_json(fact) for fact in manifest.live],
        "live_hash": manifest.live_hash,
        "metrics": dict(manifest.metrics),
        "weights_hash": manifest.weights_hash,
        "tensors": {name: asdict(entry) for name, entry in manifest.tensors.items()},
        "files": {name: asdict(entry) for name, entry in manifest.files.items()},
    }
    try:
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the manifest of run {manifest.run_id!r} is not JSON: {error}") from None


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the checkpoint folder `path`.

    Raises CheckpointError, in one line, when it is missing, too large, or not exactly what `to_json` writes.
    """
    file = path / FILE_NAME
    try:
        if file.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{file} is over {MAX_BYTES} bytes; it is not a manifest of kbsync")
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not a checkpoint: it has no {FILE_NAME}") from None
    except OSError as error:
        raise CheckpointError(f"{file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CheckpointError(f"{file} is not UTF-8; restore it or rebuild the checkpoint") from None
    return from_json(text, str(file))


def from_json(text: str, source: str = FILE_NAME) -> Manifest:
    """Parse a manifest; `source` is named in the errors. Raises CheckpointError, in one line."""
    try:
        return _manifest(strict.parse(text))
    except (ValueError, OverflowError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise CheckpointError(f"{source} is not a manifest that this kbsync reads: {reason}") from None


def _live_json(fact: LiveFact) -> dict[str, str]:
    return {
        "content_hash": fact.content_hash,
        "subject": fact.subject,
        "relation": fact.relation,
        "value_kind": fact.value.kind.value,
        "value": fact.value.text,
        "subject_label": fact.subject_label,
        "target_new": fact.target_new,
    }


# Every function below raises ValueError with one line; `from_json` names the file.


def _manifest(value: object) -> Manifest:
    top = strict.table(value, "the manifest")
    if top.get("format") != FORMAT or type(top["format"]) is not int:  # neither true nor 1.0
        raise ValueError(f"format {top.get('format')!r} is unknown (this kbsync reads {FORMAT})")
    keys = "format kbsync run_id created_at base settings settings_hash live live_hash metrics weights_hash"
    strict.exact(top, {*keys.split(), "tensors", "files"}, "the manifest")
    manifest = Manifest(
        kbsync=strict.text(top["kbsync"], "kbsync"),
        run_id=strict.text(top["run_id"], "run_id"),
        created_at=strict.moment(top["created_at"], "created_at"),
        base=_base(top["base"]),
        settings=strict.plain(strict.table(top["settings"], "settings"), "settings"),
        live=tuple(_live_fact(one, f"live[{i}]") for i, one in enumerate(strict.items(top["live"], "live"))),
        metrics=strict.plain(strict.table(top["metrics"], "metrics"), "metrics"),
        weights_hash=strict.sha256_hex(top["weights_hash"], "weights_hash"),
        tensors={n: _tensor(t, f"tensors.{n!r}") for n, t in strict.table(top["tensors"], "tensors").items()},
        files={_file_name(n): _file(f, f"files.{n!r}") for n, f in strict.table(top["files"], "files").items()},
    )
    for name, follows in (("settings_hash", manifest.settings_hash), ("live_hash", manifest.live_hash)):
        if strict.sha256_hex(top[name], name) != follows:
            raise ValueError(f"{name} does not follow from what it covers; the manifest was changed by hand")
    return manifest


def _base(value: object) -> Base:
    table = strict.exact(value, set(Base.__dataclass_fields__), "base")
    return Base(
        spec=strict.text(table["spec"], "base.spec"),
        weights_hash=strict.sha256_hex(table["weights_hash"], "base.weights_hash"),
        tokenizer_hash=strict.sha256_hex(table["tokenizer_hash"], "base.tokenizer_hash"),
        family=strict.text(table["family"], "base.family"),
        dtype=strict.text(table["dtype"], "base.dtype"),
    )


def _live_fact(value: object, where: str) -> LiveFact:
    keys = {"content_hash", "subject", "relation", "value_kind", "value", "subject_label", "target_new"}
    table = strict.exact(value, keys, where)
    texts = {key: strict.text(table[key], f"{where}.{key}") for key in keys}
    if not (is_entity_id(texts["subject"]) and is_entity_id(texts["relation"])):
        raise ValueError(f"{where}: {texts['subject']!r} {texts['relation']!r} are not Wikidata ids")
    kind = ValueKind(texts["value_kind"])
    if kind is ValueKind.ITEM and not is_entity_id(texts["value"]):
        raise ValueError(f"{where}.value is not a Wikidata id: {texts['value']!r}")
    return LiveFact(
        content_hash=strict.sha256_hex(texts["content_hash"], f"{where}.content_hash"),
        subject=texts["subject"],
        relation=texts["relation"],
        value=Value(kind, texts["value"]),
        subject_label=texts["subject_label"],
        target_new=texts["target_new"],
    )


def _tensor(value: object, where: str) -> TensorEntry:
    table = strict.exact(value, {"dtype", "shape"}, where)
    shape = tuple(strict.count(size, f"{where}.shape") for size in strict.items(table["shape"], f"{where}.shape"))
    return TensorEntry(strict.text(table["dtype"], f"{where}.dtype"), shape)


def _file(value: object, where: str) -> FileEntry:
    table = strict.exact(value, {"sha256", "bytes"}, where)
    return FileEntry(
        strict.sha256_hex(table["sha256"], f"{where}.sha256"), strict.count(table["bytes"], f"{where}.bytes")
    )


def _file_name(name: str) -> str:
    if not is_plain_name(name) or name == FILE_NAME:
        raise ValueError(f"{name!r} can't be a file of a checkpoint")
    return name
