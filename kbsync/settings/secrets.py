"""Passwords and tokens: what in the settings must never be told, and the password that a file holds."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from kbsync.errors import ConfigError
from kbsync.redact import Secrets, passwords_in
from kbsync.settings.whole import Settings


def secrets_of(settings: Settings) -> Secrets:
    """Whatever in the settings must never be told."""
    source = settings.source
    urls = (settings.store.url, settings.store.query_url, settings.trust.score_url)
    return Secrets(
        [
            *([source.token.get_secret_value()] if source.token else ()),
            *(p for url in urls for p in passwords_in(url)),
        ],
        [source.token_file] if source.token_file else (),
        source.user,
    )


def with_password(settings: Settings) -> Settings:
    """The settings with the password that `store.password_file` holds in the store's URL, in place of one that it
    may have itself.

    Raises ConfigError when the URL has no user, or the file can't be read or is empty.
    """
    url, file = settings.store.url, settings.store.password_file
    if file is None:
        return settings
    scheme, mark, rest = url.partition("://")
    who, at, where = rest.rpartition("@")
    user = who.partition(":")[0]
    if not mark or not at or not user or scheme.startswith("sqlite"):
        raise ConfigError("store.password_file needs a store.url such as postgresql+psycopg://user@host/database")
    password = read_secret(file, "store.password_file")
    if not password:
        raise ConfigError(f"store.password_file {file} is empty")
    url = f"{scheme}://{user}:{quote(password, safe='')}@{where}"
    return settings.model_copy(update={"store": settings.store.model_copy(update={"url": url})})


def read_secret(file: Path, key: str) -> str:
    """What a file holds that the setting `key` names. Raises ConfigError when it can't be read."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{key} {file} can't be read: {why}") from None
