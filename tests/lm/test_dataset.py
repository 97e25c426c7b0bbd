"""Text of a data set: with the package `datasets` where it is installed, and without it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kbsync.errors import ConfigError
from kbsync.lm.dataset import dataset_text
from kbsync.settings import CovarianceSettings

NEEDED = "the package datasets is an extra"


def asking(name: str, **more: Any) -> CovarianceSettings:
    """Settings with half of the text from a data set."""
    return CovarianceSettings(dataset=name, dataset_share=0.5, **more)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with JSON lines; the package's own cache beside it."""
    pytest.importorskip("datasets", reason=NEEDED)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"text": "Łódź is\na city.\n\nSo is 東京.", "number": 1}, {"text": None, "number": 2},
            {"text": "The end.", "number": 3}]  # fmt: skip
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return data


def test_a_folder_of_json_lines(folder: Path) -> None:
    """Paragraph by paragraph, in the rows' order; a row without text is nothing."""
    assert list(dataset_text(asking(str(folder)))) == ["Łódź is a city.", "So is 東京.", "The end."]


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    """Which have the column `text` by themselves."""
    pytest.importorskip("datasets", reason=NEEDED)
    (tmp_path / "train.txt").write_text("One line.\nAnother.\n", encoding="utf-8")
    assert list(dataset_text(asking(str(tmp_path)))) == ["One line.", "Another."]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset_column": "body"}, r"has no column body, only number, text"),
        ({"dataset_column": "number"}, r"number of .* holds no text but int"),
        ({"dataset_split": "test"}, r"can't be read: .*test"),
        ({"dataset_config": "other"}, r"can't be read: .*other"),
    ],
)
def test_what_the_data_set_has_not_is_named(more: dict[str, str], message: str, folder: Path) -> None:
    """Column, kind of column, split and configuration, in one line."""
    with pytest.raises(ConfigError, match=message) as caught:
        list(dataset_text(asking(str(folder), **more)))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The folder is named."""
    pytest.importorskip("datasets", reason=NEEDED)
    with pytest.raises(ConfigError, match=r"covariance\.dataset: .*none can't be read"):
        list(dataset_text(asking(str(tmp_path / "none"))))


def test_damage_in_the_middle_is_named(folder: Path) -> None:
    """What came before was given."""
    with (folder / "train.jsonl").open("a") as file:
        file.write("not JSON at all {\n" * 3)
    with pytest.raises(ConfigError, match=r"can't be read"):
        list(dataset_text(asking(str(folder))))


def test_the_package_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a data set without it is told what to install."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"needs the package datasets, .* `pip install datasets`"):
        list(dataset_text(asking("some/text")))


class Package:
    """Stands in for the package where the Hub would be asked: what it was asked for, and rows without an end."""

    def __init__(self, version: str = "5.2.0") -> None:
        self.module = SimpleNamespace(__version__=version, load_dataset=self.load)
        self.asked: list[tuple[Any, Any]] = []
        self.given = 0

    def load(self, *names: Any, **options: Any) -> Iterator[dict[str, str]]:
        self.asked.append((names, options))
        if names[0] == "down":
            raise ConnectionError("no route\nto host")
        return self._rows()

    def _rows(self) -> Iterator[dict[str, str]]:
        while True:
            self.given += 1
            yield {"body": f"Row {self.given}."}


def test_rows_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only as many as are wanted are fetched, of the split, configuration and revision that were named, and
    nothing asks for code to be run."""
    package = Package()
    monkeypatch.setitem(sys.modules, "datasets", package.module)
    settings = asking(
        "some/text", dataset_config="raw", dataset_split="test", dataset_revision="v1", dataset_column="body"
    )
    assert list(islice(dataset_text(settings), 3)) == ["Row 1.", "Row 2.", "Row 3."]
    assert package.given == 3
    assert package.asked == [(("some/text", "raw"), {"split": "test", "revision": "v1", "streaming": True})]


def test_an_error_of_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the data set's name."""
    monkeypatch.setitem(sys.modules, "datasets", Package().module)
    with pytest.raises(ConfigError, match=r"covariance\.dataset: down can't be read: no route to host"):
        list(dataset_text(asking("down")))


def test_a_version_that_could_run_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is loaded."""
    package = Package("3.6.0")
    monkeypatch.setitem(sys.modules, "datasets", package.module)
    with pytest.raises(ConfigError, match=r"datasets 3\.6\.0 may run a data set's own code"):
        list(dataset_text(asking("some/text")))
    assert package.asked == []
