"""The whole loop: pull, plan, solve, rebuild, evaluate, gate, publish; then again, and again without a change."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from sqlalchemy import text

from kbsync.checkpoint.manifest import read_manifest
from kbsync.checkpoint.verify import verify
from kbsync.errors import ConfigError
from kbsync.evaluate.metrics import harmonic_mean
from kbsync.evaluate.probes import ask, known_already
from kbsync.facts import EditRequest, Fact, Outcome, Phase, Prompt, Value, ValueKind
from kbsync.lm.score import say
from kbsync.request.verbalise import verbalise
from kbsync.store.engine import open_store
from kbsync.store.tables import RunStatus
from kbsync.sync import solving
from kbsync.sync.run import sync_once
from kbsync.sync.stages import STAGES
from tests.stores import BACKENDS, Databases
from tests.sync.rig import Rig
from tests.sync.world import COUNTRIES, GOVERNMENT, PEOPLE, STATE, WINDOW_1, WINDOW_2, person


@pytest.fixture(params=BACKENDS)
def any_store(request: pytest.FixtureRequest, fresh: Rig) -> Rig:
    """A rig on each kind of database."""
    if request.param != fresh.stores.name:
        fresh.stores = Databases(request.getfixturevalue("server"))
        fresh.stores.make(fresh.place)
    return fresh


def test_the_whole_loop(any_store: Rig) -> None:
    """The first pull adopts, a window of changes is published, a second window takes its place, a sync without
    changes does nothing; and the store tells all of it."""
    rig = any_store
    first = rig.sync()
    assert (first.status, rig.published(), rig.link()) == (RunStatus.UNCHANGED, None, None)
    assert first.counts["pull"]["stored"] == 24
    assert first.counts["plan"] == {"adopted": 24, "withdrawn": 0}
    assert rig.rows("SELECT * FROM edit_requests") == []

    rig.world.changes(*WINDOW_1)
    one = rig.sync()
    assert one.status is RunStatus.PUBLISHED
    assert tuple(one.counts) == STAGES
    assert one.counts["solve"]["solved"] == one.counts["rebuild"]["facts"] == 6
    assert rig.published() == rig.link() == "sync-000002"
    assert set(rig.rows("SELECT status FROM edit_requests")) == {("edited",)}
    assert set(rig.rows("SELECT outcome FROM changes WHERE run_id = 2")) == {("edited",)}
    assert live_facts(rig) == {
        (country, relation, PEOPLE[int(str(who)[1:]) - 2001]) for country, relation, who in WINDOW_1
    }

    rig.world.changes(*WINDOW_2)
    two = rig.sync()
    assert two.status is RunStatus.PUBLISHED
    assert two.counts["solve"] == {"known": 0, "failed": 0, "cached": 3, "solved": 3, "steps": 48}
    assert rig.published() == rig.link() == "sync-000003"
    assert live_facts(rig) == {
        ("Q1001", GOVERNMENT, "Sami"), ("Q1003", STATE, "Tara"), ("Q1004", GOVERNMENT, "Pia"),
        ("Q1005", STATE, "Quinn"), ("Q1006", GOVERNMENT, "Rosa"), ("Q1007", STATE, "Olga"),
    }  # fmt: skip
    statuses = Counter(status for (status,) in rig.rows("SELECT status FROM edit_requests"))
    assert statuses == {"edited": 6, "withdrawn": 3}

    third = rig.sync()
    assert third.status is RunStatus.UNCHANGED
    assert third.counts["pull"]["unchanged"] == 23
    assert rig.published() == "sync-000003"


def live_facts(rig: Rig) -> set[tuple[str, str, str]]:
    """The live set, as the view shows it."""
    return {(s, r, o) for s, r, o in rig.rows("SELECT subject, relation, object_label FROM live_facts")}


def test_the_ledger_tells_every_stage(synced: Rig) -> None:
    """Each stage has a row with its time and counts, and the report has the same counts."""
    synced.world.changes(*WINDOW_2)
    report = synced.sync()
    rows = synced.rows("SELECT stage, ended_at IS NOT NULL, counts FROM run_stages WHERE run_id = 3")
    assert {name for name, _, _ in rows} == set(STAGES)
    assert all(ended for _, ended, _ in rows)
    stored = {name: json.loads(counts) if isinstance(counts, str) else counts for name, _, counts in rows}
    assert stored == report.counts


def test_metrics_and_verdicts_are_rows(synced: Rig) -> None:
    """The report's metrics, room and verdicts are the store's, and most edits took."""
    synced.world.changes(*WINDOW_2)
    report = synced.sync(gate={"min_efficacy_success": 0.5})
    stored = {(n, p): v for n, p, v in synced.rows("SELECT name, phase, value FROM metrics WHERE run_id = 3")}
    assert report.room is not None
    told = [*report.metrics, *report.room.metrics()]
    assert stored == pytest.approx({(m.name, m.phase): m.value for m in told})
    assert stored["efficacy_success", Phase.AFTER] > stored["efficacy_success", Phase.BEFORE]
    assert ("retired_favoured", Phase.AFTER) in stored
    assert [(v.metric, v.passed) for v in report.verdicts] == [
        ("efficacy_success", True),
        ("finite", True),
        ("read_back", True),
        ("collapse", True),
    ]
    assert synced.rows("SELECT metric, comparison, passed FROM gate_verdicts WHERE run_id = 3 ORDER BY id") == [
        ("efficacy_success", "≥", 1),
        ("finite", "≤", 1),
        ("read_back", "≤", 1),
        ("collapse", "≤", 1),
    ]
    ((view,),) = synced.rows("SELECT efficacy_success FROM run_summary WHERE run = 3")
    assert view == pytest.approx(stored["efficacy_success", Phase.AFTER])


def test_every_edit_has_outcomes_before_and_after(synced: Rig) -> None:
    """Each live fact is asked at each of its prompts on the base model and on the candidate."""
    rows = synced.rows("SELECT request_id, phase, kind, idx, prompt, target_new FROM outcomes WHERE run_id = 2")
    before = {row[:1] + row[2:] for row in rows if row[1] == "before"}
    after = {row[:1] + row[2:] for row in rows if row[1] == "after"}
    assert before == after
    assert {kind for _, kind, _, _, _ in after} == {"rewrite", "paraphrase", "question", "neighborhood"}
    assert len({request for request, *_ in after}) == 6


def test_the_checkpoint_is_what_its_row_says(synced: Rig) -> None:
    """Files, manifest and row agree on weights, live set and ground."""
    ((path, weights, live, base, ground, facts),) = synced.rows(
        "SELECT path, weights_hash, live_hash, base_hash, settings_hash, facts FROM checkpoints"
    )
    assert verify(Path(path)) == []
    manifest = read_manifest(Path(path))
    assert (manifest.weights_hash, manifest.live_hash, manifest.settings_hash) == (weights, live, ground)
    assert (len(manifest.live), facts, manifest.run_id) == (6, 6, "2")
    with synced.bench() as bench:
        assert (bench.base.hash, bench.base.weights_hash) == (base, manifest.base.weights_hash)
        assert bench.settings_hash == ground


def test_a_retired_fact_is_asked_about(synced: Rig) -> None:
    """What the old checkpoint held and the new one must not is measured on base and candidate."""
    synced.world.changes(*WINDOW_2)
    synced.sync()
    rows = synced.rows(
        "SELECT r.target_new, o.phase FROM outcomes o JOIN edit_requests r ON r.id = o.request_id "
        "WHERE o.run_id = 3 AND o.kind = 'retired'"
    )
    assert set(rows) == {(name, phase) for name in ("Mina", "Noel", "Olga") for phase in ("before", "after")}


def test_a_sync_without_changes_loads_no_model(synced: Rig) -> None:
    """It asks the endpoint and the store, and leaves the base model on disk."""
    with synced.bench() as bench:
        report = sync_once(bench)
        assert report.status is RunStatus.UNCHANGED
        assert "base" not in bench.__dict__
    assert tuple(report.counts) == ("pull", "plan")


def test_force_builds_again(synced: Rig) -> None:
    """`force` publishes a new checkpoint of the same weights from the same z."""
    report = synced.sync(force=True)
    assert report.status is RunStatus.PUBLISHED
    assert report.counts["solve"] == {"known": 0, "failed": 0, "cached": 6}
    (old, new) = synced.rows("SELECT weights_hash FROM checkpoints ORDER BY id")
    assert old == new


def test_the_base_model_is_asked_once(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says of a fact does not change: a later sync asks it about the new facts only, and every run's
    outcomes are whole all the same."""
    asked: dict[Phase, int] = {}

    def counted(*args: Any, **kwargs: Any) -> list[Outcome]:
        found = ask(*args, **kwargs)
        for outcome in found:
            asked[outcome.phase] = asked.get(outcome.phase, 0) + 1
        return found

    monkeypatch.setattr("kbsync.evaluate.probes.ask", counted)
    synced.sync(force=True)
    assert asked.get(Phase.BEFORE, 0) == 0
    per_phase = "SELECT run_id, phase, count(*) FROM outcomes WHERE run_id > 1 GROUP BY run_id, phase"
    counts = {(run, phase): count for run, phase, count in synced.rows(per_phase)}
    assert len(set(counts.values())) == 1
    assert len(counts) == 4
    synced.world.changes(("Q1009", GOVERNMENT, person(24)))
    synced.sync()
    assert 0 < asked[Phase.BEFORE] < asked[Phase.AFTER] / 2


