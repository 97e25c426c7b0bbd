"""Tracing the store's facts: those that the model says, and no others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kbsync.cli.show import plain
from kbsync.edit.adapters import Adapter, critical_layers
from kbsync.errors import ConfigError, StoreError
from kbsync.settings import load_settings
from kbsync.sync.tracing import default_window, trace_facts
from kbsync.sync.workbench import Workbench
from tests.stores import chosen
from tests.sync.heads_of_government import COUNTRIES, KNOWN, SAID, fill, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a store."""
    made = tmp_path_factory.mktemp("traced")
    save_model(made / "model")
    fill(chosen().make(made / "kbsync.db"))
    return made


def workbench(folder: Path, store: str, **watch: object) -> Workbench:
    """A workbench on the model and one of the stores in the folder."""
    sections = {
        "model": {"base": str(folder / "model"), "cache": folder / "cache", "device": "cpu", "threads": 1},
        "watch": {"relations": ["P6"], **watch},
        "store": {"url": chosen().url(folder / f"{store}.db")},
    }
    return Workbench(load_settings(None, sections))


@pytest.fixture
def bench(folder: Path) -> Iterator[Workbench]:
    """On the store with facts."""
    with workbench(folder, "kbsync") as one:
        yield one


def test_known_facts_are_traced(bench: Workbench) -> None:
    """Each fact whose object greedy decoding says, and none of the others; all were asked."""
    found = trace_facts(bench, 100, samples=2, window=2, seed=1)
    assert {request.subject_label for request in found.requests} == set(COUNTRIES[:KNOWN])
    assert {request.target_new for request in found.requests} == {SAID}
    assert (len(found.traces), found.asked) == (KNOWN, len(COUNTRIES))
    assert found.relations == {"head of government": KNOWN}
    assert found.total.mean == pytest.approx(found.clean.mean - found.corrupted.mean)
    assert 0.01 < found.clean.mean < 0.99
    assert abs(found.total.mean) > 0.005  # the noise is heard
    assert 0.1 < found.deviation < 0.4  # the tiny model's embeddings have 0.2
    auto = critical_layers(Adapter(bench.base.model), "auto")
    assert (found.auto, found.configured, len(found.proposal)) == (auto, auto, len(auto))
    best = found.mlp_effect(found.proposal).mean
    assert best >= found.mlp_effect(found.auto).mean
    assert found.lead.mean == pytest.approx(best - found.mlp_effect(found.auto).mean)


def test_the_same_facts_every_time(bench: Workbench) -> None:
    """Few are the first of more, in an order of their own; one seed gives one result."""
    few, again = (trace_facts(bench, 2, samples=2, window=2, seed=1) for _ in range(2))
    more = trace_facts(bench, 4, samples=2, window=2, seed=1)
    assert few.requests == again.requests == more.requests[:2]
    other = trace_facts(bench, 2, samples=2, window=2, seed=2)
    for one, same, another in zip(few.traces, again.traces, other.traces, strict=True):
        assert torch.equal(one.effects, same.effects)
        assert not torch.allclose(one.effects, another.effects)


def test_configured_layers_stand_beside_the_proposal(folder: Path) -> None:
    """What edit.layers asks for is in the result when it is not `auto`."""
    settings = load_settings(None, {"edit": {"layers": [2]}})
    with workbench(folder, "kbsync") as bench:
        bench.settings = bench.settings.model_copy(update={"edit": settings.edit})
        found = trace_facts(bench, 2, samples=1, window=1, seed=1)
    assert found.configured == (2,)
    assert found.auto != found.configured


def test_the_json_has_every_number(bench: Workbench) -> None:
    """Kinds, roles and layers in one shape; what was not measured is null; a single fact has no error."""
    found = trace_facts(bench, 1, samples=1, window=2, seed=1)
    document = plain(found.as_json())
    assert list(document["effects"]) == ["hidden", "mlp", "attention"]
    for panel in document["effects"].values():
        assert [len(line) for line in panel["mean"]] == [4] * len(document["roles"])
        assert all(value is None for line in panel["error"] for value in line)
    middle = document["roles"][1]
    assert (middle["facts"] == 0) == (document["effects"]["mlp"]["mean"][1][0] is None)
    assert math.isnan(found.clean.error)
    assert document["clean"] == {"mean": found.traces[0].clean, "error": None}
    assert document["traced"][0]["object"] == SAID
    assert document["proposal"]["layers"] == list(found.proposal)


def test_a_store_without_facts(folder: Path) -> None:
    """One line that says to sync first; so too when none of the watched relations has been pulled."""
    chosen().make(folder / "empty.db")
    with workbench(folder, "empty") as bench, pytest.raises(StoreError, match=r"no facts .* `kbsync sync`"):
        trace_facts(bench, 5, samples=1, window=1, seed=1)
    with workbench(folder, "kbsync", relations=["P35"]) as bench, pytest.raises(StoreError, match="no facts"):
        trace_facts(bench, 5, samples=1, window=1, seed=1)


def test_a_model_that_knows_nothing(folder: Path) -> None:
    """One line that says how many facts were asked, and what to do."""
    with workbench(folder, "kbsync") as bench:
        bench.base.model.get_output_embeddings().weight.neg_()
        with pytest.raises(ConfigError, match=rf"none of the {len(COUNTRIES)} facts .* watch relations"):
            trace_facts(bench, 5, samples=1, window=1, seed=1)


def test_the_default_window_is_a_fifth_of_the_depth() -> None:
    """10 of GPT-2 XL's 48 layers, as in the paper; never none."""
    assert [default_window(layers) for layers in (48, 30, 28, 12, 4, 2)] == [10, 6, 6, 2, 1, 1]
