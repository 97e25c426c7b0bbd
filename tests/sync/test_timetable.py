"""When work is due: decided without a clock, so every hour of a year can be tried in no time."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kbsync.settings import ScheduleSettings
from kbsync.store.pauses import Pause
from kbsync.store.tables import Wants
from kbsync.sync.timetable import Agenda, Quiet, Timetable, reconcile_schedule, schedule_of

AT = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)  # a Wednesday
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NIGHT = Quiet(time(22), time(6))
DAYTIME = Quiet(time(8), time(18, 30))


def schedule(**settings: object) -> ScheduleSettings:
    return ScheduleSettings.model_validate(settings)


def hourly(quiet: Quiet | None = None, jitter_s: float = 0.0, drawn: float = 0.0) -> Timetable:
    """Every hour, since noon."""
    one = Timetable(schedule_of(schedule()), quiet, jitter_s, lambda: drawn)
    one.start(AT)
    return one


def worked(one: Timetable, begin: datetime, end: datetime, step: timedelta = MINUTE) -> list[datetime]:
    """When the work is begun by somebody who looks every minute."""
    found, at = [], begin
    while at < end:
        if one.due(at):
            found.append(at)
            one.start(at)
        at += step
    return found


def test_an_interval_counts_from_the_last_time() -> None:
    """Minutes from one to the next, whatever the time of day."""
    assert worked(hourly(), AT, AT + 5 * HOUR) == [AT + n * HOUR for n in range(1, 5)]
    ninety = Timetable(schedule_of(schedule(interval_minutes=90)))
    ninety.start(AT - HOUR)
    assert ninety.next_time(AT) == AT + 30 * MINUTE


def test_a_cron_line_is_in_utc_and_takes_the_default_s_place() -> None:
    """Each of its times once, also over a day on which clocks elsewhere are changed."""
    one = Timetable(schedule_of(schedule(cron="30 2 * * *")))
    march = datetime(2024, 3, 30, tzinfo=UTC)
    one.start(march)
    assert worked(one, march, march + 3 * DAY, 10 * MINUTE) == [march + n * DAY + 150 * MINUTE for n in range(3)]


@pytest.mark.parametrize("weekday", ["0", "7", "sun", "SUN"])
def test_sunday_is_sunday(weekday: str) -> None:
    """0 and 7 are Sunday, as in every crontab; so the default reconcile is on Sundays."""
    one = Timetable(reconcile_schedule(schedule(reconcile=f"0 4 * * {weekday}")))
    one.start(AT)
    assert one.next_time(AT) == datetime(2024, 5, 5, 4, tzinfo=UTC)
    assert one.next_time(AT).strftime("%A") == "Sunday"  # type: ignore[union-attr]


def test_never() -> None:
    """No schedule, no time."""
    one = Timetable(reconcile_schedule(schedule(reconcile="off")))
    one.start(AT)
    one.wait_until(AT)
    assert one.next_time(AT) is None
    assert not one.due(AT + 1000 * DAY)


def test_missed_times_are_one() -> None:
    """A process that slept for a day makes up for it once, and goes on from there."""
    one = hourly()
    woken = AT + DAY
    assert worked(one, woken, woken + HOUR + MINUTE) == [woken, woken + HOUR]


def test_work_that_takes_longer_than_the_interval() -> None:
    """What came due while it was under way is one more, at once."""
    one = hourly()
    one.start(AT + HOUR)
    assert one.due(AT + 5 * HOUR)
    one.start(AT + 5 * HOUR)
    assert not one.due(AT + 5 * HOUR + MINUTE)


@pytest.mark.parametrize("back", [MINUTE, HOUR, DAY, 400 * DAY])
@pytest.mark.parametrize("settings", [{}, {"cron": "15 * * * *"}])
def test_the_clock_steps_back(back: timedelta, settings: dict[str, object]) -> None:
    """However far, the next time is no further away than the schedule's own step."""
    one = Timetable(schedule_of(schedule(**settings)))
    one.start(AT)
    assert not one.due(AT + 5 * MINUTE)
    stepped = AT + 10 * MINUTE - back
    assert len(worked(one, stepped, stepped + HOUR + MINUTE)) >= 1


def test_the_clock_steps_forward() -> None:
    """One run for all that seems to be missed, and none is lost when it is set right again."""
    one = hourly()
    assert worked(one, AT + 100 * DAY, AT + 100 * DAY + 10 * MINUTE) == [AT + 100 * DAY]
    assert worked(one, AT + HOUR, AT + 3 * HOUR + MINUTE) == [AT + 2 * HOUR, AT + 3 * HOUR]


@pytest.mark.parametrize("drawn", [0.0, 0.5, 1.0])
def test_jitter_puts_each_time_off(drawn: float) -> None:
    """By its share of the most that it may be."""
    one = hourly(jitter_s=600, drawn=drawn)
    assert one.next_time(AT) == AT + HOUR + drawn * 10 * MINUTE


def test_jitter_is_drawn_anew_each_time() -> None:
    """Two times in a row are put off differently."""
    draws = iter([0.1, 0.9])
    one = Timetable(schedule_of(schedule()), None, 600, lambda: next(draws))
    assert [one.start(AT), one.next_time(AT)][1] == AT + HOUR + MINUTE
    assert [one.start(AT), one.next_time(AT)][1] == AT + HOUR + 9 * MINUTE