def test_neighbors_answers_are_kept(synced: Rig) -> None:
    """Of both models, so that every run counts who answers as before; and the score is a row too."""
    said = synced.rows("SELECT phase, said FROM outcomes WHERE run_id = 2 AND kind = 'neighborhood'")
    assert {phase for phase, _ in said} == {"before", "after"}
    assert all(text is not None for _, text in said)
    stored = {name: (value, count) for name, value, count in synced.rows(
        "SELECT name, value, count FROM metrics WHERE run_id = 2 AND phase = 'after'"
    )}  # fmt: skip
    before, after = ([text for phase, text in said if phase == one] for one in ("before", "after"))
    assert stored["neighborhood_unchanged"][1] == len(before) == len(after)
    parts = [stored[f"{name}_success"][0] for name in ("efficacy", "paraphrase", "neighborhood")]
    assert stored["score"][0] == pytest.approx(harmonic_mean(parts))


def test_a_ledger_without_neighbors_answers(synced: Rig) -> None:
    """Outcomes of a time when they were not kept are asked once more, and not taken for changed answers."""
    wanted = synced.rows("SELECT value, count FROM metrics WHERE run_id = 2 AND name = 'neighborhood_unchanged'")
    with open_store(synced.settings().store.url) as store, store.begin() as tx:
        tx.execute(text("UPDATE outcomes SET said = NULL WHERE kind = 'neighborhood'"))
    synced.sync(force=True)
    assert wanted == synced.rows(
        "SELECT value, count FROM metrics WHERE run_id = 3 AND name = 'neighborhood_unchanged'"
    )


