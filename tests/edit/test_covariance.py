"""C against XᵀX/n by hand, kept by content, and resumed where it was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kbsync.edit import covariance, kept
from kbsync.edit.adapters import Adapter
from kbsync.edit.covariance import Covariance, CovarianceStore, compute_covariance, covariance_hash
from kbsync.edit.mixture import Mixture
from kbsync.errors import ConfigError, EditError
from kbsync.settings import CovarianceSettings
from tests.edit.setups import ENCODER
from tests.tiny import FAMILIES, tiny_model

TEXT = "The capital of France is Paris, and Łódź is a city.\n\nMarie Curie's occupation is physicist.\n\n" * 30


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of about two thousand tokens."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def sized(text: Path, tokens: int = 300, **more: Any) -> CovarianceSettings:
    """Settings over one file."""
    return CovarianceSettings(text=(text,), tokens=tokens, chunk_tokens=16, **more)


def compute(model: Any, settings: CovarianceSettings, folder: Path, base: str = "base", **more: Any) -> Covariance:
    """C of layers 0 and 2."""
    return compute_covariance(Adapter(model), ENCODER, base, (0, 2), settings, folder, **more)


def chunks_of(model: Any, settings: CovarianceSettings, folder: Path) -> list[list[int]]:
    """What `compute` reads."""
    mixture = Mixture(model, ENCODER, "base", settings, folder)
    return [chunk.ids for chunk in mixture.chunks()]


def by_hand(model: Any, chunks: list[list[int]], layer: int) -> Tensor:
    """XᵀX/n over the down-projection's inputs of each chunk alone."""
    X = []
    for chunk in chunks:
        seen: list[Tensor] = []
        down = Adapter(model).down(layer)
        handle = down.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        model(torch.tensor([chunk]))
        handle.remove()
        X.append(seen[0].reshape(len(chunk), -1))
    rows = torch.cat(X).double()
    return rows.T @ rows / len(rows)


