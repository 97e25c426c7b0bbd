"""The only reader of TOML files and of the environment.

A setting comes from, in this order: `KBSYNC_<SECTION>__<KEY>` in the environment, the TOML file, the section's
default. Relative paths in a file are relative to that file's folder's parent when it lies in `config/`, else to
the file's folder, so that a clone works from anywhere.
"""

from kbsync.settings.daemon import ScheduleSettings, ServeSettings, quiet_hours
from kbsync.settings.gate import EvaluateSettings, GateSettings
from kbsync.settings.load import load_settings
from kbsync.settings.model import CovarianceSettings, EditSettings, ModelSettings
from kbsync.settings.paths import expanded, share
from kbsync.settings.secrets import read_secret, secrets_of
from kbsync.settings.section import Duration, Section, duration
from kbsync.settings.source import SourceSettings, is_loopback, user_agent
from kbsync.settings.store import CheckpointSettings, RetentionSettings, StoreSettings
from kbsync.settings.toml import read_toml
from kbsync.settings.trust import ReferencePolicy, TrustSettings
from kbsync.settings.watch import WatchSettings
from kbsync.settings.whole import Settings

__all__ = [
    "CheckpointSettings",
    "CovarianceSettings",
    "Duration",
    "EditSettings",
    "EvaluateSettings",
    "GateSettings",
    "ModelSettings",
    "ReferencePolicy",
    "RetentionSettings",
    "ScheduleSettings",
    "Section",
    "ServeSettings",
    "Settings",
    "SourceSettings",
    "StoreSettings",
    "TrustSettings",
    "WatchSettings",
    "duration",
    "expanded",
    "is_loopback",
    "load_settings",
    "quiet_hours",
    "read_secret",
    "read_toml",
    "secrets_of",
    "share",
    "user_agent",
]
