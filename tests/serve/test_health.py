"""When a process is alive, and when it can be relied on."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from kbsync.serve.health import hung, reasons
from kbsync.serve.view import view_of
from kbsync.settings import Settings
from kbsync.store import checkpoints, daemons
from kbsync.store.engine import Store
from kbsync.store.schema import VERSION_TABLE
from kbsync.sync.clock import now
from kbsync.sync.notify import Notifier
from kbsync.sync.progress import Silent
from kbsync.sync.pulse import Pulse, Ticking
from tests.serve.conftest import settings_of
from tests.stores import Stores


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def whole(store: Store, folder: Path) -> None:
    """Give the live model its files."""
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text("{}")
    with store.begin() as tx:
        tx.execute(text("UPDATE checkpoints SET path = :path"), {"path": str(folder)})


def test_every_step_is_a_sign_of_life() -> None:
    """Stages, counts and notes turn the pulse; time alone does not."""
    clock = Clock()
    pulse = Pulse(clock)
    felt = Ticking(Silent(), pulse, Notifier())

    def step() -> float:
        clock.now += 10
        return pulse.age_s()

    assert step() == 10
    with felt.stage("pull") as task:
        assert step() == 10, "entering the stage was a step"
        for tell in (lambda: task.advance(2), lambda: task.total(9), lambda: task.describe("P6")):
            tell()
            assert step() == 10
    assert step() == 10
    felt.note("a word")
    assert step() == 10
    assert step() == 20


def test_hung(settings: Settings) -> None:
    """Work that stands still for longer than it may is hung, unless nobody wants to know; a server has none."""
    clock = Clock()
    pulse = Pulse(clock)
    view = view_of(settings, lambda: True, pulse)
    clock.now = 3599
    assert hung(view) is None
    clock.now = 3601
    assert "stood still for 3601 s" in str(hung(view))
    assert any("stood still" in one for one in reasons(view))
    off = settings.model_copy(update={"serve": settings.serve.model_copy(update={"hung_after": "0"})})
    assert hung(view_of(off, lambda: True, pulse)) is None
    assert hung(view_of(settings)) is None


def test_ready_with_a_whole_model(settings: Settings, told: Store, tmp_path: Path) -> None:
    """The story's live model, with its files."""
    view = view_of(settings)
    assert "is not there; the next sync builds it again" in reasons(view)[0]
    whole(told, tmp_path / "model")
    assert reasons(view) == []


def test_a_damaged_model_is_not_ready(settings: Settings, told: Store, tmp_path: Path) -> None:
    """What was found to be wrong with its files is the reason."""
    whole(told, tmp_path / "model")
    with told.begin() as tx:
        live = checkpoints.live(tx)
        assert live is not None
        assert live.checkpoint is not None
        checkpoints.note_damage(tx, live.checkpoint.id, "one bit")
    assert reasons(view_of(settings)) == ["the live model is damaged: one bit; the next sync builds it again"]


def test_the_base_model_is_ready(url: str, tmp_path: Path) -> None:
    """Before anything was published the base model answers, on both databases."""
    assert reasons(view_of(settings_of(url, tmp_path))) == []


def test_standing_by_is_ready_only_where_somebody_leads(settings: Settings, told: Store, tmp_path: Path) -> None:
    """One that stands by is in order while another leads; without a leader it says so until it has taken over."""
    whole(told, tmp_path / "model")
    leading = False
    view = view_of(settings, lambda: leading, Pulse())
    assert view.role == "standby"
    assert "no daemon leads the store" in reasons(view)[0]
    with told.begin() as tx:
        daemons.start(tx, "elsewhere", 1, now())
    assert reasons(view) == []
    leading = True
    assert view.role == "leader"


@pytest.mark.parametrize(("version", "words"), [("9999", "newer schema"), ("0001", "kbsync db upgrade")])
def test_another_schema_is_not_ready(settings: Settings, told: Store, version: str, words: str) -> None:
    """A store that another program has upgraded while it was open, or put back."""
    view = view_of(settings)
    reasons(view)
    with told.begin() as tx:
        tx.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :version"), {"version": version})
    assert words in reasons(view)[0]


def test_no_store_is_not_ready(stores: Stores, tmp_path: Path) -> None:
    """Looking makes none."""
    said = {"sqlite": "there is no store", "postgres": "does not exist on the server; create it first"}
    view = view_of(settings_of(stores.missing(tmp_path / "none.db"), tmp_path))
    assert [said[stores.name] in reasons(view)[0] for _ in range(2)] == [True, True]
    assert not (tmp_path / "none.db").exists()