class Counting:
    """Counts a model's forward passes through its first layer."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        Adapter(model).layers[0].register_forward_pre_hook(self._seen)

    def _seen(self, module: Any, args: Any) -> None:
        self.count += 1


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_second_moment_by_hand(family: str, text: Path, tmp_path: Path) -> None:
    """Batched, padded and cut off above the last layer, it is XᵀX/n of every token, BOS included."""
    model = tiny_model(family)
    settings = sized(text)
    found = compute(model, settings, tmp_path)
    chunks = chunks_of(model, settings, tmp_path)
    assert found.tokens == sum(map(len, chunks))
    assert found.sources == {"text": found.tokens}
    assert set(found.matrices) == {0, 2}
    for layer, matrix in found.matrices.items():
        assert matrix.dtype == torch.float64
        assert torch.equal(matrix, matrix.T)
        torch.testing.assert_close(matrix, by_hand(model, chunks, layer), rtol=1e-4, atol=1e-5)


class TestKept:
    """On disk, under a hash of what it depends on."""

    def test_the_second_time_nothing_is_computed(self, text: Path, tmp_path: Path) -> None:
        """Read from disk, the same bits, without one forward pass."""
        model = tiny_model()
        counting = Counting(model)
        first = compute(model, sized(text), tmp_path)
        ran = counting.count
        second = compute(model, sized(text), tmp_path)
        assert ran > 0
        assert counting.count == ran
        assert (second.tokens, second.hash, second.sources) == (first.tokens, first.hash, first.sources)
        assert all(torch.equal(second.matrices[layer], first.matrices[layer]) for layer in (0, 2))

    def test_only_whole_files_are_left(self, text: Path, tmp_path: Path) -> None:
        """No partial sums, no temporary files."""
        found = compute(tiny_model(), sized(text), tmp_path)
        assert [path.name for path in (tmp_path / "covariance").iterdir()] == [f"{found.hash[:32]}.safetensors"]

    def test_the_hash_names_all_that_it_depends_on(self) -> None:
        """Another model, layer, text or chunk size is another covariance."""
        hashes = {
            covariance_hash("base", (0, 2), "tokens", 16),
            covariance_hash("other", (0, 2), "tokens", 16),
            covariance_hash("base", (0, 1), "tokens", 16),
            covariance_hash("base", (0, 2), "other tokens", 16),
            covariance_hash("base", (0, 2), "tokens", 32),
        }
        assert len(hashes) == 5
        assert covariance_hash("base", [0, 2], "tokens", 16) in hashes

    def test_a_changed_text_is_computed_anew(self, text: Path, tmp_path: Path) -> None:
        """One more letter is enough."""
        first = compute(tiny_model(), sized(text), tmp_path)
        text.write_text("A" + TEXT, encoding="utf-8")
        assert compute(tiny_model(), sized(text), tmp_path).hash != first.hash

    @pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "no count"])
    def test_a_damaged_file_is_named(self, damage: str, text: Path, tmp_path: Path) -> None:
        """It is not silently computed anew, and never used."""
        found = compute(tiny_model(), sized(text), tmp_path)
        store = CovarianceStore(tmp_path)
        path = store.path(found.hash)
        data = path.read_bytes()
        if damage == "no count":
            save_file({"0": torch.zeros(2, 2)}, path)  # which would be read as a covariance of no tokens
        else:
            path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "garbage": b"\xff" * 200}[damage])
        with pytest.raises(EditError, match=r"is damaged .*kbsync covariance"):
            compute(tiny_model(), sized(text), tmp_path)

    def test_a_folder_that_can_not_be_written(self, text: Path, tmp_path: Path) -> None:
        """A named error, not a traceback."""
        (tmp_path / "covariance").write_text("a file is in the way")
        with pytest.raises(EditError, match="can't be written"):
            compute(tiny_model(), sized(text), tmp_path)


class TestResumed:
    """Killed anywhere, it ends in the same bits."""

    @pytest.fixture(autouse=True)
    def _saved_after_each_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(covariance, "_SAVE_AFTER_S", 0.0)
        monkeypatch.setattr(covariance, "_SAVE_SHARE", 0.0)
        monkeypatch.setattr(covariance, "together", lambda adapter, longest: 8)

    @pytest.mark.parametrize("after", [1, 2, 3])
    def test_a_killed_computation_ends_in_the_same_bits(self, after: int, text: Path, tmp_path: Path) -> None:
        """What was saved is not computed again, and the result can't be told from one that was not killed."""
        settings = sized(text, 600)  # five batches of eight chunks
        whole = compute(tiny_model(), settings, tmp_path / "whole")
        last = killed(settings, tmp_path / "killed", after)
        model = tiny_model()
        counting = Counting(model)
        again: list[tuple[int, int]] = []
        resumed = compute(model, settings, tmp_path / "killed", on_tokens=lambda a, b: again.append((a, b)))
        assert counting.count == 5 - after
        assert again[0][0] > last
        assert again[-1] == (resumed.tokens, resumed.tokens)
        assert all(torch.equal(resumed.matrices[layer], whole.matrices[layer]) for layer in (0, 2))
        assert not list((tmp_path / "killed").rglob("*.part"))

    @pytest.mark.parametrize("damage", ["garbage", "empty", "no counts", "a layer less", "another shape", "nan"])
    def test_damaged_partial_sums_are_thrown_away(self, damage: str, text: Path, tmp_path: Path) -> None:
        """They are computed from the start, with the same result."""
        settings = sized(text, 300)
        whole = compute(tiny_model(), settings, tmp_path / "whole")
        killed(settings, tmp_path / "other", 1)
        (partial,) = (tmp_path / "other").rglob("*.part")
        tensors = load_file(partial)
        if damage == "no counts":
            del tensors["counts"]
        elif damage == "a layer less":
            del tensors["2"]
        elif damage == "another shape":
            tensors["0"] = tensors["0"][:5]
        elif damage == "nan":
            tensors["2"][0, 3] = torch.nan
        if damage in ("garbage", "empty"):
            partial.write_bytes(b"half a file" if damage == "garbage" else b"")
        else:
            save_file(tensors, partial)
        model = tiny_model()
        counting = Counting(model)
        found = compute(model, settings, tmp_path / "other")
        assert counting.count == 3  # batches: all of them
        assert all(torch.equal(found.matrices[layer], whole.matrices[layer]) for layer in (0, 2))
        assert not partial.exists()

    def test_saving_takes_little_of_the_time(
        self, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where each save takes a second, and a batch no time at all, the first one is the last."""
        monkeypatch.setattr(covariance, "_SAVE_SHARE", 10.0)
        clock = iter(range(1000))
        monkeypatch.setattr(covariance.time, "monotonic", lambda: float(next(clock)))
        writes: list[str] = []
        write = kept.write
        monkeypatch.setattr(kept, "write", lambda path, t: (writes.append(path.suffix), write(path, t))[1])
        compute(tiny_model(), sized(text, 600), tmp_path)
        assert writes == [".part", ".safetensors"]


def killed(settings: CovarianceSettings, folder: Path, after: int) -> int:
    """A computation that is killed after so many batches; the tokens that it had read."""

    class Killed(Exception):
        pass

    seen: list[int] = []

    def die(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == after:
            raise Killed

    with pytest.raises(Killed):
        compute(tiny_model(), settings, folder, on_tokens=die)
    return seen[-1]


def test_text_that_changes_while_it_is_read_is_refused(text: Path, tmp_path: Path) -> None:
    """The first reading says what C is kept under; C of something else must not lie there."""

    def change(done: int, total: int) -> None:
        text.write_text("Other words. " * 3000, encoding="utf-8")

    text.write_text(TEXT * 10, encoding="utf-8")  # more than one read of the file
    with pytest.raises(EditError, match="changed while it was read"):
        compute(tiny_model(), sized(text, 8000), tmp_path, on_tokens=change)
    assert not list((tmp_path / "covariance").glob("*"))


def test_the_make_up_is_kept_with_it(text: Path, tmp_path: Path) -> None:
    """How many tokens each source gave, BOS included, on disk as in memory."""
    settings = sized(text, 300, facts_share=0.2, samples_share=0.4)
    model = tiny_model()
    facts = ["The capital of Japan is Tokyo."] * 20
    found = compute(model, settings, tmp_path, facts=facts)
    alone = -(-60 // len(ENCODER.text_ids(facts[0])))  # each fact after a BOS of its own
    assert found.sources == {"facts": 60 + alone, "samples": 120 + 8, "text": 120 + 8}
    assert found.tokens == 300 + alone + 16
    again = compute(model, settings, tmp_path, facts=facts)
    assert (again.sources, again.tokens) == (found.sources, found.tokens)


def test_chunks_longer_than_the_model_reads_are_refused(text: Path, tmp_path: Path) -> None:
    """Before anything is computed, with both lengths; BOS counts."""
    settings = CovarianceSettings(text=(text,), tokens=600, chunk_tokens=512)
    with pytest.raises(ConfigError, match=r"chunk_tokens: 513 tokens with BOS, but the model reads 512 at most"):
        compute(tiny_model(), settings, tmp_path)
