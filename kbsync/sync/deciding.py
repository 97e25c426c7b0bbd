"""Decisions of people about what is held or kept out: by command, and over HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.store import asides, quarantines, trust

_LARGEST = 2**31 - 1  # the largest id that a store can have


def _number(digits: str) -> int | None:
    """The number in an id, or of a run; None when it is none, or larger than any can be."""
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > len(str(_LARGEST)):
        return None
    return number if (number := int(digits)) <= _LARGEST else None


def held_id(text: str) -> int | None:
    """The number of `h12`; None when it is no such id."""
    return _number(text[1:]) if text[:1] in ("h", "H") else None


def approve(tx: Session, ids: Iterable[str], by: str, why: str | None, at: datetime) -> list[dict[str, Any]]:
    """Let held changes (`h12`) or what a run asked about (`42`) go on; all of them, or none. Raises ConfigError."""
    done: list[dict[str, Any]] = []
    for one in dict.fromkeys(ids):
        number = held_id(one)
        if number is not None:
            told = trust.decide(tx, number, True, by, why, at)
            done.append({"id": one, "fact": told.fact, "way": told.way})
        elif (run := _number(one)) is not None:
            done.append({"run": run, "changes": trust.approve_run(tx, run, by, why, at)})
        else:
            raise ConfigError(f"{one!r} is neither an id such as h12 nor the number of a run")
    return done


def reject(tx: Session, ids: Iterable[str], by: str, why: str | None, at: datetime) -> list[dict[str, Any]]:
    """Keep held changes out for good; all of them, or none. Raises ConfigError."""
    done: list[dict[str, Any]] = []
    for one in dict.fromkeys(ids):
        number = held_id(one)
        if number is None:
            raise ConfigError(f"{one!r} is not an id such as h12; `kbsync held` lists them")
        told = trust.decide(tx, number, False, by, why, at)
        done.append({"id": one, "fact": told.fact, "way": told.way})
    return done


def release(tx: Session, ids: Iterable[str], by: str, at: datetime) -> list[dict[str, Any]]:
    """Let in what the gate keeps out (`q12`) or all that a run has kept out (`42`), and what a rollback set aside
    (`a3`) or all of that (`rollback`); all of them, or none. Raises ConfigError."""
    done: list[dict[str, Any]] = []
    for one in dict.fromkeys(ids):
        letter, number = one[:1].lower(), _number(one[1:])
        if one == "rollback" or (letter == "a" and number is not None):
            ended = asides.release_all(tx, at, by) if number is None else asides.release(tx, [number], at, by)
            done += [{"id": f"a{row.id}", "fact": row.fact, "kind": "rolled back"} for row in ended]
            continue
        if letter == "q" and number is not None:
            let_in = quarantines.release(tx, [number], at, by)
        elif (run := _number(one)) is not None:
            let_in = quarantines.release_run(tx, run, at, by)
        else:
            raise ConfigError(
                f"{one!r} is neither an id such as q12 or a3 nor the number of a run; see `kbsync held`"
            )
        done += [{"id": f"q{row.id}", "fact": row.fact, "kind": row.kind} for row in let_in]
    return done
