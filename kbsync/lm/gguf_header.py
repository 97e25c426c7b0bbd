"""A GGUF file's header, walked through before anything else reads it, and believed only as far as the file
bears it out.

The format: magic, version, how many tensors and how many keys; the keys with their values; for each tensor
its name, dimensions, type and place; the tensors' bytes. Every count and length in it is the writer's word,
and a reader that takes it loops or allocates for as long as it says.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbsync.lm.limits import MOST_EXPERTS, MOST_HEADS, MOST_LAYERS, MOST_POSITIONS, MOST_TEMPLATE

_MOST_TEXT = 16_000_000  # bytes of one text
_MOST_KEYS, _MOST_TENSORS = 65_536, 1_000_000
_MOST_DIMENSIONS = 4
_ARRAY, _TEXT, _UINT32 = 9, 8, 4
# Format letters of the types whose values have one size: uint8 … float64.
_SIMPLE = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Walk:
    """Goes through the bytes; every step is checked against the end before it is taken."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.size = data, 0, len(data)

    def skip(self, count: int, what: str) -> int:
        """Step over `count` bytes; where they began."""
        begin = self.at
        if count > self.size - begin:
            raise ValueError(f"{what} would end beyond the file's {self.size} bytes; it may be truncated")
        self.at += count
        return begin

    def number(self, letter: str, what: str) -> Any:
        form = f"<{letter}"
        return struct.unpack_from(form, self.data, self.skip(struct.calcsize(form), what))[0]

    def text(self, what: str) -> str:
        length = self.number("Q", what)
        if length > _MOST_TEXT:
            raise ValueError(f"{what} would have {length} bytes, and {_MOST_TEXT} are the most")
        begin = self.skip(length, what)
        return self.data[begin : self.at].decode("utf-8", "replace")

    def value(self, kind: int, what: str) -> Any:
        """A value; of an array only its length, as a negative number less one."""
        if kind == _TEXT:
            return self.text(what)
        if kind == _ARRAY:
            return -1 - self._array(what)
        if kind not in _SIMPLE:
            raise ValueError(f"{what} has the unknown type {kind}")
        return self.number(_SIMPLE[kind], what)

    def _array(self, what: str) -> int:
        kind, count = int(self.number("I", what)), int(self.number("Q", what))
        if kind in _SIMPLE:
            self.skip(count * struct.calcsize(f"<{_SIMPLE[kind]}"), what)
        elif kind == _TEXT:
            if count > (self.size - self.at) // 8:
                raise ValueError(
                    f"{what} would have {count} texts, more than the file has room for; it may be truncated"
                )
            for _ in range(count):
                self.text(what)
        else:
            raise ValueError(f"{what} is an array of the type {kind}, which nothing reads")
        return count


