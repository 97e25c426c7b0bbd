"""How much an endpoint may be asked: two token buckets, one of query seconds and one of errors. Pure.

The public service counts per client: 60 s of query time a minute with a burst of 120 s, and 30 errors a minute
with a burst of 60 (wikimedia/wikidata-query-rdf, ThrottlingFilterConfig). It refuses who is over, and bans who
goes on asking. Ours stay below, and are kept in the store, so that a program that is started every minute does
not begin with a full bucket each time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens that come back over time.

    `per_minute` tokens come back each minute, up to `burst`; `level` is what was there at the time `at` (seconds
    of any clock) and may be below zero: what a query costs is known only when it is over.
    """

    per_minute: float
    burst: float
    level: float
    at: float

    def now(self, at: float) -> Bucket:
        """The bucket at a later time. A clock that was set back brings no tokens and takes none."""
        gained = max(0.0, at - self.at) * self.per_minute / 60.0
        return Bucket(self.per_minute, self.burst, min(self.burst, self.level + gained), at)

    def take(self, tokens: float, at: float) -> Bucket:
        """The bucket after `tokens` were spent."""
        full = self.now(at)
        return Bucket(full.per_minute, full.burst, full.level - tokens, at)

    def wait_s(self, tokens: float, at: float) -> float:
        """Seconds until the bucket holds `tokens`."""
        missing = min(tokens, self.burst) - self.now(at).level
        return max(0.0, missing) * 60.0 / self.per_minute
