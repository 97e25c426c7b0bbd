"""What the fuzzer has found, each as it is now: an input, and the value or the named error that it ends in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path

import pytest

from kbsync.cli.model_checks import _base
from kbsync.errors import BadAnswer, ConfigError, ModelError, StoreError, one_line
from kbsync.lm.load import find_folder
from kbsync.lm.precision import read_config
from kbsync.request.catalogue import load_catalogue
from kbsync.settings import load_settings
from kbsync.source import dump, mutations, triples
from kbsync.source.transport import retry_after_s
from kbsync.store.engine import open_store
from kbsync.store.query import run_sql
from tests.fuzz.source_targets import CLIENT, STREAM

NOW = datetime(2024, 1, 1, tzinfo=UTC)
DEEP = "[" * 50_000
LONG = "9" * 5000  # Python refuses to make an integer of so many digits


@pytest.mark.parametrize("odd", [[], {}, 5, True])
@pytest.mark.parametrize("key", ["datatype", "xml:lang"])
def test_a_type_or_language_that_is_no_text(key: str, odd: object) -> None:
    """An answer with it is misshapen, and refused."""
    term = {"type": "literal", "value": "x", key: odd}
    body = json.dumps({"head": {}, "results": {"bindings": [{"value": term}]}}).encode()
    with pytest.raises(BadAnswer, match="misshapen"):
        CLIENT._rows(body)


@pytest.mark.parametrize("body", [LONG, DEEP])
def test_json_that_python_refuses(body: str) -> None:
    """A number of thousands of digits, and brackets without end, are a bad answer like any other."""
    with pytest.raises(BadAnswer):
        CLIENT._rows(body.encode())


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_event_whose_time_leaves_the_calendar(at: str) -> None:
    """It can't be kept in UTC, so the event is malformed; any other time is kept in UTC."""
    event = {"meta": {}, "entity_id": "Q42", "rev_id": 5, "operation": "diff"}
    assert mutations.decode(json.dumps({**event, "dt": at})) == "filtered: malformed event"
    found = mutations.decode(json.dumps({**event, "dt": "2024-01-01T02:00:00+02:00"}))
    assert isinstance(found, mutations.Mutation)
    assert (found.at, found.at.utcoffset()) == (NOW, timedelta(0))


def test_a_position_of_the_stream_that_is_not_ascii() -> None:
    """It goes back as the bytes that it came as."""
    request = STREAM._request("número 日", NOW)
    value = dict(request.header_items())["Last-event-id"]
    assert value.encode("latin-1").decode("utf-8") == "número 日"


@pytest.mark.parametrize(
    "value",
    ["Wed, 21 Oct 99999999999999 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 +99999999999999999999", "no", "³"],
)
def test_a_retry_after_that_no_calendar_has(value: str) -> None:
    """It can't be read, so it is as if there were none."""
    assert retry_after_s(value, NOW) is None
    headers = Message()
    headers["Retry-After"] = value
    assert str(CLIENT._refusal(503, headers, ""))


def test_a_retry_after_with_a_separator() -> None:
    """What Python's `strip` takes for a space, `float` does not."""
    assert retry_after_s("\x1e6", NOW) == 6.0


def test_a_dump_with_tabs(tmp_path: Path) -> None:
    """A line whose words can't be told without the parser is parsed; what is not wanted of those stays out."""
    file = tmp_path / "tabs.nt"
    file.write_text("<http://a>\t<http://b>\t<http://c> .\n", encoding="utf-8")
    (batch,) = dump.read(dump.open_dump(file), triples.wanted(triples.kinds(["P6"]), "en"))
    assert (batch.quads, batch.triples) == ([], 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"a = {DEEP}", "nested too deep"),
        (f"a = {LONG}", "not valid TOML"),
        ('"a\\nb" = 1', r"a\\nb"),
    ],
)
def test_toml_that_python_refuses_and_keys_with_line_breaks(tmp_path: Path, text: str, said: str) -> None:
    """One line says so, for the settings and for the catalogue."""
    file = tmp_path / "kbsync.toml"
    file.write_text(text, encoding="utf-8")
    for load in (load_settings, load_catalogue):
        with pytest.raises(ConfigError, match=said) as caught:
            load(file)
        assert str(caught.value).isprintable()


def test_a_home_folder_that_nobody_has(tmp_path: Path) -> None:
    """A path below it is a wrong setting; so is a base model there."""
    with pytest.raises(ConfigError, match="no such home folder"):
        load_settings(None, {"model": {"cache": "~nobody-has-this-name/cache"}})
    with pytest.raises(ModelError, match="no such home folder"):
        find_folder("~nobody-has-this-name/model", tmp_path)
    assert _base("~nobody-has-this-name/model").level == "fail"


def test_a_model_config_without_end(tmp_path: Path) -> None:
    """It is one that can't be read."""
    (tmp_path / "config.json").write_text(DEEP, encoding="utf-8")
    assert read_config(tmp_path) == {}


def test_sql_with_bytes_and_limits_that_no_driver_takes(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, a number of rows beyond 31 bits, and a time that is none."""
    url = f"sqlite:///{tmp_path}/kbsync.db"
    open_store(url).close()
    with pytest.raises(StoreError, match="not UTF-8"):
        run_sql(url, "SELECT '\udcff'")
    assert run_sql(url, "SELECT 1", limit=2**63).rows == ((1,),)
    for seconds in (float("nan"), float("inf"), -1.0):
        with pytest.raises(StoreError, match="seconds"):
            run_sql(url, "SELECT 1", timeout_s=seconds)


def test_what_can_not_be_printed_is_escaped() -> None:
    """And only that."""
    assert one_line("é 日 a\nb\t\ud800\x85") == r"é 日 a\nb\t\ud800\x85"
