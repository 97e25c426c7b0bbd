"""The tokens behind C: sources by their shares, read as a stream, each time the same."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from kbsync.edit import kept, mixture
from kbsync.edit.mixture import Chunk, Mixture, TokenHash
from kbsync.errors import ConfigError, EditError
from kbsync.lm.rows import Encoder
from kbsync.lm.samples import sample_texts
from kbsync.settings import CovarianceSettings
from tests.edit.setups import ENCODER, NO_BOS
from tests.tiny import tiny_model

TEXT = "The capital of France is Paris, and Łódź is a city.\n\nMarie Curie's occupation is physicist.\n\n" * 30
FACTS = ("The capital of Japan is Tokyo.",) * 50


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of about a thousand tokens."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def sized(text: Path, tokens: int = 300, **more: Any) -> CovarianceSettings:
    """Settings over one file."""
    return CovarianceSettings(text=(text,), tokens=tokens, chunk_tokens=16, **more)


def mixed(settings: CovarianceSettings, folder: Path, encoder: Encoder = NO_BOS, model: Any = None) -> Mixture:
    """A mixture with fifty facts."""
    return Mixture(model or tiny_model(), encoder, "base", settings, folder, FACTS)


def counts(chunks: list[Chunk]) -> dict[str, int]:
    """Ids by source."""
    found: dict[str, int] = {}
    for chunk in chunks:
        found[chunk.source] = found.get(chunk.source, 0) + len(chunk.ids)
    return found


def said(chunks: list[Chunk], source: str) -> str:
    """What one source's chunks say."""
    return str(NO_BOS.tokenizer.decode([i for chunk in chunks if chunk.source == source for i in chunk.ids]))


class TestText:
    """Plain text alone."""

    def test_chunks_hold_exactly_the_tokens_asked_for(self, text: Path, tmp_path: Path) -> None:
        """Full chunks after BOS, and one shorter one at the end."""
        alone = sized(text, 100, facts_share=0)
        chunks = list(mixed(alone, tmp_path, ENCODER).chunks())
        assert [len(chunk.ids) for chunk in chunks] == [17] * 6 + [5]
        assert all(chunk.ids[0] == ENCODER.bos_id for chunk in chunks)
        assert counts(list(mixed(alone, tmp_path).chunks())) == {"text": 100}

    def test_they_are_the_text(self, text: Path, tmp_path: Path) -> None:
        """In its order, nothing left out."""
        chunks = list(mixed(sized(text, 60, facts_share=0), tmp_path).chunks())
        assert " ".join(TEXT.split()).startswith(said(chunks, "text").rstrip("\ufffd"))

    def test_without_files_pythons_documentation_is_read(self, tmp_path: Path) -> None:
        """There is always text."""
        settings = CovarianceSettings(tokens=500, facts_share=0)
        assert counts(list(mixed(settings, tmp_path).chunks())) == {"text": 500}

    def test_too_little_text_is_refused_with_the_numbers(self, tmp_path: Path) -> None:
        """How much was asked for, and how much there is."""
        short = tmp_path / "short.txt"
        short.write_text("Only this.", encoding="utf-8")
        there = len(ENCODER.text_ids("Only this."))
        with pytest.raises(EditError, match=rf"asks for 300 tokens of text, but there are only {there};"):
            mixed(sized(short, facts_share=0), tmp_path).survey()

    def test_a_missing_file_is_a_wrong_setting(self, tmp_path: Path) -> None:
        """And is named."""
        with pytest.raises(ConfigError, match=r"none\.txt can't be read"):
            mixed(sized(tmp_path / "none.txt"), tmp_path).survey()

    def test_memory_does_not_grow_with_the_text(self, tmp_path: Path) -> None:
        """Twenty times the text, and as many more tokens, are read in the same room."""
        peaks = []
        for times in (10, 200):
            path = tmp_path / f"{times}.txt"
            path.write_text(TEXT * times, encoding="utf-8")
            settings = sized(path, 1000 * times, facts_share=0)
            reading = mixed(settings, tmp_path)
            tracemalloc.start()
            assert reading.survey().tokens == 1000 * times
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < peaks[0] + 200_000 < (tmp_path / "200.txt").stat().st_size


