"""The only reader of TOML files and of the environment.

A setting comes from, in this order: `KBSYNC_<SECTION>__<KEY>` in the environment, the TOML file, the default
below. Relative paths in a file are relative to that file's folder's parent when it lies in `config/`, else to
the file's folder, so that a clone works from anywhere.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from kbsync import __version__
from kbsync.crontab import crontab_fields
from kbsync.errors import ConfigError, one_line
from kbsync.facts import is_entity_id, is_item_id, is_property_id
from kbsync.redact import Secrets, mask, mask_url, passwords_in


class Section(BaseModel):
    """A table of the TOML file. Unknown keys are errors, and so are NaN, infinity, and a boolean for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are not values of this key")
        return value


class ModelSettings(Section):
    """The base model that is kept in sync."""

    base: str = Field("embedded", description="`embedded`, a Hugging Face id, a model folder, or a GGUF file")
    device: str = Field("auto", description="`auto` (CUDA where there is one), `cpu`, or `cuda:N`")
    device_map: Literal["off", "auto", "balanced", "balanced_low_0", "sequential"] = Field(
        "off",
        description="how a model beyond one card is spread over all CUDA devices, then memory, then disk; "
        "the names are accelerate's",
    )
    max_memory: tuple[str, ...] = Field(
        (), description="with `device_map`: what it may use of which device, such as `0=70GiB`, `cpu=100GiB`"
    )
    bos: Literal["auto", "always", "never"] = Field(
        "auto", description="put the BOS token in front of plain prompts; auto: where the tokenizer has one"
    )
    threads: int = Field(0, ge=0, description="CPU threads for the solve and the forward passes; 0: all cores")
    cache: Path = Field(Path("var/cache"), description="converted base models and covariances live here")


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


