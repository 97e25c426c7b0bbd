"""The locks pin what pyproject.toml asks for, exactly, and name no place to get it from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
PINNED = sorted(path.name for path in [*REQUIREMENTS.glob("*.lock"), *REQUIREMENTS.glob("*.txt")])


def pins(*names: str) -> dict[str, str]:
    """Name and version of every pin in the named files."""
    lines = [line for name in names for line in (REQUIREMENTS / name).read_text(encoding="utf-8").splitlines()]
    found = [line.split("==") for line in lines if not line.startswith(("#", "-r "))]
    return {str(canonicalize_name(name)): version for name, version in found}


def asked(extra: str | None = None) -> list[Requirement]:
    """What pyproject.toml asks for, or one of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return [Requirement(line) for line in listed]


@pytest.mark.parametrize("requirement", asked(), ids=str)
def test_every_dependency_is_pinned_as_pyproject_allows(requirement: Requirement) -> None:
    """Each dependency has a pin in run.lock or torch.txt that satisfies its floor."""
    version = pins("run.lock", "torch.txt")[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version)


@pytest.mark.parametrize("requirement", asked("dev"), ids=str)
def test_every_development_tool_is_pinned_as_pyproject_allows(requirement: Requirement) -> None:
    """Each tool of the dev extra has a pin in dev.lock that satisfies its floor."""
    assert requirement.specifier.contains(pins("dev.lock")[canonicalize_name(requirement.name)])


def test_no_package_is_pinned_twice() -> None:
    """dev.lock builds on run.lock and repeats nothing of it, so the two can't disagree."""
    assert not set(pins("dev.lock")) & set(pins("run.lock"))
    assert "-r run.lock" in (REQUIREMENTS / "dev.lock").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", PINNED)
def test_pins_are_exact_and_name_no_index_and_no_build(name: str) -> None:
    """Every line is a comment, a reference or `name==version`: no URL, no index, no local build, no CUDA part."""
    for line in (REQUIREMENTS / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        assert re.fullmatch(r"-r run\.lock|[a-z0-9-]+==[0-9][0-9a-z.]*", line), line
        assert not line.startswith(("nvidia-", "cuda-", "triton"))


REPORT = {
    "install": [
        {"metadata": {"name": "kbsync", "version": "0.1.0"}},
        {"metadata": {"name": "torch", "version": "2.13.0+cpu"}},
        {"metadata": {"name": "nvidia-cublas", "version": "13.0"}},
        {"metadata": {"name": "Typing_Extensions", "version": "4.16.0"}},
        {"metadata": {"name": "click", "version": "8.5.1+local"}},
    ]
}


def run_lock(*arguments: str) -> list[str]:
    """What requirements/lock.py makes of the report, without its comment."""
    command = [sys.executable, str(REQUIREMENTS / "lock.py"), *arguments]
    done = subprocess.run(command, input=json.dumps(REPORT), capture_output=True, text=True, check=True)
    first, *rest = done.stdout.splitlines()
    assert first.startswith("#")
    return rest


def test_a_report_becomes_sorted_pins() -> None:
    """Names are canonical, local builds are cut off, and kbsync, torch and CUDA parts are left out."""
    assert run_lock() == ["click==8.5.1", "typing-extensions==4.16.0"]


def test_what_another_lock_pins_is_referred_to(tmp_path: Path) -> None:
    """With a base lock only the new pins are written, under a reference to it."""
    base = tmp_path / "run.lock"
    base.write_text("# comment\nclick==8.5.1\n", encoding="utf-8")
    assert run_lock(str(base)) == ["-r run.lock", "typing-extensions==4.16.0"]
