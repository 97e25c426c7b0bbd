"""C against XᵀX/n by hand, kept by content, and resumed where it was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kbsync.edit import covariance
from kbsync.edit.adapters import Adapter
from kbsync.edit.covariance import Covariance, CovarianceStore, compute_covariance, covariance_hash, token_chunks
from kbsync.errors import ConfigError, EditError
from kbsync.lm.rows import Encoder
from kbsync.settings import CovarianceSettings
from tests.edit.setups import ENCODER, NO_BOS
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


class TestChunks:
    """The text as token sequences."""

    def test_they_hold_exactly_the_tokens_asked_for(self, text: Path) -> None:
        """Full chunks after BOS, and one shorter one at the end."""
        chunks = token_chunks(ENCODER, sized(text, 100))
        assert [len(chunk) for chunk in chunks] == [17] * 6 + [5]
        assert all(chunk[0] == ENCODER.bos_id for chunk in chunks)
        assert sum(map(len, token_chunks(NO_BOS, sized(text, 100)))) == 100

    def test_they_are_the_text(self, text: Path) -> None:
        """In its order, nothing left out."""
        ids = [i for chunk in token_chunks(NO_BOS, sized(text, 60)) for i in chunk]
        read = NO_BOS.tokenizer.decode(ids)
        assert " ".join(TEXT.split()).startswith(read.rstrip("\ufffd"))

    def test_facts_have_their_share(self, text: Path) -> None:
        """Verbalised facts come last and are counted in; without enough of them there is more text."""
        facts = ["The capital of Japan is Tokyo."] * 50
        chunks = token_chunks(NO_BOS, sized(text, 100, facts_share=0.4), facts)
        said = NO_BOS.tokenizer.decode([i for chunk in chunks[-3:] for i in chunk])
        assert sum(map(len, chunks)) == 100
        assert said.startswith("The capital of Japan is Tokyo. The capital")
        few = token_chunks(NO_BOS, sized(text, 100, facts_share=0.4), facts[:1])
        assert sum(map(len, few)) == 100
        assert "Tokyo" in NO_BOS.tokenizer.decode(few[-1])

    def test_without_files_pythons_documentation_is_read(self) -> None:
        """There is always text."""
        chunks = token_chunks(ENCODER, CovarianceSettings(tokens=500, chunk_tokens=128))
        assert sum(len(chunk) - 1 for chunk in chunks) == 500

    def test_too_little_text_is_refused_with_the_numbers(self, tmp_path: Path) -> None:
        """How much was asked for, and how much there is."""
        short = tmp_path / "short.txt"
        short.write_text("Only this.", encoding="utf-8")
        there = len(ENCODER.text_ids("Only this."))
        with pytest.raises(EditError, match=rf"asks for 300 tokens of text, but there are only {there};"):
            token_chunks(ENCODER, sized(short))

    def test_a_missing_file_is_a_wrong_setting(self, tmp_path: Path) -> None:
        """And is named."""
        with pytest.raises(ConfigError, match=r"none\.txt can't be read"):
            token_chunks(ENCODER, sized(tmp_path / "none.txt"))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_second_moment_by_hand(family: str, text: Path, tmp_path: Path) -> None:
    """Batched, padded and cut off above the last layer, it is XᵀX/n of every token, BOS included."""
    model = tiny_model(family)
    settings = sized(text)
    found = compute(model, settings, tmp_path)
    chunks = token_chunks(ENCODER, settings)
    assert found.tokens == sum(map(len, chunks))
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
        assert (second.tokens, second.hash) == (first.tokens, first.hash)
        assert all(torch.equal(second.matrices[layer], first.matrices[layer]) for layer in (0, 2))

    def test_only_whole_files_are_left(self, text: Path, tmp_path: Path) -> None:
        """No partial sums, no temporary files."""
        found = compute(tiny_model(), sized(text), tmp_path)
        assert [path.name for path in (tmp_path / "covariance").iterdir()] == [f"{found.hash[:32]}.safetensors"]

    def test_the_hash_names_all_that_it_depends_on(self) -> None:
        """Another model, layer, text or chunk size is another covariance."""
        chunks = [[0, 1, 2], [0, 3]]
        hashes = {
            covariance_hash("base", (0, 2), chunks, 16),
            covariance_hash("other", (0, 2), chunks, 16),
            covariance_hash("base", (0, 1), chunks, 16),
            covariance_hash("base", (0, 2), [[0, 1], [2, 0, 3]], 16),
            covariance_hash("base", (0, 2), chunks, 32),
        }
        assert len(hashes) == 5
        assert covariance_hash("base", (0, 2), [list(chunk) for chunk in chunks], 16) in hashes

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
            from safetensors.torch import save_file

            save_file({"0": torch.zeros(2, 2)}, path)
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

    @pytest.mark.parametrize("after", [1, 2, 3])
    def test_a_killed_computation_ends_in_the_same_bits(
        self, after: int, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was saved is not computed again, and the result can't be told from one that was not killed."""
        monkeypatch.setattr(covariance, "_SAVE_EVERY", 1)
        settings = sized(text, 600)  # five batches of eight chunks
        whole = compute(tiny_model(), settings, tmp_path / "whole")

        class Killed(Exception):
            pass

        seen: list[tuple[int, int]] = []

        def die(done: int, total: int) -> None:
            seen.append((done, total))
            if len(seen) == after:
                raise Killed

        with pytest.raises(Killed):
            compute(tiny_model(), settings, tmp_path / "killed", on_tokens=die)
        model = tiny_model()
        counting = Counting(model)
        again: list[tuple[int, int]] = []
        resumed = compute(model, settings, tmp_path / "killed", on_tokens=lambda a, b: again.append((a, b)))
        assert counting.count == 5 - after
        assert again[0][0] > seen[-1][0]
        assert again[-1] == (resumed.tokens, resumed.tokens)
        assert all(torch.equal(resumed.matrices[layer], whole.matrices[layer]) for layer in (0, 2))
        assert not list((tmp_path / "killed").rglob("*.part"))

    def test_damaged_partial_sums_are_thrown_away(
        self, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are computed from the start, with the same result."""
        monkeypatch.setattr(covariance, "_SAVE_EVERY", 1)
        settings = sized(text, 300)
        whole = compute(tiny_model(), settings, tmp_path / "whole")
        store = CovarianceStore(tmp_path / "other")
        partial = store.path(whole.hash).with_suffix(".part")
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"half a file")
        found = compute(tiny_model(), settings, tmp_path / "other")
        assert all(torch.equal(found.matrices[layer], whole.matrices[layer]) for layer in (0, 2))


def test_an_encoder_without_bos_has_other_tokens(text: Path) -> None:
    """BOS is part of what the model reads, so of the hash."""
    with_bos: Encoder = ENCODER
    assert token_chunks(with_bos, sized(text)) != token_chunks(NO_BOS, sized(text))
