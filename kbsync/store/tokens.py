"""Tokens for HTTP: made, listed, revoked, and found again by their text.

A token is 256 random bits. Nobody can guess one or look it up in a table of hashes, so a plain SHA-256 keeps it as
well as a slow hash would, and a stranger can't make the service work hard by sending wrong ones.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.store.tables import TokenRow

PREFIX = "kbsync_"  # tells secret scanners, and people, what they have found
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the ledger has it. `may_write`: it may also ask for runs and decide what is held."""

    id: int
    name: str
    may_write: bool
    made_at: datetime
    made_by: str
    revoked_at: datetime | None


def digest_of(text: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def add(tx: Session, name: str, may_write: bool, by: str, at: datetime) -> str:
    """Make a token; returns its text, which can't be had again.

    Raises ConfigError for a name that is taken, or that is no plain word.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a token: up to 64 letters, digits, dots, dashes, underscores")
    if _live(tx, name) is not None:
        raise ConfigError(f"there is a token named {name} already; revoke it first, or take another name")
    text = PREFIX + secrets.token_urlsafe(32)
    tx.add(TokenRow(name=name, hash=digest_of(text), may_write=may_write, made_at=at, made_by=by))
    tx.flush()
    return text


def tokens(tx: Session) -> list[Token]:
    """All tokens there ever were, the oldest first."""
    return [_token(row) for row in tx.scalars(select(TokenRow).order_by(TokenRow.id))]


def revoke(tx: Session, name: str, at: datetime) -> Token:
    """Make a token void from now on. Raises ConfigError when there is none of this name."""
    row = _live(tx, name)
    if row is None:
        raise ConfigError(f"there is no token named {name}; `kbsync token list` lists them")
    row.revoked_at = at
    tx.flush()
    return _token(row)


def find(tx: Session, text: str) -> Token | None:
    """The token of this text, unless it was revoked. Each is compared, in a time that tells nothing of either."""
    asked = digest_of(text)
    found: TokenRow | None = None
    for row in tx.scalars(select(TokenRow).where(TokenRow.revoked_at.is_(None))):
        if hmac.compare_digest(row.hash, asked):
            found = row
    return None if found is None else _token(found)


def _live(tx: Session, name: str) -> TokenRow | None:
    return tx.scalars(select(TokenRow).where(TokenRow.name == name, TokenRow.revoked_at.is_(None))).one_or_none()


def _token(row: TokenRow) -> Token:
    return Token(row.id, row.name, row.may_write, row.made_at, row.made_by, row.revoked_at)