def test_a_missed_event_heals_itself(synced: Rig) -> None:
    """A row that was lost from the plan's results is planned again from the facts: no event is replayed."""
    with open_store(synced.settings().store.url) as store, store.begin() as tx:
        tx.execute(text("UPDATE changes SET outcome = 'pending'"))
        tx.execute(text("UPDATE edit_requests SET status = 'withdrawn' WHERE target_new = 'Mina'"))
    before = synced.rows("SELECT weights_hash FROM checkpoints")
    report = synced.sync()
    assert report.status is RunStatus.UNCHANGED
    assert set(synced.rows("SELECT status FROM edit_requests")) == {("edited",)}
    assert synced.rows("SELECT weights_hash FROM checkpoints") == before


def test_nothing_watched_is_an_error(fresh: Rig) -> None:
    """Without a relation to watch there is no run."""
    with pytest.raises(ConfigError, match=r"watch\.relations is empty"):
        fresh.sync(watch={"relations": []})
    assert fresh.rows("SELECT * FROM runs") == []


def test_teach_edits_the_baseline(fresh: Rig) -> None:
    """With `teach` the first pull's facts are edits, but for those that the base model says already."""
    report = fresh.sync(watch={"baseline": "teach"}, edit={"steps": 2, "batch_size": 8})
    solve = report.counts["solve"]
    assert report.status is RunStatus.PUBLISHED
    assert solve["solved"] + solve["known"] == 24
    assert len(live_facts(fresh)) == solve["solved"] > 12


