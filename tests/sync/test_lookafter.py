"""Looking after models: rollback, damage, export, and asking both."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kbsync.checkpoint.tensors import apply_tensors, tensors_hash
from kbsync.checkpoint.verify import read_checkpoint
from kbsync.errors import CheckpointError, ConfigError, Stopped, StoreError
from kbsync.store.tables import RunStatus
from kbsync.sync import solving
from kbsync.sync.answer import answer
from kbsync.sync.inspect import export_checkpoint, find_checkpoint, verify_checkpoint
from kbsync.sync.rollback import roll_back
from tests.sync import tiny_model
from tests.sync.rig import Rig
from tests.sync.world import WINDOW_2, book


@pytest.fixture
def twice(synced: Rig) -> Rig:
    """Two checkpoints were published."""
    synced.world.changes(*WINDOW_2)
    synced.sync()
    return synced


def test_back_to_the_one_before(twice: Rig) -> None:
    """Row and link lead to the model that was live before; the next sync publishes what the facts want."""
    with twice.bench() as bench:
        publication = roll_back(bench, keep_syncing=True).publication
    assert publication.checkpoint is not None
    assert twice.published() == twice.link() == publication.checkpoint.name == "sync-000002"
    assert twice.rows("SELECT count(*) FROM live_facts WHERE object_label = 'Mina'") == [(1,)]
    report = twice.sync()
    assert report.status is RunStatus.PUBLISHED
    assert "solved" not in report.counts["solve"]
    assert twice.published() == twice.link() == "sync-000004"
    (second, fourth) = twice.rows("SELECT weights_hash FROM checkpoints WHERE id > 1 ORDER BY id")
    assert second == fourth


def test_back_to_the_base_model(twice: Rig) -> None:
    """Without a checkpoint there is no link; the next sync publishes again."""
    with twice.bench() as bench:
        publication = roll_back(bench, base=True, keep_syncing=True).publication
    assert publication.checkpoint is None
    assert (twice.published(), twice.link()) == (None, None)
    assert twice.rows("SELECT * FROM live_facts") == []
    assert twice.sync().status is RunStatus.PUBLISHED
    assert twice.published() == twice.link() == "sync-000004"


def test_back_to_a_named_one(twice: Rig) -> None:
    """A name leads there; a name that nothing has is an error that changes nothing."""
    with twice.bench() as bench:
        with pytest.raises(StoreError):
            roll_back(bench, to="sync-000099")
        assert twice.published() == twice.link() == "sync-000003"
        roll_back(bench, to="sync-000002")
        assert twice.published() == twice.link() == "sync-000002"
        roll_back(bench, to="sync-000003")
    assert twice.published() == twice.link() == "sync-000003"
    assert twice.sync().status is RunStatus.UNCHANGED


def test_rolled_back_to_other_settings(synced: Rig) -> None:
    """A rollback to a model of the same facts but other settings is not taken for what the settings want."""
    synced.sync(edit={"covariance_weight": 2.0})
    with synced.bench() as bench:
        roll_back(bench, to="sync-000002")
    report = synced.sync(edit={"covariance_weight": 2.0})
    assert report.status is RunStatus.PUBLISHED


def test_no_way_back(rig: Rig) -> None:
    """Before anything was published there is nothing to go back to."""
    with rig.bench() as bench, pytest.raises(StoreError):
        roll_back(bench)


def test_no_way_back_to_damage(twice: Rig) -> None:
    """A checkpoint whose bytes changed can't go live again, and verify says so."""
    file = twice.checkpoints / "sync-000002" / "edited.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    with twice.bench() as bench:
        assert verify_checkpoint(bench, "sync-000002") != []
        with pytest.raises(CheckpointError, match="can't go live again"):
            roll_back(bench)
    assert twice.published() == twice.link() == "sync-000003"


def test_a_run_identified_and_killed_settles_nothing(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped right after it had noted other settings is not taken for one that applied them."""

    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    other = {"edit": {"covariance_weight": 2.0}}
    with monkeypatch.context() as patch:
        patch.setattr(solving, "solve", ctrl_c)
        with pytest.raises(Stopped):
            synced.sync(**other)
    assert synced.sync(**other).status is RunStatus.PUBLISHED


def test_an_export_is_a_plain_model(synced: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Plain transformers loads it without a word, and it says what base model plus edited tensors say."""
    with synced.bench() as bench:
        before = tensors_hash(dict(bench.base.model.named_parameters()))
        out = export_checkpoint(bench, None, tmp_path / "export")
        assert tensors_hash(dict(bench.base.model.named_parameters())) == before
        _, tensors = read_checkpoint(Path(find_checkpoint(bench, None).path))
        ids = torch.tensor([bench.base.encoder.text_ids("The head of government of Arland is")])
        plain = bench.base.model(ids).logits
        apply_tensors(bench.base.model, tensors)
        wanted = bench.base.model(ids).logits
    with caplog.at_level(logging.WARNING):
        model = AutoModelForCausalLM.from_pretrained(out).eval()
        tokenizer = AutoTokenizer.from_pretrained(out)
    assert caplog.records == []
    with torch.no_grad():
        found = model(ids).logits
    assert torch.equal(found, wanted)
    assert not torch.equal(found, plain)
    assert tokenizer("The head of government of Arland is").input_ids == ids[0].tolist()


def test_an_export_from_another_base_model(synced: Rig, tmp_path: Path) -> None:
    """A checkpoint of one base model is not written into another."""
    other = tiny_model.save(tmp_path / "other", book(), seed=9)
    edited = pytest.raises(CheckpointError, match="another base model")
    with synced.bench(model={"base": str(other)}) as bench, edited:
        export_checkpoint(bench, "sync-000002", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_nothing_published_to_find(rig: Rig) -> None:
    """While the base model is live there is no checkpoint to verify or export."""
    with rig.bench() as bench, pytest.raises(CheckpointError, match="no checkpoint is published"):
        find_checkpoint(bench, None)


EDITED = ("Arland", "Borovia", "Dorne", "Farrow")


@pytest.mark.parametrize("chat", [False, True])
def test_both_models_answer(synced: Rig, chat: bool) -> None:
    """After an edit base and synced model differ, and the loaded model is the base model again afterwards."""
    with synced.bench() as bench:
        before = tensors_hash(dict(bench.base.model.named_parameters()))
        found = [answer(bench, f"The head of government of {name} is", tokens=6, chat=chat) for name in EDITED]
        assert tensors_hash(dict(bench.base.model.named_parameters())) == before
    assert {one.checkpoint for one in found} == {"sync-000002"}
    assert any(one.base != one.synced for one in found)


def test_one_model_answers_while_base_is_live(rig: Rig) -> None:
    """Before the first publication both answers are the base model's."""
    with rig.bench() as bench:
        found = answer(bench, "  The head of state of Ilium is ", tokens=3)
        with pytest.raises(ConfigError, match="the prompt is empty"):
            answer(bench, " \n ")
    assert found.checkpoint is None
    assert found.prompt == "The head of state of Ilium is"
    assert found.base == found.synced