@pytest.mark.parametrize(
    ("quiet", "hour", "minute", "covered", "over"),
    [
        (NIGHT, 21, 59, False, (0, 21, 59)),
        (NIGHT, 22, 0, True, (1, 6, 0)),
        (NIGHT, 0, 0, True, (0, 6, 0)),
        (NIGHT, 5, 59, True, (0, 6, 0)),
        (NIGHT, 6, 0, False, (0, 6, 0)),
        (DAYTIME, 7, 59, False, (0, 7, 59)),
        (DAYTIME, 8, 0, True, (0, 18, 30)),
        (DAYTIME, 18, 30, False, (0, 18, 30)),
    ],
)
def test_quiet_hours(quiet: Quiet, hour: int, minute: int, covered: bool, over: tuple[int, int, int]) -> None:
    """Their begin belongs to them and their end does not, also over midnight."""
    day = AT.replace(hour=0)
    at = day + hour * HOUR + minute * MINUTE
    assert quiet.covers(at) is covered
    assert quiet.over(at) == day + over[0] * DAY + over[1] * HOUR + over[2] * MINUTE


def test_quiet_hours_are_in_utc() -> None:
    """A moment told with another offset is the same moment."""
    from datetime import timezone

    at = datetime(2024, 5, 1, 23, 0, tzinfo=timezone(2 * HOUR))  # 21:00 UTC
    assert not NIGHT.covers(at)
    assert NIGHT.covers(at + HOUR)


def test_nothing_in_quiet_hours_and_one_after_them() -> None:
    """All that came due in the night is one run in the morning."""
    begun = worked(hourly(NIGHT), AT, AT + DAY)
    assert begun == [AT + n * HOUR for n in (*range(1, 10), *range(18, 24))]
    assert [at.hour for at in begun][8:10] == [21, 6]


def test_jitter_never_leads_into_quiet_hours() -> None:
    """A time shortly before them that is put off into them comes after them."""
    one = hourly(NIGHT, jitter_s=1800, drawn=1.0)
    late = AT + 8 * HOUR + 45 * MINUTE
    one.start(late)
    assert one.next_time(late) == AT.replace(hour=6) + DAY


@hypothesis_settings(max_examples=50)
@given(
    at=st.datetimes(datetime(2024, 1, 1), datetime(2025, 1, 1), timezones=st.just(UTC)),
    looks=st.lists(st.timedeltas(-3 * DAY, 3 * DAY), max_size=20),
    drawn=st.floats(0, 1),
    quiet=st.sampled_from([None, NIGHT, DAYTIME]),
    settings=st.sampled_from([{}, {"interval_minutes": 1}, {"cron": "7 */5 * * *"}, {"cron": "0 3 * * mon"}]),
)
def test_whatever_the_clock_does(
    at: datetime, looks: list[timedelta], drawn: float, quiet: Quiet | None, settings: dict[str, object]
) -> None:
    """Due and the next time always agree, nothing is due in quiet hours, and no wait is too long."""
    plan = schedule_of(schedule(**settings))
    one = Timetable(plan, quiet, 60.0, lambda: drawn)
    one.start(at)
    for step in looks:
        at += step
        following = one.next_time(at)
        assert following is not None
        assert one.due(at) == (following <= at)
        bound = plan.get_next_fire_time(at, at) + MINUTE + (2 * DAY if quiet else timedelta(0))
        assert following <= bound
        if one.due(at):
            assert quiet is None or not quiet.covers(at)
            one.start(at)
            assert not one.due(at)


def agenda(**settings: object) -> Agenda:
    one = Agenda.of(schedule(**settings), lambda: 0.0)
    one.sync.start(AT)
    one.reconcile.start(AT)
    return one


def test_a_sync_comes_before_a_reconcile() -> None:
    """Both are due: first the one, then the other."""
    one = agenda(reconcile="30 12 * * *")
    at = AT + HOUR
    assert one.due(at, None) is Wants.SYNC
    one.sync.start(at)
    assert one.due(at, None) is Wants.RECONCILE
    one.reconcile.start(at)
    assert one.due(at, None) is None


def test_a_pause_holds_everything_back() -> None:
    """While it lasts nothing is due and nothing is free; after it what was missed is one run."""
    one, pause = agenda(), Pause(AT, AT + 5 * HOUR, "", "me")
    assert one.free(AT, None)
    assert not one.free(AT, pause)
    assert one.due(AT + 3 * HOUR, pause) is None
    assert one.next_sync(AT, pause) == AT + 5 * HOUR
    assert one.due(AT + 5 * HOUR, None) is Wants.SYNC


def test_the_next_time_of_a_pause() -> None:
    """None without an end; not before its end, nor in quiet hours."""
    one = agenda(quiet_hours="16:00-18:00")
    assert one.next_sync(AT, None) == AT + HOUR
    assert one.next_sync(AT, Pause(AT, None, "", "me")) is None
    assert one.next_sync(AT, Pause(AT, AT + MINUTE, "", "me")) == AT + HOUR
    assert one.next_sync(AT, Pause(AT, AT + 5 * HOUR, "", "me")) == AT + 6 * HOUR


def test_quiet_hours_hold_everything_back() -> None:
    """Also what has no time of its own."""
    one = agenda(quiet_hours="11:00-13:30")
    assert not one.free(AT, None)
    assert one.due(AT + HOUR, None) is None
    assert one.next_sync(AT, None) == AT + 90 * MINUTE