class TestShares:
    """Several sources."""

    def test_each_has_its_share(self, text: Path, tmp_path: Path) -> None:
        """Facts, what the model says, and text for the rest."""
        settings = sized(text, 200, facts_share=0.25, samples_share=0.3)
        chunks = list(mixed(settings, tmp_path).chunks())
        assert counts(chunks) == {"facts": 50, "samples": 60, "text": 90}
        assert said(chunks, "facts").startswith("The capital of Japan is Tokyo.")
        assert said(chunks, "text").startswith("The capital of France")

    def test_a_fact_stands_alone(self, text: Path, tmp_path: Path) -> None:
        """After BOS, with nothing of another fact before it; the last one is cut where the share ends."""
        chunks = list(mixed(sized(text, 100, facts_share=0.5), tmp_path, ENCODER).chunks())
        facts = [chunk.ids for chunk in chunks if chunk.source == "facts"]
        whole = [ENCODER.bos_id, *ENCODER.text_ids(FACTS[0])][:17]
        assert len(facts) > 3
        assert all(ids == whole for ids in facts[:-1])
        assert facts[-1] == whole[: len(facts[-1])]
        assert sum(len(ids) - 1 for ids in facts) == 50

    @pytest.mark.parametrize(("tokens", "share", "expected"), [(100, 0.29, 29), (1000, 0.007, 7), (10, 0.05, 0)])
    def test_a_share_in_decimals_is_what_it_says(
        self, tokens: int, share: float, expected: int, text: Path, tmp_path: Path
    ) -> None:
        """0.29 of 100 are 29, though 0.29 × 100 is a hair less in binary; parts of a token are text."""
        chunks = list(mixed(sized(text, tokens, facts_share=share), tmp_path).chunks())
        assert counts(chunks).get("facts", 0) == expected

    def test_what_a_source_can_not_give_is_text(self, text: Path, tmp_path: Path) -> None:
        """With one fact there is more text instead."""
        few = Mixture(tiny_model(), NO_BOS, "base", sized(text, 100, facts_share=0.4), tmp_path, FACTS[:1])
        there = len(NO_BOS.text_ids(FACTS[0]))
        assert few.survey().sources == {"facts": there, "text": 100 - there}

    def test_the_whole_may_come_from_one_source(self, text: Path, tmp_path: Path) -> None:
        """Then no text is read, and none need be there."""
        settings = sized(tmp_path / "none.txt", 64, facts_share=0, samples_share=1)
        assert mixed(settings, tmp_path).survey().sources == {"samples": 64}


class TestSurvey:
    """Tokens per source and one hash."""

    def test_it_is_of_what_is_read(self, text: Path, tmp_path: Path) -> None:
        """The same sums as counting, and the hash of exactly these chunks."""
        reading = mixed(sized(text, 200, facts_share=0.25), tmp_path, ENCODER)
        chunks = list(reading.chunks())
        seen = TokenHash()
        for chunk in chunks:
            seen.add(chunk.ids)
        survey = reading.survey()
        assert survey.sources == counts(chunks)
        assert survey.tokens == sum(len(chunk.ids) for chunk in chunks)
        assert survey.hash == seen.value

    def test_the_hash_sees_every_id_and_where_a_chunk_ends(self) -> None:
        """Another id, another order and another cut are others."""
        found = set()
        for chunks in ([[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]], [[2, 1], [3]], [[1, 2], [4]], [[1, 2], [3], []]):
            seen = TokenHash()
            for ids in chunks:
                seen.add(ids)
            found.add(seen.value)
        assert len(found) == 6

    def test_bos_is_part_of_it(self, text: Path, tmp_path: Path) -> None:
        """The model reads it."""
        settings = sized(text)
        assert mixed(settings, tmp_path).survey().hash != mixed(settings, tmp_path, ENCODER).survey().hash


