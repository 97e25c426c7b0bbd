"""Which of the things that grow are beyond their limits: a decision without a database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is kept of one kind; None is no limit."""

    age: timedelta | None = None
    count: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Thing(Generic[Key]):
    """Something that grows. `at` is when it was last of use; what is `needed` stays, whatever the limits say."""

    key: Key
    at: datetime
    bytes: int
    needed: bool = False


def beyond(things: Iterable[Thing[Key]], limits: Limits, now: datetime) -> list[Thing[Key]]:
    """What has to go, the newest first: all that is too old, and from the first on that does not fit any more.

    What is needed counts, so limits hold for all together as far as they can.
    """
    known = list(things)
    needed = [one for one in known if one.needed]
    count, size = len(needed), sum(one.bytes for one in needed)
    gone: list[Thing[Key]] = []
    for one in sorted((one for one in known if not one.needed), key=lambda one: one.at, reverse=True):
        count, size = count + 1, size + one.bytes
        if gone or _too_old(one, limits, now) or _over(count, limits.count) or _over(size, limits.bytes):
            gone.append(one)
    return gone


def _too_old(one: Thing[Key], limits: Limits, now: datetime) -> bool:
    return limits.age is not None and now - one.at > limits.age


def _over(amount: int, most: int | None) -> bool:
    return most is not None and amount > most
