"""The manifest goes to JSON and back, and nothing but what it writes is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.checkpoint.manifest import (
    FILE_NAME,
    MAX_BYTES,
    FileEntry,
    Manifest,
    TensorEntry,
    from_json,
    is_plain_name,
    live_hash,
    read_manifest,
    to_json,
)
from kbsync.errors import CheckpointError
from kbsync.facts import Value, ValueKind, digest
from tests.checkpoint.examples import live_fact, make_manifest

WHOLE: dict[str, Any] = {
    "weights_hash": digest("edited"),
    "tensors": {"a.weight": TensorEntry("float32", (2, 3)), "b": TensorEntry("bfloat16", ())},
    "files": {"edited.safetensors": FileEntry(digest("file"), 120)},
}


def whole(**changes: Any) -> Manifest:
    """A manifest as `write_candidate` completes it."""
    return make_manifest(**{**WHOLE, **changes})


def test_a_manifest_comes_back_from_json_as_it_was() -> None:
    """Reading what was written gives an equal manifest, labels with braces and line breaks included."""
    assert from_json(to_json(whole())) == whole()


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5))
def test_any_label_survives(labels: list[str]) -> None:
    """Whatever text Wikidata has for a label, it comes back unchanged."""
    manifest = whole(live=tuple(live_fact(i, label) for i, label in enumerate(labels)))
    assert from_json(to_json(manifest)) == manifest


def test_literal_values_keep_their_kind() -> None:
    """A time is read as a time, and its text need not be a Wikidata id."""
    fact = replace(live_fact(0), value=Value(ValueKind.TIME, "1952-02-06T00:00:00Z"))
    assert from_json(to_json(whole(live=(fact,)))).live == (fact,)


def test_the_order_of_the_live_set_means_nothing() -> None:
    """The same facts in another order give the same manifest, the same hash and the same bytes."""
    facts = tuple(live_fact(i) for i in range(5))
    one, other = whole(live=facts), whole(live=facts[::-1])
    assert one == other
    assert live_hash(facts) == live_hash(facts[::-1]) == one.live_hash
    assert to_json(one) == to_json(other)


@pytest.mark.parametrize(
    "other",
    [
        {"content_hash": digest("another")},
        {"value": Value(ValueKind.STRING, "Q1000")},
        {"target_new": "another city"},
        {"relation": "P35"},
    ],
)
def test_the_live_hash_covers_every_part_of_a_fact(other: dict[str, Any]) -> None:
    """A live set that differs in one part of one fact has another hash."""
    assert live_hash([live_fact(0)]) != live_hash([replace(live_fact(0), **other)])


def test_times_are_kept_in_utc() -> None:
    """A time with another offset is written as the same moment in UTC."""
    local = datetime(2026, 3, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    read = from_json(to_json(whole(created_at=local)))
    assert read.created_at == local
    assert read.created_at.tzinfo is UTC


def test_a_time_without_a_zone_is_refused_where_it_is_made() -> None:
    """A manifest can't be made with a time that has no zone."""
    with pytest.raises(ValueError, match="time zone"):
        make_manifest(created_at=datetime(2026, 3, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Path("x"), {1, 2}])
def test_what_is_not_json_is_not_written(value: object) -> None:
    """NaN, infinity and Python's own types in the metrics are an error when the manifest is written."""
    with pytest.raises(CheckpointError, match="run '7' is not JSON"):
        to_json(make_manifest(metrics={"x": value}))


def test_the_identity_leaves_out_what_does_not_shape_the_weights() -> None:
    """Run, time and metrics don't change what a checkpoint is; settings and live set do."""
    base = whole()
    assert whole(run_id="8", metrics={}, created_at=datetime.now(UTC)).identity == base.identity
    assert whole(settings={}).identity != base.identity
    assert whole(live=()).identity != base.identity


@pytest.mark.parametrize("name", ["a", "run-12.3_x", "edited.safetensors", "0"])
def test_plain_names(name: str) -> None:
    """Letters, digits, dots, underscores and hyphens make a name."""
    assert is_plain_name(name)


TRICKS = ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".tmp-x", "a\n", "a\0", "ä", "-rf", "a" * 129]


@pytest.mark.parametrize("name", TRICKS)
def test_names_that_could_leave_the_folder_are_not_plain(name: str) -> None:
    """Absolute paths, parents, separators, hidden names and control characters are refused."""
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", [*TRICKS, FILE_NAME])
def test_a_manifest_with_a_hostile_file_name_is_not_read(name: str) -> None:
    """A file entry that points anywhere but into the folder makes the manifest unreadable."""
    content = json.loads(to_json(whole()))
    content["files"] = {name: content["files"]["edited.safetensors"]}
    with pytest.raises(CheckpointError, match="can't be a file of a checkpoint"):
        from_json(json.dumps(content))


def put(*path: str | int, value: object) -> Callable[[Any], None]:
    """A change that sets `value` at `path` of the parsed manifest."""

    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Any], None]:
    """A change that removes what is at `path`."""

    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        del content[path[-1]]

    return change


