"""Secrets taken out of whatever is told: log lines, errors, tracebacks, shown settings, reasons that are kept.

Two things are masked: what has the form of a secret (a password in a URL, a bearer token, a token of kbsync's own),
and what is known to be one, in each spelling in which a program may repeat it.
"""

from __future__ import annotations

import base64
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MASK = "***"
_SHORTEST = 4  # characters; a shorter secret would mask half of every text, and only its place in a URL tells it
_LARGEST = 1_000_000  # bytes of a file that holds a secret
_NAMES = r"(?:ssl)?password|passwd|passfile|passphrase|secret|(?:access_|auth_)?token|api_?key|apikey"
# The first colon up to the last @ of the word: whatever a password holds, all of it goes.
_IN_URL = re.compile(r"(?<=://)([^/@:\s'\"]*):[^\s'\"]*@")
_IN_VALUE = re.compile(r"(?<=://)([^/@:]*):.*@", re.DOTALL)  # of a text that is a URL and nothing else
_PARAMETER = re.compile(rf"(?i)(?<![\w-])({_NAMES})=(?!\*\*\*)[^&\s'\"]+")
_WHOLE_PARAMETER = re.compile(rf"(?i)(?<=[?&])({_NAMES})=[^&]*")
_HEADER = re.compile(
    r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer\s+|basic\s+)?)(?!bearer\b|basic\b)[^\s'\",]+"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)(?=[^\s'\",]*\d)[\w.~+/=-]{8,}")
_OWN = re.compile(r"\bkbsync_[\w-]{32,}")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without what is known to be a secret, and without what has the form of one."""
    for one in sorted(secrets, key=len, reverse=True):
        if one in text:
            text = text.replace(one, MASK)
    text = _IN_URL.sub(rf"\1:{MASK}@", text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _PARAMETER.sub(rf"\1={MASK}", text)
    return _OWN.sub(f"kbsync_{MASK}", text)


def mask_url(url: str) -> str:
    """A value that is a URL as a whole, whatever characters its password has."""
    return _WHOLE_PARAMETER.sub(rf"\1={MASK}", _IN_VALUE.sub(rf"\1:{MASK}@", url)) if "://" in url else url


def passwords_in(url: str) -> set[str]:
    """The secrets that a URL carries, as they are written in it."""
    found = {match[0].partition(":")[2].removesuffix("@") for match in _IN_VALUE.finditer(url)}
    try:
        query = parse_qsl(urlsplit(url).query)
    except ValueError:
        query = []
    return {one for one in found if one} | {value for name, value in query if re.fullmatch(_NAMES, name.lower())}


def secrets_in(environment: Mapping[str, str]) -> set[str]:
    """What an environment holds that is secret by its name, and what its URLs of kbsync's carry. It is known before
    the settings are, which may fail to be read."""
    found: set[str] = set()
    for name, value in environment.items():
        if re.fullmatch(
            r"KBSYNC_.*(TOKEN|PASSWORD|SECRET)|PGPASSWORD|HF_TOKEN|HUGGING_FACE_HUB_TOKEN", name.upper()
        ):
            found.add(value)
        elif name.upper().startswith("KBSYNC_"):
            found |= passwords_in(value)
    return found


def spellings(secret: str, user: str = "") -> set[str]:
    """A secret as programs repeat it: as it is, stripped, in a URL, in a Python literal, and in a Basic header."""
    plain = {secret, secret.strip(), unquote(secret)}
    quoted = {quote(one, safe=safe) for one in plain for safe in ("", " ", " +", "/")}
    written = {*plain, *quoted, *(quote_plus(one) for one in plain), *(repr(one)[1:-1] for one in plain)}
    if user:
        written |= {base64.b64encode(f"{user}:{one}".encode()).decode() for one in plain}
    return {one for one in written if len(one) >= _SHORTEST}


class Secrets:
    """What is known to be secret in this process. What becomes known later is masked from then on, and what a file
    of secrets held before it was changed still is."""

    def __init__(self, texts: Iterable[str] = (), files: Iterable[Path] = (), user: str = "") -> None:
        self._known: frozenset[str] = frozenset()  # replaced, not changed: any thread may be masking
        self._files: dict[Path, tuple[int, int]] = {}
        self._user = user
        self.add(texts, files, user)

    def add(self, texts: Iterable[str] = (), files: Iterable[Path] = (), user: str = "") -> None:
        """Know more: texts that are secrets, files that hold one each, and the user whom they go with."""
        self._user = user or self._user
        for one in texts:
            self._known |= spellings(one, self._user)
        for file in files:
            self._files.setdefault(file, (0, -1))

    def learn(self, other: Secrets) -> None:
        """Know what another one knows."""
        self._user = other._user or self._user
        self._known |= other._known
        self.add(files=other._files)

    def mask(self, text: str) -> str:
        """`text` without a secret."""
        self._read()
        return mask(text, self._known)

    def mask_all(self, value: object) -> object:
        """Every text in a value of JSON's types, without a secret; what is a URL as a whole by `mask_url`."""
        if isinstance(value, str):
            return self.mask(mask_url(value))
        if isinstance(value, dict):
            return {key: self.mask_all(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.mask_all(one) for one in value]
        return value

    def _read(self) -> None:
        for file, seen in tuple(self._files.items()):
            try:
                found = file.stat()
                now = found.st_mtime_ns, found.st_size
                # a pipe is read once, and not by us
                if now != seen and stat.S_ISREG(found.st_mode) and found.st_size < _LARGEST:
                    self._files[file] = now
                    self._known |= spellings(file.read_text(encoding="utf-8"), self._user)
            except (OSError, ValueError):  # whoever needs the file says what is wrong with it
                continue
