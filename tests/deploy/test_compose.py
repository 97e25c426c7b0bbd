"""deploy/compose.yml: what it names is there, its settings load, and no secret stands in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from kbsync.settings import ServeSettings, load_settings
from tests.deploy.conftest import DEPLOY
from tests.deploy.containerfile import read
from tests.deploy.test_container import STOPPING_S

Compose = dict[str, Any]


def test_what_it_names_is_there(compose: Compose) -> None:
    """The Containerfile and its arguments, volumes, secrets, and the service that is waited for."""
    kbsync, db = compose["services"]["kbsync"], compose["services"]["db"]
    context = (DEPLOY / kbsync["build"]["context"]).resolve()
    build = read(context / kbsync["build"]["dockerfile"])
    assert set(kbsync["build"]["args"]) <= {*build.arguments, *build.stages[0].all("ARG")}
    for service in (kbsync, db):
        named = {one.split(":")[0] for one in service["volumes"] if not one.startswith(".")}
        assert named <= set(compose["volumes"])
        assert set(service["secrets"]) <= set(compose["secrets"])
    assert set(kbsync["depends_on"]) == {"db"}
    assert kbsync["depends_on"]["db"]["condition"] == "service_healthy"
    assert db["healthcheck"]["test"][0] == "CMD"


def test_its_settings_are_settings(compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the shipped file and this environment kbsync reaches the other service, with the file's password."""
    (tmp_path / "secret").write_text("s3cret/\n", encoding="utf-8")
    environment = compose["services"]["kbsync"]["environment"]
    monkeypatch.delenv("KBSYNC_CONFIG", raising=False)
    for name, value in environment.items():
        file = value == "/run/secrets/store_password"
        monkeypatch.setenv(name, str(tmp_path / "secret") if file else value)
    settings = load_settings(DEPLOY.parent / "config" / "wikidata.toml")
    url = make_url(settings.store.url)
    db = compose["services"]["db"]["environment"]
    assert (url.host, url.username, url.database) == ("db", db["POSTGRES_USER"], db["POSTGRES_DB"])
    assert url.password == "s3cret/"
    assert environment["KBSYNC_STORE__PASSWORD_FILE"] == db["POSTGRES_PASSWORD_FILE"]
    assert settings.serve.host == "0.0.0.0"


def test_no_secret_stands_in_it(compose: Compose) -> None:
    """Secrets are files, which git does not take."""
    text = (DEPLOY / "compose.yml").read_text(encoding="utf-8")
    assert not re.search(r"(PASSWORD|TOKEN): ", text)
    assert not re.search(r"://\w+:[^/]", text)
    ignored = (DEPLOY.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    for secret in compose["secrets"].values():
        path = (DEPLOY / secret["file"]).resolve().relative_to(DEPLOY.parent)
        assert f"{path.parent}/" in ignored
    assert "deploy/kbsync.toml" in ignored


def test_the_container_is_kept_small(compose: Compose) -> None:
    """No rights, nothing to write but the volume and /tmp, the port on this machine alone, time enough to stop."""
    kbsync = compose["services"]["kbsync"]
    assert kbsync["cap_drop"] == ["ALL"]
    assert kbsync["read_only"] is True
    assert kbsync["tmpfs"] == ["/tmp"]
    assert kbsync["security_opt"] == ["no-new-privileges:true"]
    assert kbsync["ports"] == [f"127.0.0.1:{ServeSettings().port}:{ServeSettings().port}"]
    assert int(kbsync["stop_grace_period"].removesuffix("s")) >= 2 * STOPPING_S


def test_mounts_lie_where_the_image_looks(compose: Compose) -> None:
    """The settings at KBSYNC_CONFIG, read-only, and the volume at the image's."""
    image = read(DEPLOY / "Containerfile").stages[-1]
    mounts = dict(one.split(":", 1) for one in compose["services"]["kbsync"]["volumes"])
    assert mounts["./kbsync.toml"] == f"{image.environment()['KBSYNC_CONFIG']}:ro"
    assert mounts["var"] == image.one("VOLUME")
