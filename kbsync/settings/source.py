"""The SPARQL endpoint and the stream: where they are, and how they may be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from kbsync import __version__
from kbsync.settings.section import Section, off_is_none


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine's own."""
    return host in ("localhost", "::1") or host.startswith("127.")


def check_host(url: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless the URL's host is one of `allowed`."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not host or host not in {one.lower() for one in allowed}:
        raise ValueError(
            f"the host {host!r} is not in source.allowed_hosts; add it there if it is the one that you mean"
        )


def _without_credentials(url: str) -> str:
    """The URL. Raises ValueError when it carries credentials."""
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("a URL with credentials in it is refused: set KBSYNC_SOURCE__TOKEN or source.token_file")
    return url


class SourceSettings(Section):
    """The SPARQL endpoint."""

    endpoint: str = Field("https://query.wikidata.org/sparql", description="URL of the query endpoint")
    contact: str = Field("", description="an e-mail or page for the User-Agent; the public service wants one")
    timeout_s: float = Field(65.0, gt=0, description="seconds to wait for one answer")
    page_size: int = Field(1000, ge=1, le=50_000, description="rows of one keyset page")
    overlap_s: int = Field(1200, ge=0, description="seconds of the last window that are read again")
    max_answer_bytes: int = Field(256_000_000, gt=0, description="an answer over this size is a failure")
    attempts: int = Field(4, ge=1, description="tries per request before the pull gives up")
    max_wait_s: float = Field(300.0, ge=0, description="longest Retry-After that a run sleeps through")
    language: str = Field(
        "en",
        pattern=r"^[a-z]{2,3}(-[a-z0-9]+)*$",
        description="language of labels and of texts; `mul` comes second",
    )
    max_shrink: float = Field(
        0.2, ge=0, le=1, description="share of a relation that may be gone at once; above it nothing is retired"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (
            "query.wikidata.org",
            "query-main.wikidata.org",
            "query-scholarly.wikidata.org",
            "stream.wikimedia.org",
            "localhost",
            "127.0.0.1",
            "::1",
        ),
        description="hosts that may be asked at all",
    )
    user: str = Field("", pattern=r"^[^:\x00-\x1f]*$", description="user name for basic authentication")
    token: SecretStr | None = Field(
        None, description="secret for an endpoint of your own; only from the environment, `KBSYNC_SOURCE__TOKEN`"
    )
    token_file: Path | None = Field(None, description="file that holds the secret, in place of `token`")
    seconds_per_minute: float | None = Field(
        50.0, gt=0, description="query seconds per minute that are spent, on average; the service allows 60"
    )
    seconds_burst: float = Field(100.0, gt=0, description="query seconds that may be spent at once; it allows 120")
    errors_per_minute: float | None = Field(
        20.0, gt=0, description="errors per minute until requests wait; the service allows 30"
    )
    errors_burst: float = Field(40.0, gt=0, description="errors at once until requests wait; it allows 60")
    stream: bool = Field(False, description="also follow the mutation stream, so that changes come within seconds")
    stream_url: str = Field(
        "https://stream.wikimedia.org/v2/stream/rdf-streaming-updater.mutation.v2",
        description="URL of the stream of server-sent events",
    )
    stream_drain_s: float = Field(20.0, gt=0, description="most seconds that a sync reads the stream for")
    stream_patience_s: float = Field(
        3600.0, gt=0, description="seconds to wait for the endpoint to show what the stream told"
    )
    backfill_pages: int = Field(
        0, ge=0, description="pages that one sync reads of a relation's first pull; 0: all of it at once"
    )
    breaker_after: int = Field(4, ge=1, description="refusals in a row until the endpoint is left alone")
    breaker_s: float = Field(
        600.0, gt=0, description="seconds that it is left alone; doubled each time, a day at most"
    )

    @field_validator("endpoint", "stream_url")
    @classmethod
    def _http(cls, url: str, info: ValidationInfo) -> str:
        if not url.startswith(("http://", "https://")):
            what = "endpoint" if info.field_name == "endpoint" else "stream"
            raise ValueError(f"the {what} must be an http:// or https:// URL")
        return _without_credentials(url)

    _off = field_validator("seconds_per_minute", "errors_per_minute", mode="before")(off_is_none)

    @model_validator(mode="after")
    def _hosts(self) -> Self:
        check_host(self.endpoint, self.allowed_hosts)
        if self.stream:
            check_host(self.stream_url, self.allowed_hosts)
        secret = self.token is not None or self.token_file is not None
        if (
            secret
            and self.endpoint.startswith("http://")
            and not is_loopback(urlsplit(self.endpoint).hostname or "")
        ):
            raise ValueError("a secret would travel in the clear: use an https:// endpoint")
        if self.token is not None and self.token_file is not None:
            raise ValueError("give token or token_file, not both")
        return self


def user_agent(settings: SourceSettings) -> str:
    """`name/version (contact) library/version`, the form that Wikimedia's User-Agent policy asks for."""
    contact = settings.contact or "no contact configured"
    return f"kbsync/{__version__} ({contact}) SPARQLWrapper/2"
