"""The synced weights are a function of base model, settings and live set; z is a function of less, and cached."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import text

from kbsync.checkpoint.tensors import tensors_hash
from kbsync.checkpoint.verify import read_checkpoint
from kbsync.edit.target import Target, TargetSolver
from kbsync.facts import EditRequest
from kbsync.settings import EditSettings
from kbsync.store import checkpoints, targets
from kbsync.store.engine import open_store
from kbsync.store.tables import RunStatus
from kbsync.sync.clock import now
from kbsync.sync.inspect import find_checkpoint, verify_checkpoint
from kbsync.sync.solving import load_targets
from tests.sync.conftest import Site
from tests.sync.rig import Rig
from tests.sync.world import STATE, WINDOW_1, WINDOW_2, person, reversed_windows


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rewrite prompts that were solved while the test ran."""
    texts: list[str] = []
    solve = TargetSolver.solve

    def counting(self: TargetSolver, requests: Sequence[EditRequest]) -> list[Target]:
        texts.extend(request.rewrite.text for request in requests)
        return solve(self, requests)

    monkeypatch.setattr(TargetSolver, "solve", counting)
    return texts


def weights(rig: Rig) -> str:
    """The hash of the published weights, as the checkpoint's files have them."""
    ((path,),) = rig.rows(
        "SELECT c.path FROM publications p JOIN checkpoints c ON c.id = p.checkpoint_id WHERE p.ended_at IS NULL"
    )
    return tensors_hash(read_checkpoint(Path(path))[1])


def give_targets(source: Rig, to: Rig) -> None:
    """Put one store's z into another that has solved nothing."""
    with open_store(source.settings().store.url) as store, store.read() as tx:
        found = targets.load_targets(tx, [z for (z,) in source.rows("SELECT z_hash FROM targets")])
    with open_store(to.settings().store.url) as store, store.begin() as tx:
        assert targets.save_targets(tx, 1, now(), list(found.values())) == len(found)


def test_order_and_history_leave_no_trace(rig: Rig, synced: Rig) -> None:
    """A store that saw both windows at once, in another order, publishes the same bits as one that saw them one
    after the other, given the same z."""
    synced.world.changes(*WINDOW_2)
    synced.sync()
    history = weights(synced)

    rig.world.reset()
    give_targets(synced, rig)
    rig.world.changes(*reversed_windows(WINDOW_1, WINDOW_2))
    report = rig.sync()
    assert report.counts["solve"]["cached"] == 6
    assert weights(rig) == history


def test_rebuilding_in_another_order_gives_the_same_bits(synced: Rig) -> None:
    """A checkpoint built again from the store, its facts shuffled, is the same bit for bit."""
    with synced.bench() as bench:
        assert verify_checkpoint(bench, None, rebuild=True) == []


def test_no_order_of_many_facts_shows_in_the_bits(fresh: Rig) -> None:
    """Two dozen facts, repaired in batches, give the same weights in any order."""
    taught = {"watch": {"baseline": "teach"}, "edit": {"batch_size": 5, "repair_rounds": 3}}
    fresh.sync(**taught)
    with fresh.bench(**taught) as bench:
        checkpoint = find_checkpoint(bench, None)
        with bench.store.read() as tx:
            live = [stored.request for stored in checkpoints.held_requests(tx, checkpoint.id)]
        assert len(live) > 20
        for seed in range(3):
            random.Random(seed).shuffle(live)
            rebuilt = bench.editor.rebuild(live, load_targets(bench, live))
            assert len(rebuilt.misses) > 1  # a round of repair was kept: its batches are part of the bits
            assert tensors_hash(rebuilt.tensors) == checkpoint.weights_hash


def test_a_rebuild_that_differs_is_found(synced: Rig) -> None:
    """The check can fail: with one z changed in the store, the rebuilt weights are other ones."""
    ((z_hash, vector),) = synced.rows("SELECT z_hash, vector FROM targets ORDER BY z_hash LIMIT 1")
    moved = (torch.frombuffer(bytearray(vector), dtype=torch.float32) * 1.01).numpy().tobytes()
    with open_store(synced.settings().store.url) as store, store.begin() as tx:
        tx.execute(text("UPDATE targets SET vector = :v WHERE z_hash = :z"), {"v": moved, "z": z_hash})
    with synced.bench() as bench:
        (problem,) = verify_checkpoint(bench, "sync-000002", rebuild=True)
        assert "gave other weights" in problem
        assert verify_checkpoint(bench, "sync-000002") == []


def test_other_settings_can_not_be_compared(synced: Rig) -> None:
    """A rebuild under other settings says so, instead of calling the checkpoint wrong."""
    with synced.bench(edit={"covariance_weight": 3.0}) as bench:
        (problem,) = verify_checkpoint(bench, None, rebuild=True)
    assert "other editor settings" in problem


def test_a_retired_fact_leaves_no_trace(rig: Rig, synced: Rig) -> None:
    """After a fact is retired, the weights are those of a store that never had it."""
    gone = WINDOW_1[1]
    synced.world.changes((gone[0], gone[1], None))
    synced.sync()
    after = weights(synced)

    rig.world.reset()
    give_targets(synced, rig)
    rig.world.changes(*(change for change in WINDOW_1 if change != gone))
    rig.sync()
    assert weights(rig) == after