class TestSamples:
    """What the base model says is sampled once, and kept."""

    @pytest.fixture(autouse=True)
    def _four_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(mixture._TOGETHER, "cpu", 4)

    def settings(self, text: Path, rows: int) -> CovarianceSettings:
        """So many samples of sixteen tokens, and as much text."""
        return sized(text, 32 * rows, facts_share=0, samples_share=0.5)

    def test_they_are_the_model_s(self, text: Path, tmp_path: Path) -> None:
        """As `sample_texts` gives them, by number."""
        model = tiny_model()
        chunks = list(mixed(self.settings(text, 3), tmp_path, model=model).chunks())
        found = [chunk.ids for chunk in chunks if chunk.source == "samples"]
        assert found == sample_texts(model, NO_BOS, range(4), 16, 20220)[:3].tolist()

    def test_what_is_kept_is_not_sampled_again(self, text: Path, tmp_path: Path) -> None:
        """A model that can't be run gives them all the same; more of them begin with these."""
        first = list(mixed(self.settings(text, 3), tmp_path).chunks())
        model = tiny_model()
        broken = model.register_forward_pre_hook(lambda *_: 1 / 0)
        assert list(mixed(self.settings(text, 3), tmp_path, model=model).chunks()) == first
        broken.remove()
        more = list(mixed(self.settings(text, 9), tmp_path, model=model).chunks())
        assert more[:3] == first[:3]
        assert counts(more)["samples"] == 9 * 16

    def test_a_killed_sampling_goes_on(self, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was sampled before stays, and the end is the same as without the interruption."""
        whole = list(mixed(self.settings(text, 9), tmp_path / "whole").chunks())
        asked: list[range] = []

        def once(model: Any, encoder: Encoder, numbers: range, length: int, seed: int) -> torch.Tensor:
            asked.append(numbers)
            if len(asked) == 2:
                raise KeyboardInterrupt
            return sample_texts(model, encoder, numbers, length, seed)

        monkeypatch.setattr(mixture, "sample_texts", once)
        with pytest.raises(KeyboardInterrupt):
            mixed(self.settings(text, 9), tmp_path / "killed").survey()
        assert list(mixed(self.settings(text, 9), tmp_path / "killed").chunks()) == whole
        assert asked == [range(4), range(4, 8), range(4, 8), range(8, 12)]

    @pytest.mark.parametrize("damage", [b"", b"garbage", "shape"])
    def test_damaged_ones_are_sampled_again(self, damage: bytes | str, text: Path, tmp_path: Path) -> None:
        """With the same result."""
        first = list(mixed(self.settings(text, 2), tmp_path).chunks())
        (path,) = tmp_path.glob("samples-*")
        if isinstance(damage, bytes):
            path.write_bytes(damage)
        else:
            kept.write(path, {"ids": torch.zeros(4, 3, dtype=torch.int32)})
        assert list(mixed(self.settings(text, 2), tmp_path).chunks()) == first

    def test_another_seed_or_model_says_something_else(self, text: Path, tmp_path: Path) -> None:
        """And is kept beside the first."""
        settings = self.settings(text, 2)
        other = settings.model_copy(update={"seed": 1})
        one = mixed(settings, tmp_path).survey().hash
        two = mixed(other, tmp_path).survey().hash
        three = Mixture(tiny_model(seed=1), NO_BOS, "other base", settings, tmp_path).survey().hash
        assert len({one, two, three}) == 3
        assert mixed(settings, tmp_path).survey().hash == one
        assert len(list(tmp_path.glob("samples-*"))) == 3

    def test_it_is_told(self, text: Path, tmp_path: Path) -> None:
        """Sampling takes long."""
        steps: list[str] = []
        Mixture(tiny_model(), NO_BOS, "base", self.settings(text, 5), tmp_path, (), steps.append).survey()
        assert steps == ["sampling: 0 of 5 texts", "sampling: 4 of 5 texts"]


class TestDataset:
    """A data set beside the other sources. What the package gives is in tests/lm/test_dataset.py."""

    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Which data sets were read: each of twenty short paragraphs."""
        names: list[str] = []

        def text(settings: CovarianceSettings) -> Any:
            for number in range(20):
                if number == 0:
                    names.append(settings.dataset)
                yield f"Number {number} of {settings.dataset_split}."

        monkeypatch.setattr(mixture, "dataset_text", text)
        return names

    def test_one_of_the_hub_is_read_once(self, text: Path, tmp_path: Path, read: list[str]) -> None:
        """It may have changed the next time; another split is another text."""
        settings = sized(text, 100, facts_share=0, dataset="some/text", dataset_share=0.5)
        first = list(mixed(settings, tmp_path).chunks())
        assert counts(first) == {"dataset": 50, "text": 50}
        assert said(first, "dataset").startswith("Number 0 of train. Number 1 of")
        assert list(mixed(settings, tmp_path).chunks()) == first
        assert read == ["some/text"]
        other = settings.model_copy(update={"dataset_split": "test"})
        assert "Number 0 of test." in said(list(mixed(other, tmp_path).chunks()), "dataset")
        assert read == ["some/text"] * 2

    def test_a_folder_is_read_each_time(self, text: Path, tmp_path: Path, read: list[str]) -> None:
        """As the user's files are."""
        settings = sized(text, 100, facts_share=0, dataset=str(tmp_path), dataset_share=0.5)
        first = list(mixed(settings, tmp_path / "kept").chunks())
        assert list(mixed(settings, tmp_path / "kept").chunks()) == first
        assert read == [str(tmp_path)] * 2

    def test_a_short_one_leaves_the_rest_to_the_text(self, text: Path, tmp_path: Path, read: list[str]) -> None:
        """It gives all that it has."""
        settings = sized(text, 900, facts_share=0, dataset="some/text", dataset_share=0.9)
        sources = mixed(settings, tmp_path).survey().sources
        there = sum(
            len(NO_BOS.text_ids(f"{' ' if number else ''}Number {number} of train.")) for number in range(20)
        )
        assert sources == {"dataset": there, "text": 900 - there}
