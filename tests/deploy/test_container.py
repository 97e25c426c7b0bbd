"""deploy/Containerfile: what it copies is there, what it installs is locked, and what it runs works here.

No image is built: that needs a container engine. What the steps do is tried as far as a shell and Python go.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kbsync.serve.server import url_of
from kbsync.settings import ServeSettings, load_settings
from tests.deploy.conftest import DEPLOY, Client
from tests.deploy.containerfile import Build, Stage, argv, read
from tests.test_docs import parse

ROOT = DEPLOY.parent
STOPPING_S = 10  # what docs/operations.md promises


@pytest.fixture(scope="module")
def build() -> Build:
    """The file, parsed."""
    return read(DEPLOY / "Containerfile")


@pytest.fixture(scope="module")
def first(build: Build) -> Stage:
    """The stage that installs."""
    return build.stages[0]


@pytest.fixture(scope="module")
def last(build: Build) -> Stage:
    """The stage that becomes the image."""
    return build.stages[-1]


def sources(stage: Stage) -> list[str]:
    """What a stage copies from the repository."""
    lines = [rest.split() for rest in stage.all("COPY") if "--from=" not in rest]
    return [source for words in lines for source in words[:-1]]


def let_through(path: str) -> bool:
    """Whether .dockerignore leaves a path in the build's context: the last line that fits it decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").rstrip("/")
            if any(fnmatch.fnmatchcase(part, pattern) for part in (path, path.split("/")[0])):
                kept = line.startswith("!")
    return kept


def test_every_source_is_there(first: Stage, last: Stage) -> None:
    """In the repository, and in the build's context; secrets, data and history are in neither."""
    for source in sources(first):
        assert (ROOT / source).exists(), source
        assert let_through(source.rstrip("/")), source
    assert sources(last) == []
    for other in (".git", "var", "build", "tests", "deploy/secrets/store_password", "deploy/kbsync.toml"):
        assert not let_through(other), other