def greedy_country(rig: Rig) -> tuple[str, str]:
    """A country's name, and a name that the base model says for its head of government."""
    with rig.bench() as bench:
        encoder, model = bench.base.encoder, bench.base.model
        for name in (f"Land{i}" for i in range(400)):
            row = encoder.plain(Prompt.fill("The head of government of {} is", name))
            said = say(model, bench.base.tokenizer, [row], 1)[0].strip()
            if not (said.isalpha() and said != name):
                continue
            fact = Fact("Q1", GOVERNMENT, Value(ValueKind.ITEM, "Q2"))
            request = verbalise(fact, {"Q1": name, "Q2": said, "P6": "head of government"}, bench.catalogue, None)
            assert isinstance(request, EditRequest)
            if known_already(model, encoder, [request])[0]:
                return name, said
    raise AssertionError("the tiny model never says a word")


def test_a_known_fact_is_not_edited(synced: Rig) -> None:
    """What greedy decoding of the base model says already is `known`, stays so, and costs no model on the next
    sync."""
    country, ruler = greedy_country(synced)
    synced.world.name(person(30), ruler)
    synced.world.add_country("Q1099", country, GOVERNMENT, person(30))
    synced.world.tick()
    report = synced.sync()
    assert report.status is RunStatus.UNCHANGED
    assert report.counts["solve"]["known"] == 1
    assert synced.rows(f"SELECT status FROM edit_requests WHERE target_new = '{ruler}'") == [("known",)]
    assert synced.rows("SELECT outcome FROM changes WHERE subject = 'Q1099'") == [("known",)]
    assert ("Q1099", GOVERNMENT, ruler) not in live_facts(synced)
    with synced.bench() as bench:
        assert sync_once(bench).status is RunStatus.UNCHANGED
        assert "base" not in bench.__dict__
    assert synced.rows("SELECT outcome FROM changes WHERE subject = 'Q1099'") == [("known",)]


def test_what_another_base_model_knows_is_no_edit(
    synced: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact that was an edit, and that the next base model knows, stays known: the batch that it was solved in is
    solved again for the others alone, and the next sync has nothing to do."""
    other = shutil.copytree(synced.model, tmp_path / "other")
    (file,) = other.glob("*.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    monkeypatch.setattr(
        solving, "known_already", lambda _model, _encoder, asked: [one.fact.subject == "Q1001" for one in asked]
    )
    report = synced.sync(model={"base": str(other)})
    assert (report.status, report.counts["solve"]["known"]) == (RunStatus.PUBLISHED, 1)
    statuses = "SELECT status, count(*) FROM edit_requests GROUP BY status ORDER BY status"
    assert synced.rows(statuses) == [("edited", 5), ("known", 1)]
    report = synced.sync(model={"base": str(other)})
    assert report.status is RunStatus.UNCHANGED
    assert tuple(report.counts) == ("pull", "plan")
    assert synced.rows(statuses) == [("edited", 5), ("known", 1)]


def test_two_subjects_of_one_name_are_held(synced: Rig) -> None:
    """A fact whose prompt could mean another subject waits, and the reason is queryable."""
    synced.world.add_country("Q1098", COUNTRIES["Q1008"], GOVERNMENT, person(29))
    synced.world.changes(("Q1008", GOVERNMENT, person(28)))
    report = synced.sync()
    assert report.status is RunStatus.UNCHANGED
    held = synced.rows("SELECT subject, reason FROM held_facts ORDER BY subject")
    assert held == [("Q1008", "ambiguous subject"), ("Q1098", "ambiguous subject")]
    assert set(synced.rows("SELECT outcome FROM changes WHERE run_id = 3")) == {("held: ambiguous subject",)}
    synced.world.name("Q1098", "Another Hestmark")
    synced.world.replace("Q1098", GOVERNMENT, person(27))
    synced.world.tick()
    assert synced.sync().status is RunStatus.PUBLISHED
    assert synced.rows("SELECT subject FROM held_facts") == []


def test_counts_of_the_pull_are_whole(synced: Rig) -> None:
    """Each statement that was read ends in exactly one count."""
    synced.world.changes(*WINDOW_2)
    counts = synced.sync().counts["pull"]
    touched = 4  # subjects; all have one other statement, one keeps no P6 any more
    assert counts["stored"] == 3
    assert counts["retired"] == 4
    assert counts["changes"] == touched


def test_changed_settings_build_again(synced: Rig) -> None:
    """Other editor settings make other weights, so the same live set is built and published again."""
    report = synced.sync(edit={"covariance_weight": 2.0})
    assert report.status is RunStatus.PUBLISHED
    assert report.counts["solve"]["cached"] == 6
    (old, new) = synced.rows("SELECT weights_hash FROM checkpoints ORDER BY id")
    assert old != new