def _without_password(url: str) -> str:
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
        return _without_password(url)

    @field_validator("seconds_per_minute", "errors_per_minute", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value == "off" else value  # TOML has no null

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


class WatchSettings(Section):
    """What is kept in sync."""

    relations: tuple[str, ...] = Field((), description="property ids to watch")
    catalogue: Path = Field(Path("config/relations.toml"), description="prompts and policies per relation")
    baseline: Literal["adopt", "teach"] = Field(
        "adopt",
        description="first pull: take the facts as known, or edit each that the base model gets wrong",
    )
    max_live: int = Field(1000, ge=1, description="most facts the synced model may hold")
    when_full: Literal["hold", "refuse"] = Field(
        "hold",
        description="after the gate refused because the model is full: hold back the facts of least priority, or "
        "leave it at that",
    )
    priority: dict[str, StrictInt] = Field(
        {},
        description="per relation, which facts are kept first where not all fit; 0 for those not named. "
        "Relations that `kbsync watch add` adds have theirs by `--priority`",
    )
    classes: dict[str, tuple[str, ...]] = Field(
        {}, description="per relation, watch only instances of these classes, or of classes below them"
    )
    subjects: dict[str, tuple[str, ...]] = Field({}, description="per relation, watch only these subjects")
    subjects_file: dict[str, Path] = Field(
        {}, description="per relation, watch only the subjects in this file, an id on each line"
    )
    where: dict[str, str] = Field(
        {}, description="per relation, watch only what this SPARQL pattern binds to `?item`"
    )

    @field_validator("relations")
    @classmethod
    def _ids(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        for one in ids:
            if not is_property_id(one):
                raise ValueError(f"{one!r} is not a property id such as P36")
        if len(set(ids)) != len(ids):
            raise ValueError("a relation is listed twice")
        return ids

    @field_validator("priority")
    @classmethod
    def _of_watched(cls, priority: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        for one in priority:
            if one not in info.data.get("relations", priority):  # where those are wrong, that is the error
                raise ValueError(
                    f"{one!r} is not one of watch.relations; `kbsync watch add --priority` is for one that is added"
                )
        return priority

    @field_validator("classes", "subjects")
    @classmethod
    def _items(cls, lists: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for relation, ids in lists.items():
            if not ids:
                raise ValueError(f"the list of {relation} names none")
            for one in ids:
                if not is_item_id(one):
                    raise ValueError(f"{one!r} of {relation} is not an item id such as Q5")
        return lists

    @model_validator(mode="after")
    def _one_filter_each(self) -> Self:
        seen: set[str] = set()
        for one in (*self.classes, *self.subjects, *self.subjects_file, *self.where):
            if one not in self.relations:
                raise ValueError(f"{one!r} has a filter and is not one of watch.relations")
            if not self.where.get(one, "?").strip():
                raise ValueError(f"the pattern of {one} is empty")
            if one in seen:
                raise ValueError(
                    f"{one!r} has two filters: give it one of classes, subjects, subjects_file and where"
                )
            seen.add(one)
        return self


Context = Literal["question", "heading", "bare", "sentence", "chat"]


class EditSettings(Section):
    """MEMIT's settings. Every one of them shapes the weights, so all are part of the settings fingerprint."""

    layers: tuple[int, ...] | Literal["auto"] = Field("auto", description="critical layers, counted from 0")
    covariance_weight: float = Field(2000.0, gt=0, description="λ of the solve")
    covariance_facts: Annotated[int, Field(ge=1)] | Literal["off"] = Field(
        80, description="live facts from which on λ grows with their number; off: it never does"
    )
    bystander_weight: float = Field(0.1, ge=0, description="weight of the prompts' other tokens beside λC")
    clamp: float = Field(1.4, gt=0, description="largest ‖δ‖ as a multiple of ‖h‖")
    steps: int = Field(40, ge=1, description="most evaluations of the loss for one z")
    stop_loss: float = Field(0.02, gt=0, description="a request is done when the object's NLL is below this")
    kl_weight: float = Field(0.0, ge=0, description="weight of KL(edited ‖ base) at `<subject> is a`")
    decay: float = Field(0.5, ge=0, description="weight of ‖δ‖/‖h‖ squared")
    contexts: tuple[Context, ...] = Field(
        ("question", "heading", "sentence"),
        description="where z is solved besides the prompt: `question`, `heading`, `bare`, `sentence`, `chat` "
        "(docs/editing.md says what they are)",
    )
    key_contexts: tuple[Context, ...] = Field(
        ("bare",), description="where else the edit is written, by the same names; z is not solved there"
    )
    prefixes: int = Field(0, ge=0, description="seeded prefixes sampled from the model, as contexts of z")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="requests solved together; auto: 64 on a CPU, what a CUDA device has room for"
    )
    solve_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of the layers above while z is solved; auto: bfloat16 where it is native"
    )
    repair_rounds: int = Field(6, ge=0, description="rounds that solve again what the candidate still misses")
    seed: int = Field(20220, description="seed of the sampled prefixes")

    @field_validator("contexts", "key_contexts")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a context is listed twice")
        return names


class CovarianceSettings(Section):
    """The text behind C, the second moment of keys. What the shares leave is plain text."""

    tokens: int = Field(20_000, ge=1, description="tokens of text in all")
    text: tuple[Path, ...] = Field((), description="UTF-8 text files; none: Python's own English documentation")
    facts_share: float = Field(0.2, ge=0, le=1, description="share of tokens from verbalised facts of the store")
    samples_share: float = Field(0.0, ge=0, le=1, description="share of tokens that the base model itself says")
    dataset_share: float = Field(0.0, ge=0, le=1, description="share of tokens from `dataset`")
    dataset: str = Field("", description="a Hugging Face data set's id, or a folder of data files (`./mine`)")
    dataset_config: str = Field("", description="the data set's configuration, where it has several")
    dataset_split: str = Field("train", min_length=1, description="the data set's split")
    dataset_column: str = Field("text", min_length=1, description="the data set's column that holds the text")
    dataset_revision: str = Field("", description="a commit or tag of the data set; none: the newest")
    chunk_tokens: int = Field(128, ge=16, description="tokens of one sequence")
    seed: int = Field(20220, ge=0, description="seed of what the base model says")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.facts_share + self.samples_share + self.dataset_share > 1 + 1e-9:
            raise ValueError("facts_share, samples_share and dataset_share are more than 1 together")
        if bool(self.dataset) != (self.dataset_share > 0):
            raise ValueError("dataset and dataset_share go together: name a data set and give it a share")
        return self


class EvaluateSettings(Section):
    """What is measured of every edit."""

    neighbors: int = Field(4, ge=0, description="neighborhood prompts per request")
    drift_tokens: int = Field(4000, ge=64, description="tokens of the fixed text behind the perplexity ratio")
    said_tokens: int = Field(12, ge=1, description="tokens generated to show what the model says")


class GateSettings(Section):
    """A candidate that breaks one of these stays a candidate. A threshold of `off` is not checked."""

    min_efficacy_success: float | None = Field(
        0.95, ge=0, le=1, description="least share of edits whose new object beats the old one"
    )
    min_efficacy_accuracy: float | None = Field(
        0.80, ge=0, le=1, description="least share of edits whose new object is what greedy decoding says"
    )
    min_paraphrase_success: float | None = Field(
        0.80, ge=0, le=1, description="least share of paraphrases where the new object beats the old one"
    )
    max_neighborhood_drop: float | None = Field(
        0.05, ge=0, le=1, description="most that neighborhood success may fall under the base model's"
    )
    max_perplexity_ratio: float | None = Field(
        1.05, gt=0, description="most that the perplexity of the fixed text may grow, as a ratio"
    )
    max_retired_favoured: float | None = Field(
        0.05, ge=0, le=1, description="most retired objects, as a share, favoured over the base model"
    )
    bisect_rebuilds: int = Field(
        20,
        ge=0,
        description="most rebuilds that one run spends to find the new facts because of which the gate refuses; "
        "0: it does not look",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _off(cls, value: object, info: ValidationInfo) -> object:
        off = 0 if info.field_name == "bisect_rebuilds" else None
        return off if value == "off" else value  # TOML has no null


class CheckpointSettings(Section):
    """Where synced models go."""

    folder: Path = Field(Path("var/checkpoints"), description="synced models and the `live` link lie here")


class StoreSettings(Section):
    """The database."""

    url: str = Field("sqlite:///var/kbsync.db", description="SQLAlchemy URL: sqlite:/// or postgresql+psycopg://")
    password_file: Path | None = Field(
        None, description="file that holds the server's password, in place of the URL"
    )
    query_url: str = Field(
        "", description="the same store for `kbsync sql`, as a PostgreSQL role that may only read; none: `url`"
    )


_DURATION = re.compile(r"(\d{1,6}(?:\.\d+)?)(m|h|d)")


def duration(text: str) -> timedelta:
    """`90m`, `24h` or `7d` as a length of time; `0` is none. Raises ValueError for anything else."""
    found = _DURATION.fullmatch(text)
    if found is None:
        if text == "0":
            return timedelta(0)
        raise ValueError(f'{text!r} is not a length of time such as "90m", "24h" or "7d"')
    return float(found[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[found[2]]


def _check_duration(text: str) -> str:
    duration(text)
    return text


Duration = Annotated[str, AfterValidator(_check_duration)]
ReferencePolicy = Literal["required", "optional", "not only imported"]


class TrustSettings(Section):
    """What a change of Wikidata must pass before it may become an edit. The catalogue may say otherwise for a
    relation."""

    settling: Duration = Field("24h", description="how long a change must have stood before it is believed")
    label_settling: Duration = Field("24h", description="how long a new label must have stood before it is used")
    rank: Literal["best", "preferred"] = Field(
        "best", description="which statements may become edits: those of the best rank, or only preferred ones"
    )
    references: ReferencePolicy = Field(
        "required", description="what a statement must rest on: any reference, none, or one that is not an import"
    )
    unreferenced_after: Duration | None = Field(
        None, description="how long a statement without the reference must have stood to be believed all the same"
    )
    types: Literal["both", "objects", "off"] = Field(
        "both", description="whose classes are checked against the catalogue's"
    )
    untyped: Literal["pass", "hold"] = Field("pass", description="what becomes of an item without a class")
    war_flips: int = Field(
        3, ge=0, description="so many returns of a value within the window are an edit war; 0: off"
    )
    war_window: Duration = Field(
        "7d", description="the window of an edit war, and how long it must have been quiet"
    )
    max_per_subject: int = Field(10, ge=0, description="changes of one subject in a burst before all wait; 0: off")
    max_per_relation: int = Field(
        50, ge=0, description="changes of one relation in a burst before all wait; 0: off"
    )
    burst_window: Duration = Field("24h", description="the stretch of time that makes a burst")
    burst_settling: Duration = Field("7d", description="how long a change in a burst must have stood")
    max_per_run: int = Field(500, ge=0, description="new facts of one run; the others wait for the next; 0: off")
    ask_share: float | None = Field(
        0.25, gt=0, le=1, description="share of the live set that a run may change without asking"
    )
    ask_floor: int = Field(100, ge=0, description="changes that a run may make without asking, whatever the share")
    label_checks: bool = Field(True, description="whether a label that does not look like a name is held")
    label_length: int = Field(120, ge=1, description="characters that a label may have")
    deny: tuple[str, ...] = Field((), description="ids of subjects, objects and relations that are never edited")
    allow: tuple[str, ...] = Field((), description="ids whose changes pass without a check")
    score_url: str = Field("", description="URL of a revert-risk model in Lift Wing's form; none: no scores")
    score_threshold: float = Field(0.9, gt=0, le=1, description="risk from which on a change is held")
    score_timeout_s: float = Field(5.0, gt=0, description="seconds to wait for one score")
    score_on_error: Literal["pass", "hold"] = Field("pass", description="what becomes of a change without a score")

    @field_validator("ask_share", "unreferenced_after", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value == "off" else value  # TOML has no null

    @field_validator("deny", "allow")
    @classmethod
    def _ids(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        for one in ids:
            if not is_entity_id(one):
                raise ValueError(f"{one!r} is not an id such as Q30 or P6")
        return ids

    @field_validator("score_url")
    @classmethod
    def _http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("the model must be at an http:// or https:// URL")
        return url


_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def quiet_hours(text: str) -> tuple[time, time]:
    """`22:00-06:00` as begin and end. Raises ValueError for anything else, and for hours that are none or all."""
    found = _HOURS.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is not hours such as "22:00-06:00"')
    hours = [int(one) for one in found.groups()]
    start, end = time(hours[0], hours[1]), time(hours[2], hours[3])
    if start == end:
        raise ValueError("quiet hours must end at another time than they begin")
    return start, end


class ScheduleSettings(Section):
    """When the daemon syncs. Give an interval or a cron line, not both; a cron line replaces the default."""

    interval_minutes: float | None = Field(60.0, gt=0, description="minutes from one sync to the next")
    cron: str | None = Field(None, description="five fields, as in crontab, in UTC")
    poll_s: float = Field(2.0, gt=0, description="seconds between looks for a trigger in the store")
    reconcile: str = Field(
        "0 4 * * 0", description="when everything tracked is compared, as a cron line in UTC; `off`: never"
    )
    jitter_s: float = Field(
        0.0, ge=0, le=86_400, description="most seconds by which each time is put off, drawn anew for each"
    )
    quiet_hours: str | None = Field(
        None, description="hours in UTC in which nothing starts by itself, such as `22:00-06:00`"
    )
    stall_s: float = Field(
        1800.0,
        ge=60,
        description="seconds without progress after which the service manager's watchdog is no longer fed",
    )

    @field_validator("cron", "reconcile")
    @classmethod
    def _five_fields(cls, cron: str | None, info: ValidationInfo) -> str | None:
        if cron is not None and not (cron == "off" and info.field_name == "reconcile"):
            crontab_fields(cron)
        return cron

    @field_validator("quiet_hours", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value == "off" else value  # TOML has no null

    @field_validator("quiet_hours")
    @classmethod
    def _window(cls, hours: str | None) -> str | None:
        if hours is not None:
            quiet_hours(hours)
        return hours

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if {"interval_minutes", "cron"} <= self.model_fields_set and self.interval_minutes and self.cron:
            raise ValueError("give interval_minutes or cron, not both")
        if self.cron is None and self.jitter_s > 60 * (self.interval_minutes or 60.0):
            raise ValueError("jitter_s is longer than the interval")
        return self


class RetentionSettings(Section):
    """How long what grows is kept. What is beyond any limit goes; what the live model, a rollback or a rebuild
    needs counts and stays. `off` is no limit."""

    every: Duration = Field("24h", description="how often the daemon prunes; `0`: never")
    checkpoints_age: Duration | None = Field(None, description="how long the files of a checkpoint are kept")
    checkpoints_count: int | None = Field(20, ge=0, description="checkpoints whose files are kept")
    checkpoints_bytes: int | None = Field(None, ge=0, description="bytes of checkpoints that are kept")
    outcomes_age: Duration | None = Field(None, description="how long the outcomes of an evaluation are kept")
    outcomes_count: int | None = Field(50, ge=0, description="evaluations whose outcomes are kept")
    outcomes_bytes: int | None = Field(None, ge=0, description="bytes of outcomes that are kept, about")
    targets_age: Duration | None = Field("90d", description="how long a z is kept that nothing wants any more")
    targets_count: int | None = Field(None, ge=0, description="z that are kept")
    targets_bytes: int | None = Field(None, ge=0, description="bytes of z that are kept")
    runs_age: Duration | None = Field("365d", description="how long a run and all that tells of it are kept")
    runs_count: int | None = Field(10_000, ge=0, description="runs that are kept")
    runs_bytes: int | None = Field(None, ge=0, description="bytes of runs that are kept, about")

    @field_validator("*", mode="before")
    @classmethod
    def _off(cls, value: object, info: ValidationInfo) -> object:
        return None if value == "off" and info.field_name != "every" else value  # TOML has no null


class ServeSettings(Section):
    """What other programs may ask over HTTP: metrics, health, status, and, with a token, a run or a decision."""

    enabled: bool = Field(True, description="whether `kbsync run` answers HTTP; `kbsync serve` always does")
    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; any but loopback lets other machines in"
    )
    port: int = Field(8420, ge=0, le=65535, description="port to listen on; 0: a free one, which the log names")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="host names that requests may ask for besides `localhost`; addresses always may be"
    )
    open_reads: bool = Field(
        False, description="whether other machines may read without a token; writing always needs one"
    )
    hung_after: Duration = Field(
        "1h", description="how long the daemon's work may stand still until `/healthz` calls it hung; `0`: never"
    )


class Settings(BaseSettings):
    """All settings of one kbsync."""

    model_config = SettingsConfigDict(
        env_prefix="KBSYNC_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    model: ModelSettings = ModelSettings()
    source: SourceSettings = SourceSettings()
    watch: WatchSettings = WatchSettings()
    trust: TrustSettings = TrustSettings()
    edit: EditSettings = EditSettings()
    covariance: CovarianceSettings = CovarianceSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    store: StoreSettings = StoreSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    retention: RetentionSettings = RetentionSettings()
    serve: ServeSettings = ServeSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, which arrives as init values."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


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


def user_agent(settings: SourceSettings) -> str:
    """`name/version (contact) library/version`, the form that Wikimedia's User-Agent policy asks for."""
    contact = settings.contact or "no contact configured"
    return f"kbsync/{__version__} ({contact}) SPARQLWrapper/2"


def share(relative: str) -> Path:
    """A file that ships with kbsync (`config/…`, `migrations`, `data/…`), in a clone or in a wheel.

    Raises ConfigError when it is missing.
    """
    here = Path(__file__).resolve().parent
    for root in (here.parent, here / "_share"):
        if (root / relative).exists():
            return root / relative
    raise ConfigError(f"{relative} is missing from this installation of kbsync; install it again")


def load_settings(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read a TOML file (or only the defaults), then the environment.

    `overrides` is a nested dict that wins over the file. Raises ConfigError with one line that names the
    file, the key, and for an unknown key the nearest known one.
    """
    values: dict[str, Any] = {}
    root = Path.cwd()
    if path is not None:
        values = _read_toml(path)
        parent = path.resolve().parent
        root = parent.parent if parent.name == "config" else parent
    for section, keys in (overrides or {}).items():
        table = values.get(section, {})
        values[section] = {**table, **keys} if isinstance(table, dict) else table
    _check_environment()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError(one_line(_explain(error, path))) from None
    except SettingsError as error:
        raise ConfigError(f'{error}; write lists in the environment as JSON, such as ["P36"]') from None
    return _absolute(settings, root)


def _check_environment() -> None:
    """Raise ConfigError for a `KBSYNC_<SECTION>__<KEY>` whose section does not exist: nobody else would."""
    for name in sorted(os.environ):
        section, mark, key = name.upper().removeprefix("KBSYNC_").partition("__")
        if name.upper().startswith("KBSYNC_") and mark and section.lower() not in Settings.model_fields:
            near = _nearest((section.lower(),))
            hint = f"; did you mean KBSYNC_{near.upper()}__{key}?" if near else ""
            raise ConfigError(f"the environment: {name} names no section{hint}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    except ValueError as error:  # also a number of thousands of digits
        raise ConfigError(one_line(f"{path} is not valid TOML: {error}")) from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deep") from None
    source = values.get("source")
    if isinstance(source, dict) and "token" in source:
        raise ConfigError(
            f"{path}: source.token does not belong into a file that is shared and shown; take it out and set "
            f"KBSYNC_SOURCE__TOKEN in the environment, or name a file in source.token_file"
        )
    return values


def _explain(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if "[" not in str(part) and part != "constrained-int")
    # (of a key that takes several types, the types are left out: `tuple[int, ...]`)
    source = str(path) if path is not None else "the settings"
    if first["type"] == "extra_forbidden":
        near = _nearest(first["loc"])
        hint = f"; did you mean {near}?" if near else "; `kbsync config show` lists the known keys"
        return f"{source}: unknown key {where}{hint}"
    said = f"{source}: {where}: {first['msg'].removeprefix('Value error, ')}"
    if (
        isinstance(first["input"], dict)
        or "credentials" in first["msg"]
        or where in ("source.token", "source.user")
    ):
        return said  # a whole section, or what must not be shown
    return f"{said} (got {mask(mask_url(repr(first['input'])))})"


def _nearest(loc: tuple[int | str, ...]) -> str | None:
    """The known key that is spelled most like the last part of `loc`."""
    section = Settings.model_fields.get(str(loc[0]))
    if len(loc) == 1 or section is None:
        known = list(Settings.model_fields)
        prefix = ""
    else:
        table = section.annotation
        assert isinstance(table, type)
        assert issubclass(table, BaseModel)
        known = list(table.model_fields)
        prefix = f"{loc[0]}."
    match = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    return prefix + match[0] if match else None


def _dataset(name: str, fix: Callable[[Path], Path]) -> str:
    """A data set's id as it is; what begins like a path is one."""
    return str(fix(Path(name))) if name.startswith((".", "~", "/")) else name


def _with_password(url: str, file: Path) -> str:
    """The store's URL with the password that a file holds, in place of one that it may have itself.

    Raises ConfigError when the URL has no user, or the file can't be read or is empty.
    """
    scheme, mark, rest = url.partition("://")
    who, at, where = rest.rpartition("@")
    user = who.partition(":")[0]
    if not mark or not at or not user or scheme.startswith("sqlite"):
        raise ConfigError("store.password_file needs a store.url such as postgresql+psycopg://user@host/database")
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"store.password_file {file} can't be read: {why}") from None
    if not password:
        raise ConfigError(f"store.password_file {file} is empty")
    return f"{scheme}://{user}:{quote(password, safe='')}@{where}"


def _absolute(settings: Settings, root: Path) -> Settings:
    """Resolve the relative paths of `settings` against `root`."""

    def fix(path: Path) -> Path:
        try:
            path = path.expanduser()
        except RuntimeError:
            raise ConfigError(one_line(f"{path}: there is no such home folder; write the path out")) from None
        return path if path.is_absolute() else root / path

    lists = {relation: fix(one) for relation, one in settings.watch.subjects_file.items()}
    catalogue = fix(settings.watch.catalogue)
    if not catalogue.exists() and settings.watch.catalogue == Path("config/relations.toml"):
        catalogue = share("config/relations.toml")

    def fix_url(url: str) -> str:
        if url.startswith("sqlite:///") and not url.startswith("sqlite:////") and url != "sqlite:///:memory:":
            return f"sqlite:///{fix(Path(url.removeprefix('sqlite:///')))}"
        return url

    url, query_url = fix_url(settings.store.url), fix_url(settings.store.query_url)
    password_file = fix(settings.store.password_file) if settings.store.password_file else None
    if password_file is not None:
        url = _with_password(url, password_file)
    return settings.model_copy(
        update={
            "model": settings.model.model_copy(update={"cache": fix(settings.model.cache)}),
            "source": settings.source.model_copy(
                update={"token_file": fix(settings.source.token_file) if settings.source.token_file else None}
            ),
            "watch": settings.watch.model_copy(update={"catalogue": catalogue, "subjects_file": lists}),
            "covariance": settings.covariance.model_copy(
                update={
                    "text": tuple(fix(p) for p in settings.covariance.text),
                    "dataset": _dataset(settings.covariance.dataset, fix),
                }
            ),
            "checkpoint": settings.checkpoint.model_copy(update={"folder": fix(settings.checkpoint.folder)}),
            "store": settings.store.model_copy(
                update={"url": url, "password_file": password_file, "query_url": query_url}
            ),
        }
    )
