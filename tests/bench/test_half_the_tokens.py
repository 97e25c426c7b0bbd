"""On the real model: half the tokens behind C would do as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.bench.covariance import bench_covariance
from kbsync.lm.load import BaseModel
from kbsync.settings import CovarianceSettings, load_settings
from kbsync.sync.workbench import Workbench


@pytest.mark.real
@pytest.mark.soak("model")
@pytest.mark.timeout(0)
def test_half_the_tokens_move_no_metric(embedded_base: BaseModel, test_cache: Path, tmp_path: Path) -> None:
    """With half of the default's tokens every metric of the same edits, and the perplexity ratio, stays in the 95 %
    interval that it has with all of them."""
    settings = load_settings(
        None,
        {
            "model": {"device": "cpu", "cache": test_cache},
            "covariance": {"facts_share": 0.0},
            "evaluate": {"neighbors": 2},
            "store": {"url": f"sqlite:///{tmp_path}/never.db"},
        },
    )
    tokens = CovarianceSettings().tokens
    with Workbench(settings) as bench:
        bench.base = embedded_base
        _, (half, whole) = bench_covariance(bench, 12, 0, (tokens // 2, tokens))
    assert (half.wanted.tokens, whole.wanted.tokens) == (tokens // 2, tokens)
    # What they are compared by is there, and says that the edits took: else nothing could move.
    assert {"efficacy_accuracy", "paraphrase_accuracy", "neighborhood_unchanged", "score"} <= set(whole.shares())
    assert whole.shares()["efficacy_accuracy"].value > 0.8
    assert half.drift.value != whole.drift.value
    assert whole.moved == ()
