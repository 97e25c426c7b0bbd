"""Where files are: what ships with kbsync, home folders, and paths relative to the settings' file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kbsync.errors import ConfigError, one_line
from kbsync.settings.watch import CATALOGUE
from kbsync.settings.whole import Settings


def share(relative: str) -> Path:
    """A file that ships with kbsync (`config/…`, `migrations`, `data/…`), in a clone or in a wheel.

    Raises ConfigError when it is missing.
    """
    here = Path(__file__).resolve().parents[1]
    for root in (here.parent, here / "_share"):
        if (root / relative).exists():
            return root / relative
    raise ConfigError(f"{relative} is missing from this installation of kbsync; install it again")


def expanded(path: str | Path) -> Path | None:
    """A path with its home folder written out; None where there is no such home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return None


def absolute(settings: Settings, root: Path) -> Settings:
    """The settings with their paths written out: what is relative is relative to `root`.

    Raises ConfigError for a home folder that is not there, and where the shipped catalogue is missing.
    """
    below = _Root(root)
    watch, source, store = settings.watch, settings.source, settings.store
    fixed = {
        "model": {"cache": below.path(settings.model.cache)},
        "source": {"token_file": below.path_or_none(source.token_file)},
        "watch": {
            "catalogue": below.catalogue(watch.catalogue),
            "subjects_file": {relation: below.path(one) for relation, one in watch.subjects_file.items()},
        },
        "covariance": {
            "text": tuple(below.path(one) for one in settings.covariance.text),
            "dataset": below.dataset(settings.covariance.dataset),
        },
        "checkpoint": {"folder": below.path(settings.checkpoint.folder)},
        "store": {
            "url": below.url(store.url),
            "query_url": below.url(store.query_url),
            "password_file": below.path_or_none(store.password_file),
        },
    }
    update = {name: getattr(settings, name).model_copy(update=keys) for name, keys in fixed.items()}
    return settings.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class _Root:
    """The folder that relative paths are relative to."""

    folder: Path

    def path(self, path: Path) -> Path:
        found = expanded(path)
        if found is None:
            raise ConfigError(one_line(f"{path}: there is no such home folder; write the path out"))
        return self.folder / found  # which is `found` where that is absolute

    def path_or_none(self, path: Path | None) -> Path | None:
        return self.path(path) if path else None

    def url(self, url: str) -> str:
        """A store's URL: a file of SQLite's is a path."""
        if url.startswith("sqlite:///") and not url.startswith("sqlite:////") and url != "sqlite:///:memory:":
            return f"sqlite:///{self.path(Path(url.removeprefix('sqlite:///')))}"
        return url

    def dataset(self, name: str) -> str:
        """A data set's id as it is; what begins like a path is one."""
        return str(self.path(Path(name))) if name.startswith((".", "~", "/")) else name

    def catalogue(self, path: Path) -> Path:
        """The shipped catalogue stands in for the default one."""
        found = self.path(path)
        return share(str(CATALOGUE)) if path == CATALOGUE and not found.exists() else found
