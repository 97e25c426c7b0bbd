"""What is beyond its limits, decided without a database."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from kbsync.store.limits import Limits, Thing, beyond
from tests.store.examples import NOON

most = st.none() | st.integers(0, 12)
things = st.lists(
    st.builds(
        Thing,
        key=st.integers(),
        at=st.integers(0, 10).map(lambda days: NOON - timedelta(days=days)),
        bytes=st.integers(0, 5),
        needed=st.booleans(),
    ),
    max_size=10,
)
limits = st.builds(
    Limits, age=st.none() | st.integers(0, 10).map(lambda d: timedelta(days=d)), count=most, bytes=most
)


@given(things, limits)
def test_what_stays_is_within_the_limits_and_nothing_goes_without_need(
    all_: list[Thing[int]], most: Limits
) -> None:
    """What is needed stays. The rest is within every limit as far as the needed leaves room; the newest one that
    goes would break a limit."""
    gone = beyond(all_, most, NOON)
    assert not any(one.needed for one in gone)
    kept = list(all_)
    for one in gone:
        kept.remove(one)
    free = [one for one in kept if not one.needed]

    def fits(some: list[Thing[int]]) -> bool:
        return (
            (most.count is None or len(some) <= most.count)
            and (most.bytes is None or sum(one.bytes for one in some) <= most.bytes)
            and all(one.needed or most.age is None or NOON - one.at <= most.age for one in some)
        )

    if free:
        assert fits(kept)
    if gone:
        assert not fits([*kept, gone[0]])
        assert all(one.at >= gone[0].at for one in free)


def test_no_limit_removes_nothing() -> None:
    """Whatever there is."""
    assert beyond([Thing(1, NOON - timedelta(days=9999), 10**12)], Limits(), NOON) == []
