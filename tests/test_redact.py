"""Secrets are taken out of texts, and the rest stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kbsync.redact import Secrets, mask, mask_url, passwords_in, secrets_in


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("can't reach https://me:pass@host/x: refused", "can't reach https://me:***@host/x: refused"),
        ("postgresql+psycopg://me:p@ss/w:rd@host/db failed", "postgresql+psycopg://me:***@host/db failed"),
        ("see https://host/x?a=1&token=abc123&b=2", "see https://host/x?a=1&token=***&b=2"),
        (
            'connection failed: "host=x password=hunter2 user=me"',
            'connection failed: "host=x password=*** user=me"',
        ),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic bWU6cGFzcw=='}", "{'Authorization': 'Basic ***'}"),
        ('"authorization": "abcdef"', '"authorization": "***"'),
        ("it was sent bearer abcdef0123456", "it was sent bearer ***"),
        ("the token kbsync_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG was sent", "the token kbsync_*** was sent"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, masked: str) -> None:
    """By its place in a URL, in a parameter, in a header, or by its form."""
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "can't reach https://query.wikidata.org/sparql: timed out",
        "postgresql+psycopg://me@host:5432/db can't be reached",
        "https://host:8443/path",
        "a bearer token is a secret; basic authentication has a user",
        "the password is wrong",
        "kbsync_runs_total{status=\"failed\"} 3",
        "tokens=2400",
        "Ünïcödé: 1,234 facts\n  at 12:00@noon",
    ],
)  # fmt: skip
def test_what_is_none_stays(text: str) -> None:
    """Addresses, words about secrets, names of metrics."""
    assert mask(text) == text


def test_a_whole_url_may_hold_anything() -> None:
    """Where a value is a URL and nothing else, a password may have spaces and quotation marks."""
    assert (
        mask_url("postgresql://me:a b'c\"d@host/db?sslpassword=a b")
        == "postgresql://me:***@host/db?sslpassword=***"
    )
    assert passwords_in("postgresql://me:a b'c@host/db?sslpassword=hush") == {"a b'c", "hush"}
    assert passwords_in("postgresql://me@host/db") == set()
    assert passwords_in("http://[::1") == set()


@pytest.mark.parametrize("said", ["hush%2Fhush", "hush/hush", "'hush/hush'", "bWU6aHVzaC9odXNo", "xhush/hushx"])
def test_a_known_secret_is_masked_in_every_spelling(said: str) -> None:
    """As it is, in a URL, in a literal, in a Basic header."""
    told = Secrets(["hush/hush\n"], user="me").mask(f"it said {said} again")
    assert "hush" not in told
    assert "bWU6" not in told
    assert told.startswith("it said ")
    assert told.endswith(" again")


def test_a_short_secret_does_not_mask_every_text() -> None:
    """A password of one letter is masked in its URL alone."""
    assert Secrets(["a"]).mask("a banana at postgresql://me:a@host") == "a banana at postgresql://me:***@host"


def test_a_file_of_a_secret_is_read_again(tmp_path: Path) -> None:
    """What it held before stays masked; a file that is not there is nobody's fault here."""
    file = tmp_path / "token"
    secrets = Secrets(files=[file])
    assert secrets.mask("first-secret") == "first-secret"
    file.write_text("first-secret\n")
    assert secrets.mask("first-secret") == "***"
    file.write_text("the second one\n")
    assert secrets.mask("first-secret, the second one") == "***, ***"
    other = Secrets()
    other.learn(secrets)
    assert other.mask("first-secret, the second one") == "***, ***"


def test_a_pipe_is_left_to_whoever_needs_it(tmp_path: Path) -> None:
    """A secret that comes through one can be read once: masking neither takes it nor waits for it."""
    os.mkfifo(tmp_path / "pipe")
    assert Secrets(files=[tmp_path / "pipe"]).mask("a text") == "a text"


def test_an_environment_names_its_secrets() -> None:
    """Known before the settings are read, which may fail."""
    environment = {
        "KBSYNC_SOURCE__TOKEN": "one-1",
        "kbsync_store__url": "postgresql://me:two-2@host/db",
        "PGPASSWORD": "three-3",
        "KBSYNC_EDIT__STEPS": "20",
        "PATH": "/usr/bin",
    }
    assert secrets_in(environment) == {"one-1", "two-2", "three-3"}