def test_all_facts_retired_is_the_base_model(synced: Rig) -> None:
    """With nothing left to hold, the published weights are the base model's own."""
    synced.world.changes(*((country, relation, None) for country, relation, _ in WINDOW_1))
    report = synced.sync()
    assert report.status is RunStatus.PUBLISHED
    assert report.checkpoint is not None
    base = load_file(synced.model / "model.safetensors")
    published = load_file(report.checkpoint / "edited.safetensors")
    assert published
    assert all(tensor.equal(base[name]) for name, tensor in published.items())
    assert synced.rows("SELECT * FROM live_facts") == []


def test_z_is_solved_once(synced: Rig, solved: list[str]) -> None:
    """A fact that comes back costs no solve."""
    country, relation, who = WINDOW_1[0]
    no_repair = {"edit": {"repair_rounds": 0}}
    synced.world.changes((country, relation, person(21)))
    synced.sync(**no_repair)
    assert solved == ["The head of government of Arland is"]
    del solved[:]
    synced.world.changes((country, relation, who))
    report = synced.sync(**no_repair)
    assert report.status is RunStatus.PUBLISHED
    assert solved == []
    assert report.counts["solve"]["cached"] == 6
    assert (country, relation, "Mina") in {
        (s, r, o) for s, r, o in synced.rows("SELECT subject, relation, object_label FROM live_facts")
    }


def test_one_fact_in_many_windows_is_solved_alone(synced: Rig, solved: list[str]) -> None:
    """A window solves its own changes only, and rebuilds with all facts."""
    synced.world.changes(("Q1010", STATE, person(25)))
    report = synced.sync(edit={"repair_rounds": 0})
    assert solved == ["The head of state of Jorvik is"]
    assert report.counts["rebuild"]["facts"] == 7


def test_a_renamed_object_is_solved_anew(synced: Rig, solved: list[str]) -> None:
    """z belongs to the words: a new label is a new request, and the old one is withdrawn."""
    country, relation, who = WINDOW_1[0]
    assert who is not None
    synced.world.name(who, "Mina II")
    synced.world.changes((country, relation, who))
    synced.sync(edit={"repair_rounds": 0})
    assert solved == ["The head of government of Arland is"]
    assert set(synced.rows("SELECT target_new, status FROM edit_requests WHERE subject = 'Q1001'")) == {
        ("Mina", "withdrawn"),
        ("Mina II", "edited"),
    }


def settings_of_z() -> Iterator[tuple[str, object, bool]]:
    """A key of `[edit]`, another value of it, and whether z depends on it."""
    yield "clamp", 4.0, True
    yield "contexts", ["question"], True
    yield "steps", 24, True
    yield "stop_loss", 0.03, True
    yield "kl_weight", 0.1, True
    yield "others_weight", 0.1, True
    yield "decay", 0.4, True
    yield "prefixes", 1, True
    yield "contexts", ["bare", "chat"], True
    yield "key_contexts", ["sentence"], False
    yield "layers", [0], True
    yield "solve_dtype", "bfloat16", True
    yield "covariance_weight", 2.0, False
    yield "covariance_facts", 3, False
    yield "bystander_weight", 1.0, False
    yield "mean_weight", 0.5, False
    yield "repair_rounds", 0, False
    yield "repair_contexts", ["question"], False
    yield "batch_size", 3, False


@pytest.fixture(scope="module")
def plain_hashes(site: Site) -> tuple[str, str]:
    """The hashes of weights and of z under the rig's own settings."""
    with site.rig.bench() as bench:
        return bench.settings_hash, bench.target_hash


@pytest.mark.parametrize(("key", "value", "of_z"), list(settings_of_z()), ids=lambda one: str(one))
def test_every_setting_is_in_the_hash(
    site: Site, plain_hashes: tuple[str, str], key: str, value: object, of_z: bool
) -> None:
    """Each editor setting changes the hash of the weights, and that of z exactly when z depends on it."""
    with site.rig.bench(edit={key: value}) as bench:
        found = bench.settings_hash, bench.target_hash
    assert found[0] != plain_hashes[0]
    assert (found[1] != plain_hashes[1]) is of_z


def test_the_settings_above_are_all() -> None:
    """No editor setting was forgotten; the seed speaks through the prefixes that it draws."""
    assert {key for key, _, _ in settings_of_z()} | {"seed"} == set(EditSettings.model_fields)


def test_z_is_kept_per_settings(synced: Rig, solved: list[str]) -> None:
    """Other solver settings solve anew; the old settings find their z again."""
    other = {"edit": {"steps": 3, "repair_rounds": 0}}
    synced.sync(**other)
    assert len(solved) == 6
    del solved[:]
    report = synced.sync(edit={"repair_rounds": 0})
    assert solved == []
    assert report.status is RunStatus.PUBLISHED
    assert len(synced.rows("SELECT * FROM targets")) == 12