def test_the_wheel_finds_all_that_it_carries(first: Stage) -> None:
    """Package, files of `_share`, readme and licences are copied before kbsync is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", project["project"]["readme"]}
    needed |= {*project["project"]["license-files"]}
    words = [word for word, rest in first.steps if word == "COPY" or "--no-build-isolation" in rest]
    assert words[-1] == "RUN"
    assert needed <= {source.rstrip("/") for source in sources(first)}
    for rest in first.all("COPY"):
        *copied, to = rest.split()
        assert to in ("./", *copied), rest  # at the place where pyproject.toml looks for it


def test_only_locked_files_are_installed(first: Stage) -> None:
    """By hash, from every lock that `make run` uses; torch alone is loose, and kbsync itself."""
    steps = [part.strip() for rest in first.all("RUN") for part in rest.split("&&")]
    installs = [part for part in steps if " install " in part]
    loose = [part for part in installs if "--no-deps --require-hashes -r requirements/" not in part]
    assert [part.split()[-1] for part in loose] == ['"torch==$torch"', "."]
    assert "--no-deps --no-build-isolation" in loose[1]
    locks = re.findall(r"requirements/\w+\.lock", " ".join(installs))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").partition("$(DEV_STAMP):")[0]
    assert locks == re.findall(r"-r (requirements/\w+\.lock)", makefile)
    assert all((ROOT / lock).is_file() for lock in locks)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "install torch=={pin}"),
        (
            {"TORCH": "9.9", "TORCH_INDEX": "https://x.example/cpu"},
            "install --index-url https://x.example/cpu torch==9.9",
        ),
    ],
)
def test_torch_by_argument(first: Stage, tmp_path: Path, given: dict[str, str], said: str) -> None:
    """The step as a shell runs it: requirements/torch.txt unless told otherwise, from any index."""
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    (step,) = [rest for rest in first.all("RUN") if "torch==$torch" in rest]
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", step], cwd=ROOT, env=path | given, capture_output=True, text=True, check=True
    )
    pin = re.search(
        r"^torch==(.*)$", (ROOT / "requirements" / "torch.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert pin is not None
    assert done.stdout.strip().endswith(said.format(pin=pin[1]))
    assert {"TORCH", "TORCH_INDEX"} <= set(first.all("ARG"))


def needed_to_run(name: str) -> set[str]:
    """A distribution and all that it asks for here, without extras."""
    found: set[str] = set()
    open_ = [str(canonicalize_name(name))]
    while open_:
        one = open_.pop()
        if one in found:
            continue
        found.add(one)
        try:
            asked = importlib.metadata.requires(one) or []
        except importlib.metadata.PackageNotFoundError:  # a part of torch that this build of it does without
            continue
        for requirement in map(Requirement, asked):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                open_.append(str(canonicalize_name(requirement.name)))
    return found


def test_what_only_builds_is_removed(build: Build, first: Stage, last: Stage) -> None:
    """No pip, no build backend, no compiler in the image; nothing that kbsync needs to run is taken away."""
    (step,) = [rest for rest in first.all("RUN") if "uninstall" in rest]
    removed = step.partition("uninstall --yes ")[2].split("&&")[0].split()
    lock = (ROOT / "requirements" / "run.lock").read_text(encoding="utf-8")
    assert all(re.search(rf"^{name}==", lock, re.MULTILINE) for name in removed)
    needed = needed_to_run("kbsync")
    assert {"click", "torch", "sqlalchemy"} <= needed
    assert not set(removed) & needed
    assert "hatchling" in removed
    backend = needed_to_run("hatchling") - needed
    assert backend <= {*removed}
    assert "--without-pip /opt/kbsync" in first.all("RUN")[0]
    assert "pip uninstall" in last.all("RUN")[0]
    assert all("install " not in part or part.strip().startswith("install --directory") or "uninstall" in part
               for rest in last.all("RUN") for part in rest.split("&&"))  # fmt: skip
    assert not re.search(r"apt|gcc|build-essential", str(build))
    assert last.all("COPY") == ["--from=build /opt/kbsync /opt/kbsync"]
    assert first.name == "build"
    assert {stage.image for stage in build.stages} == {"docker.io/library/python:${PYTHON}-slim"}  # one interpreter


def test_it_runs_as_nobody_in_particular(last: Stage) -> None:
    """A user without rights, by number, who owns the volume and nothing else."""
    made = re.search(r"useradd --uid (\d+) ", last.all("RUN")[0])
    assert made is not None
    assert last.one("USER") == f"{made[1]}:{made[1]}"
    assert int(made[1]) >= 10000
    assert re.findall(r"--owner=kbsync .*?(\S+)(?: |$)", last.all("RUN")[0])
    assert last.all("RUN")[0].rstrip().endswith(last.one("VOLUME"))
    words = [word for word, _ in last.steps]
    assert words.index("USER") > max(i for i, word in enumerate(words) if word in ("RUN", "COPY"))


def test_paths_of_the_shipped_settings_lie_in_the_volume(last: Stage, tmp_path: Path) -> None:
    """`config example wikidata` needs no change of its paths: store, models and checkpoints begin at var/."""
    config = Path(last.environment()["KBSYNC_CONFIG"])
    volume = Path(last.one("VOLUME"))
    assert config.parent.name == "config"
    assert config.parents[1] / "var" == volume
    assert Path(last.environment()["HF_HOME"]).parent == volume
    here = tmp_path / "config" / config.name
    here.parent.mkdir()
    shutil.copy(ROOT / "config" / "wikidata.toml", here)
    settings = load_settings(here)
    for path in (
        settings.model.cache,
        settings.checkpoint.folder,
        Path(settings.store.url.removeprefix("sqlite:///")),
    ):
        assert path.is_relative_to(tmp_path / "var"), path
    assert settings.watch.catalogue.exists()  # of the wheel


def test_what_it_runs(last: Stage) -> None:
    """`kbsync run` by default, without a shell between it and its signals, and its HTTP port."""
    assert argv(last.one("ENTRYPOINT")) == ["kbsync"]
    assert parse(argv(last.one("CMD"))).command.name == "run"
    assert last.one("STOPSIGNAL") == "SIGTERM"
    assert last.one("EXPOSE") == str(ServeSettings().port)
    assert last.environment()["PATH"].startswith("/opt/kbsync/bin:")


def health(last: Stage, port: int) -> int:
    """The health check's own command against a port of this machine; its exit code."""
    _, _, command = last.one("HEALTHCHECK").partition("CMD ")
    python, *words = argv(command)
    assert python == "python"
    env = {"KBSYNC_SERVE__PORT": str(port)}
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, check=False).returncode


def test_the_health_check_asks_a_server(last: Stage, ask: Client) -> None:
    """0 while /healthz says yes, something else when it does not, or nobody is there."""
    assert url_of  # the server below is the one that `kbsync run` has
    assert health(last, ask.port) == 0
    assert health(last, 9) != 0

    class Hung:
        def age_s(self) -> float:
            return 1e9

    object.__setattr__(ask.view, "pulse", Hung())
    assert health(last, ask.port) != 0
    assert f"'{ServeSettings().port}'" in last.one("HEALTHCHECK")
