"""Text of a Hugging Face data set, or of a folder of data files that the package `datasets` can read.

The package is asked for only when a data set is: it brings Arrow and pandas along. Rows are streamed, so a data set
of any size will do. A data set's own code is never run: versions of the package that could are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kbsync.errors import ConfigError
from kbsync.lm.text import paragraphs

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import CovarianceSettings

_LEAST = 4  # the first major version that has no data set scripts any more


def dataset_text(settings: CovarianceSettings) -> Iterator[str]:
    """Paragraphs of the data set's text column, in its order.

    Raises ConfigError when the package is missing or too old, the data set can't be read, or it has no such column.
    """
    name = settings.dataset
    load = _loader()
    try:
        rows: Iterator[Mapping[str, Any]] = iter(
            load(
                name,
                settings.dataset_config or None,
                split=settings.dataset_split,
                revision=settings.dataset_revision or None,
                streaming=True,
            )
        )
    except Exception as error:  # the package has no tree of errors: what its readers raise comes through
        raise _unreadable(name, error) from None
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise _unreadable(name, error) from None
        if row is None:
            return
        yield from paragraphs(_text_of(row, settings))


def _loader() -> Any:
    try:
        import datasets
    except ImportError:
        raise ConfigError(
            "covariance.dataset needs the package datasets, an extra of kbsync; run `pip install datasets`"
        ) from None
    version = str(datasets.__version__)
    if int(version.split(".")[0]) < _LEAST:
        raise ConfigError(
            f"covariance.dataset: datasets {version} may run a data set's own code; install {_LEAST}.0 or newer"
        )
    return datasets.load_dataset


def _text_of(row: Mapping[str, Any], settings: CovarianceSettings) -> str:
    column = settings.dataset_column
    if column not in row:
        raise ConfigError(
            f"covariance.dataset_column: {settings.dataset} has no column {column}, only {', '.join(sorted(row))}"
        )
    text = row[column]
    if not isinstance(text, str | None):
        raise ConfigError(
            f"covariance.dataset_column: {column} of {settings.dataset} holds no text but {type(text).__name__}"
        )
    return text or ""


def _unreadable(name: str, error: Exception) -> ConfigError:
    said = " ".join(str(error).split()) or type(error).__name__
    return ConfigError(f"covariance.dataset: {name} can't be read: {said}")
