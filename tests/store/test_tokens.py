"""Tokens: made once, kept as hashes, found by their text until they are revoked."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from kbsync.errors import ConfigError
from kbsync.store import tokens
from kbsync.store.engine import Store
from kbsync.store.tables import TokenRow
from tests.store.examples import NOON, later


def test_a_token_is_found_by_its_text(store: Store) -> None:
    """And by nothing else; the store has only its hash."""
    with store.begin() as tx:
        one = tokens.add(tx, "one", True, "me@here", NOON)
        other = tokens.add(tx, "other", False, "me@here", NOON)
    with store.read() as tx:
        found = tokens.find(tx, one)
        assert found is not None
        assert (found.name, found.may_write) == ("one", True)
        second = tokens.find(tx, other)
        assert second is not None
        assert second.may_write is False
        assert [tokens.find(tx, text) for text in ("", one[:-1], one + "x", tokens.digest_of(one), "\udc80")] == [
            None
        ] * 5
        kept = repr([vars(row) for row in tx.scalars(select(TokenRow))])
    assert one not in kept
    assert tokens.digest_of(one) in kept
    assert one != other
    assert len(one) >= len(tokens.PREFIX) + 43, "256 bits"


def test_a_revoked_token_is_void_and_its_name_is_free(store: Store) -> None:
    """The row stays, as history."""
    with store.begin() as tx:
        old = tokens.add(tx, "deploy", True, "me", NOON)
        assert tokens.revoke(tx, "deploy", later(1)).revoked_at == later(1)
        assert tokens.find(tx, old) is None
        new = tokens.add(tx, "deploy", True, "me", later(2))
        found = tokens.find(tx, new)
        assert found is not None
        assert [one.revoked_at for one in tokens.tokens(tx)] == [later(1), None]


def test_names_are_plain_words(store: Store) -> None:
    """They show in logs and in the ledger."""
    with store.begin() as tx:
        for name in ("", "-x", "a b", "x" * 65, "ä", "a\n"):
            with pytest.raises(ConfigError, match="is no name for a token"):
                tokens.add(tx, name, True, "me", NOON)


def test_a_name_is_given_once(store: Store) -> None:
    """And only what is there can be revoked."""
    with store.begin() as tx:
        tokens.add(tx, "a", True, "me", NOON)
        with pytest.raises(ConfigError, match="already"):
            tokens.add(tx, "a", True, "me", NOON)
        with pytest.raises(ConfigError, match="there is no token named b"):
            tokens.revoke(tx, "b", NOON)
