"""All sections as one."""

from __future__ import annotations

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kbsync.settings.daemon import ScheduleSettings, ServeSettings
from kbsync.settings.gate import EvaluateSettings, GateSettings
from kbsync.settings.model import CovarianceSettings, EditSettings, ModelSettings
from kbsync.settings.source import SourceSettings
from kbsync.settings.store import CheckpointSettings, RetentionSettings, StoreSettings
from kbsync.settings.trust import TrustSettings
from kbsync.settings.watch import WatchSettings


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
