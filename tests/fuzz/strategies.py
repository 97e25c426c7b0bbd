"""Inputs that are nearly right, for each target: a valid one with something odd in some place of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from kbsync.settings import Settings
from tests.fuzz.draw import Target

ODD: Sequence[object] = (
    None, True, False, 0, -1, 2**63, 10**400, 0.5, float("inf"), float("nan"), "", " ", "\0", "\ud800", "x" * 300,
    "a\nb", [], [[]], {}, {"": None}, "Q0", "P6", "Q1", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    "~x/y", "http://[::1", "٣",
)  # fmt: skip
_TEXTS = st.text(max_size=12)
_ODD = st.sampled_from(ODD) | _TEXTS | st.integers() | st.floats()


def _places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON document, as the keys that lead there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in _places(one, (*path, key)))]


@st.composite
def documents(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A JSON document with one or two of its places made odd, gone or said twice."""
    document = json.loads(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from(_places(document)[1:])) if _places(document)[1:] else (None,)
        if last is None:
            return json.dumps(draw(_ODD)).encode("utf-8", "surrogatepass")
        holder = document
        for key in way:
            holder = holder[key]
        act = draw(st.sampled_from(("odd", "odd", "gone", "twice")))
        if act == "gone":
            del holder[last]
        elif act == "twice" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = draw(_ODD)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _toml(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value.encode("utf-8", "replace").decode())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    return '"off"' if value is None else str(value).lower()


@st.composite
def config_files(draw: st.DrawFn) -> bytes:
    """Some sections with some of their keys, each with its default or something odd."""
    lines = []
    for section in draw(
        st.lists(st.sampled_from(sorted(Settings.model_fields)), min_size=1, max_size=3, unique=True)
    ):
        lines.append(f"[{section}]")
        defaults = getattr(Settings.model_construct(), section).model_dump(mode="json")
        for key in draw(st.lists(st.sampled_from(sorted(defaults)), max_size=4, unique=True)):
            value = draw(st.just(defaults[key]) | _ODD | st.lists(_ODD, max_size=2))
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines).encode()


@st.composite
def catalogues(draw: st.DrawFn, whole: str) -> bytes:
    """A valid relation with some keys made odd."""
    head, *keys = whole.strip().splitlines()
    for number in draw(st.sets(st.integers(0, len(keys) - 1), max_size=2)):
        key = keys[number].partition(" = ")[0]
        keys[number] = f"{key} = {_toml(draw(_ODD | st.lists(_TEXTS | st.just('{} is'), max_size=4)))}"
    extra = draw(
        st.sampled_from(("", "subjects = []", "settling = '1w'", "max_changes = -1", "x.y = 1", "id = 'P6'"))
    )
    return "\n".join([head, *keys, extra]).encode()


@st.composite
def drawn(draw: st.DrawFn) -> bytes:
    """Choices, then texts, in the way in which `Draw` reads them."""
    parts = draw(st.lists(st.binary(max_size=4) | _TEXTS.map(lambda text: text.encode()), max_size=8))
    return b"\x1f".join(parts)


@st.composite
def spliced(draw: st.DrawFn, target: Target) -> bytes:
    """A seed with a word, a byte or a piece of another seed put into it somewhere, or something cut out."""
    data = draw(st.sampled_from(target.seeds))
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 20)))
        words: list[bytes] = [word.encode() for word in target.words] or [b""]
        data = data[:begin] + draw(st.sampled_from(words) | st.binary(max_size=3)) + data[end:]
    return data


_STRUCTURED: dict[str, Callable[[Target], SearchStrategy[bytes]]] = {
    "answer": lambda target: documents(target.seeds),
    "event": lambda target: documents(target.seeds),
    "manifest": lambda target: documents(target.seeds),
    "model config": lambda target: documents(target.seeds),
    "settings": lambda _: config_files(),
    "catalogue": lambda target: catalogues(target.seeds[0].decode()),
}


def inputs(target: Target) -> SearchStrategy[bytes]:
    """What this target is fed with."""
    own = _STRUCTURED.get(target.name)
    plain = spliced(target) | drawn() | st.binary(max_size=60)
    return own(target) | plain if own is not None else plain