HOSTILE = {
    "unknown version": put("format", value=2),
    "version as a text": put("format", value="1"),
    "version as true": put("format", value=True),
    "version as a float": put("format", value=1.0),
    "no version": drop("format"),
    "unknown key": put("pickle", value="x"),
    "missing key": drop("metrics"),
    "unknown key in base": put("base", "url", value="x"),
    "missing key in base": drop("base", "family"),
    "base is a list": put("base", value=[]),
    "spec is a number": put("base", "spec", value=3),
    "run id is a number": put("run_id", value=7),
    "hash too short": put("weights_hash", value="ab"),
    "hash in capitals": put("weights_hash", value="A" * 64),
    "hash with a line break": put("weights_hash", value="a" * 64 + "\n"),
    "hash is null": put("base", "weights_hash", value=None),
    "time without zone": put("created_at", value="2026-03-01T12:30:00"),
    "time is no time": put("created_at", value="yesterday"),
    "time outside the calendar": put("created_at", value="0001-01-01T00:00:00+23:00"),
    "live is a table": put("live", value={}),
    "fact is a text": put("live", 0, value="Q1"),
    "subject is no id": put("live", 0, "subject", value="Q1} UNION {"),
    "relation is no id": put("live", 0, "relation", value="P0"),
    "object is no id": put("live", 0, "value", value="Paris"),
    "unknown kind of value": put("live", 0, "value_kind", value="pickle"),
    "label is null": put("live", 0, "subject_label", value=None),
    "label is half a character": put("live", 0, "subject_label", value="\ud800"),
    "fact changed by hand": put("live", 0, "target_new", value="another city"),
    "fact removed by hand": drop("live", 0),
    "settings changed by hand": put("settings", "seed", value=1),
    "settings are a list": put("settings", value=[]),
    "setting is half a character": put("settings", "seed", value="\ud800"),
    "metric is half a character": put("metrics", "\ud800", value=1),
    "negative size": put("files", "edited.safetensors", "bytes", value=-1),
    "size as true": put("files", "edited.safetensors", "bytes", value=True),
    "size as a float": put("files", "edited.safetensors", "bytes", value=120.0),
    "file without hash": drop("files", "edited.safetensors", "sha256"),
    "shape is a number": put("tensors", "a.weight", "shape", value=6),
    "shape has a text": put("tensors", "a.weight", "shape", value=["2", 3]),
    "negative shape": put("tensors", "a.weight", "shape", value=[-2, 3]),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_manifest_is_refused_in_one_line(change: Callable[[Any], None]) -> None:
    """Any departure from the format is a CheckpointError of one line that names the file."""
    content = json.loads(to_json(whole()))
    change(content)
    with pytest.raises(CheckpointError) as caught:
        from_json(json.dumps(content), "some/manifest.json")
    assert str(caught.value).startswith("some/manifest.json is not a manifest")
    assert len(str(caught.value).splitlines()) == 1


TEXTS = {
    "empty": "",
    "cut short": to_json(whole())[:-20],
    "a list": "[]",
    "a number": "1",
    "two documents": to_json(whole()) * 2,
    "NaN": to_json(whole()).replace("1500.0", "NaN"),
    "infinity by overflow": to_json(whole()).replace("1500.0", "1e999"),
    "infinity in the metrics": to_json(whole()).replace('"perplexity_ratio": null', '"x": [1e999]'),
    "a huge integer": to_json(whole()).replace("1500.0", "1" * 10_000),
    "nested too deep": "[" * 200_000,
    "a deep setting": to_json(whole()).replace("1500.0", "[" * 900 + "]" * 900),
    "a key written twice": to_json(whole()).replace('"run_id": "7"', '"run_id": "7", "run_id": "8"'),
    "an inner key written twice": to_json(whole()).replace('"seed": 20220', '"seed": 20220, "seed": 20220'),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_that_is_no_manifest_is_refused_in_one_line(text: str) -> None:
    """Broken, doubled, endless or non-finite JSON ends in one CheckpointError line, never in a crash."""
    with pytest.raises(CheckpointError) as caught:
        from_json(text)
    assert len(str(caught.value).splitlines()) == 1


def test_a_key_written_twice_is_named() -> None:
    """The error says which key stands twice."""
    with pytest.raises(CheckpointError, match="'run_id' is written twice"):
        from_json(TEXTS["a key written twice"])


def test_reading_a_folder_without_a_manifest(tmp_path: Path) -> None:
    """A folder without manifest.json is not a checkpoint, and the error says so."""
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_manifest(tmp_path)


def test_reading_a_manifest_that_is_not_utf8(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are named as the cause."""
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        read_manifest(tmp_path)


def test_reading_a_manifest_that_is_a_folder(tmp_path: Path) -> None:
    """What can't be opened at all is a CheckpointError too."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(CheckpointError, match="can't be read"):
        read_manifest(tmp_path)


def test_an_oversized_manifest_is_not_even_read(tmp_path: Path) -> None:
    """A file over the size cap is refused by its size alone."""
    with (tmp_path / FILE_NAME).open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match="over"):
        read_manifest(tmp_path)