def check_gguf(path: Path) -> None:
    """Raise ValueError, in one line that does not name the file, for a header that is not borne out by the
    file, or that describes a model the file can't hold: counts and lengths beyond the end, types, versions
    and tensors that are unknown, two of one name, tensors that overlap, sizes of the model that its tensors
    don't have. Raises OSError.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError("it is not a GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = _Walk(data)
            walk.skip(4, "its magic")
            keys, tensors = _header(walk)
            _check_places(tensors, keys, walk)
    _check_sizes(keys, tensors)


def _header(walk: _Walk) -> tuple[dict[str, Any], list[_Tensor]]:
    version = walk.number("I", "its version")
    if version not in (2, 3):
        raise ValueError(f"it is GGUF of version {version}; versions 2 and 3, little-endian, are read")
    count, pairs = walk.number("Q", "its count of tensors"), walk.number("Q", "its count of keys")
    for many, most, what in ((count, _MOST_TENSORS, "tensors"), (pairs, _MOST_KEYS, "keys")):
        if many > most or many * 12 > walk.size:
            raise ValueError(f"it would have {many} {what}, more than the file has room for; it may be truncated")
    keys: dict[str, Any] = {}
    for _ in range(pairs):
        name = walk.text("a key's name")
        if name in keys:
            raise ValueError(f"the key {name!r} is written twice")
        keys[name] = walk.value(walk.number("I", f"the key {name!r}"), f"the key {name!r}")
    tensors = [_tensor(walk) for _ in range(count)]
    names = {one.name for one in tensors}
    if len(names) != len(tensors):
        raise ValueError("two of its tensors have one name")
    return keys, tensors


def _tensor(walk: _Walk) -> _Tensor:
    name = walk.text("a tensor's name")
    what = f"the tensor {name[:64]!r}"
    dimensions = walk.number("I", what)
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise ValueError(f"{what} has {dimensions} dimensions, and {_MOST_DIMENSIONS} are the most")
    shape = tuple(walk.number("Q", what) for _ in range(dimensions))
    if math.prod(shape) >= 2**63:
        raise ValueError(f"{what} has no shape that can be")
    return _Tensor(name, shape, walk.number("I", what), walk.number("Q", what))


def _check_places(tensors: list[_Tensor], keys: Mapping[str, Any], walk: _Walk) -> None:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    align = keys.get("general.alignment", 32)
    if type(align) is not int or not 0 < align <= 65_536:
        raise ValueError(f"its alignment {align!r} can't be")
    room = walk.size - -(-walk.at // align) * align
    end = 0
    known = {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items() if kind in GGMLQuantizationType}
    for one in sorted(tensors, key=lambda one: one.offset):
        what = f"the tensor {one.name[:64]!r}"
        if one.kind not in known:
            raise ValueError(f"{what} has the unknown type {one.kind}")
        block, size = known[one.kind]
        numbers = math.prod(one.shape)
        if one.shape[0] % block:
            raise ValueError(f"{what} has rows of {one.shape[0]} numbers, which its type can't hold")
        if one.offset < end or one.offset % align:
            raise ValueError(f"the bytes of {what.removeprefix('the ')} overlap or are not aligned")
        end = one.offset + numbers // block * size
        if end > room:
            raise ValueError(f"{what} would end beyond the file's {walk.size} bytes; it may be truncated")


def _check_sizes(keys: Mapping[str, Any], tensors: list[_Tensor]) -> None:
    """What a reader would build from the keys alone, without a look at the tensors."""
    kind = keys.get("general.architecture")
    if not isinstance(kind, str) or not re.fullmatch(r"[a-z0-9_.-]{1,64}", kind):
        raise ValueError("it names no architecture")
    if len(str(keys.get("tokenizer.chat_template", ""))) > MOST_TEMPLATE:
        raise ValueError(f"its chat template has more than {MOST_TEMPLATE} characters")
    sizes = {name: keys.get(f"{kind}.{name}") for name in ("block_count", "embedding_length", "context_length")}
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"its key {kind}.{name} is no size")
    layers, hidden, positions = (int(str(value)) for value in sizes.values())
    if layers > min(MOST_LAYERS, len(tensors)):
        raise ValueError(f"it would have {layers} layers, and has {len(tensors)} tensors")
    if positions > MOST_POSITIONS:
        raise ValueError(f"it would take texts of {positions} tokens, and {MOST_POSITIONS} are the most")
    numbers = sum(math.prod(one.shape) for one in tensors)
    widest = max(max(one.shape) for one in tensors)
    own = {key.removeprefix(f"{kind}."): value for key, value in keys.items() if type(value) is int}
    for name, value in own.items():
        if name.endswith(("_length", "dimension_count")) and "context" not in name and value > widest:
            raise ValueError(
                f"its keys describe a model far larger than its widest tensor ({kind}.{name}: {value})"
            )
    heads, experts = own.get("attention.head_count", 1), own.get("expert_count", 1)
    if heads > MOST_HEADS or experts * layers > MOST_EXPERTS:
        raise ValueError(f"it would have {heads} heads and {experts} experts in a layer")
    tokens = own.get("tokenizer.ggml.tokens", -1)
    rows = max(own.get("vocab_size", 0), -1 - tokens)
    mlp = max(own.get("feed_forward_length", 0), 0)  # an array where layers differ: that is its length, below 0
    attention = max(heads, 0) * own.get("attention.key_length", 0)
    if hidden * rows + 2 * layers * hidden * (mlp + attention) > 2 * numbers:
        raise ValueError(f"its keys describe a model far larger than the {numbers} numbers that it holds")
