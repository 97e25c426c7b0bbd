"""A safetensors file's header, believed only as far as the file bears it out.

The format: eight bytes, little-endian, with the header's length; the header, one JSON object that gives each
tensor its dtype, its shape and where in the rest of the file its bytes lie; the bytes, without gaps and
without overlaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from kbsync.lm.json_file import parse

MOST_HEADER = 32_000_000  # bytes; ~200,000 tensors. The library takes 100 MB, which Python turns into a gigabyte
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_MOST_DIMENSIONS = 16


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file: the format's name of its dtype, its shape, and its first and last byte but
    one."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, by name.

    Raises ValueError, in one line that does not name the file, for whatever the header says that is not so: a
    length beyond the file or 32 MB, JSON that is none or names a tensor twice, a dtype that is unknown, a
    size that is not the shape's, bytes that overlap, leave a gap or lie beyond the end. Raises OSError.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(9)
        if len(first) < 9:
            raise ValueError(f"it has {size} bytes, too few for safetensors")
        length = int.from_bytes(first[:8], "little")
        if first[8:] != b"{":
            raise ValueError("its header is not JSON")
        if length > size - 8:
            raise ValueError(f"its header would have {length} bytes, and the file has {size}; it may be truncated")
        if length > MOST_HEADER:
            raise ValueError(f"its header has {length} bytes, and {MOST_HEADER} are the most")
        content = first[8:] + file.read(length - 1)
    try:
        header = parse(content)
    except RecursionError:
        raise ValueError("its header is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"its header is not JSON that it may hold: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    _check_metadata(header.pop("__metadata__", {}))
    found = {name: _stored(name, value) for name, value in header.items()}
    _check_places(found, size - 8 - length)
    return found


def _check_metadata(value: object) -> None:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise ValueError("its header's __metadata__ is not a table of texts")


def _stored(name: str, value: object) -> Stored:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the tensor {name!r} has other keys than dtype, shape and data_offsets")
    dtype, shape, places = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"the tensor {name!r} has the unknown dtype {dtype!r}")
    if not _counts(shape) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"the tensor {name!r} has no shape that can be")
    if not _counts(places) or len(places) != 2 or places[0] > places[1]:
        raise ValueError(f"the tensor {name!r} has no data_offsets that can be")
    one = Stored(dtype, tuple(shape), *places)
    if one.numbers * _BITS[dtype] != 8 * (one.end - one.begin):
        raise ValueError(
            f"the tensor {name!r} has {one.end - one.begin} bytes, which its shape and dtype don't fill"
        )
    return one


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 2**63 for one in value)


def _check_places(tensors: dict[str, Stored], size: int) -> None:
    at = 0
    for name, one in sorted(tensors.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if one.begin != at:
            raise ValueError(f"the bytes of the tensor {name!r} {'overlap' if one.begin < at else 'leave a gap'}")
        at = one.end
    if at != size:
        raise ValueError(f"its tensors have {at} bytes, and the file holds {size}; it may be truncated")
