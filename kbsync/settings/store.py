"""What lies on disk and in the database, and for how long."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from kbsync.settings.section import Duration, Section, off_is_none


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
        return value if info.field_name == "every" else off_is_none(value)
