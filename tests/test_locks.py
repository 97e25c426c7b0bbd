"""The locks pin what pyproject.toml asks for, exactly, and name no place to get it from."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
LOCKS = sorted(path.name for path in REQUIREMENTS.glob("*.lock"))
PINNED = [*LOCKS, *sorted(path.name for path in REQUIREMENTS.glob("*.txt"))]


def pins(*names: str) -> dict[str, str]:
    """Name and version of every pin in the named files."""
    lines = [line for name in names for line in (REQUIREMENTS / name).read_text(encoding="utf-8").splitlines()]
    found = [re.match(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    return {str(canonicalize_name(pin[1])): pin[2] for pin in found if pin is not None}


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


@pytest.mark.parametrize("requirement", asked("audit"), ids=str)
def test_every_tool_of_the_audit_is_pinned_as_pyproject_allows(requirement: Requirement) -> None:
    """What makes the locks and audits them is locked itself."""
    assert requirement.specifier.contains(pins("audit.lock")[canonicalize_name(requirement.name)])


def test_what_an_installation_is_built_with_is_pinned() -> None:
    """pip builds kbsync with what the lock has (`--no-build-isolation`), and fetches nothing for it."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    for requirement in map(Requirement, build):
        assert requirement.specifier.contains(pins("run.lock")[canonicalize_name(requirement.name)])
    assert "editables" in pins("run.lock")


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes(name: str) -> None:
    """Each pin is followed by the sha256 of files; several where a release has wheels for several machines."""
    found = lock_tool().pins((REQUIREMENTS / name).read_text(encoding="utf-8"))
    assert found
    assert all(len(pin.lines) > 1 for pin in found)
    if name == "run.lock":
        assert len(next(pin for pin in found if pin.name == "numpy").lines) > 10


def test_an_installation_takes_nothing_without_a_hash() -> None:
    """The Makefile installs locks by hash alone; torch, which is overridable, is the one exception."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "EXACT := install --no-deps --require-hashes\n" in makefile
    loose = [line for line in makefile.splitlines() if re.search(r"\) install ", line) and "$(EXACT)" not in line]
    assert [line.split(" install ")[1] for line in loose] == [
        "'torch==$(TORCH)'",
        "--no-deps --no-build-isolation --editable .",
    ]


def test_no_package_is_pinned_twice() -> None:
    """dev.lock builds on run.lock and repeats nothing of it, so the two can't disagree."""
    assert not set(pins("dev.lock")) & set(pins("run.lock"))
    assert "-r run.lock" in (REQUIREMENTS / "dev.lock").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", PINNED)
def test_pins_are_exact_and_name_no_index_and_no_build(name: str) -> None:
    """Every line is a comment, a reference, a pin or a hash: no URL, no index, no local build, no CUDA part."""
    for line in (REQUIREMENTS / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        pin = r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [^\\]*)?( \\)?"
        assert re.fullmatch(rf"-r run\.lock|{pin}|    --hash=sha256:[0-9a-f]{{64}}( \\)?", line), line
        assert "://" not in line
        assert not line.startswith(("nvidia-", "cuda-", "triton"))


@cache
def lock_tool() -> ModuleType:
    """requirements/lock.py."""
    spec = importlib.util.spec_from_file_location("lock_tool", REQUIREMENTS / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lock_tool"] = module
    spec.loader.exec_module(module)
    return module


def resolved(*pins: str) -> str:
    """What a resolver prints: each pin with two hashes."""
    return "".join(f"{pin} \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n" for pin in pins)


def test_what_was_resolved_becomes_a_lock() -> None:
    """torch, its CUDA parts and what other systems need are left out; markers and hashes stay."""
    given = resolved(
        "click==8.5.1",
        "colorama==0.4.6 ; sys_platform == 'win32'",
        "nvidia-cublas==13.4.1.3 ; sys_platform == 'linux'",
        "torch==2.13.0",
        "atheris==3.0.0 ; sys_platform == 'linux'",
        "old==1 ; python_full_version < '3.11'",
    )
    wanted = resolved("click==8.5.1", "atheris==3.0.0 ; sys_platform == 'linux'")
    assert lock_tool().lock(given, {}).partition("\n")[2] == wanted


def test_what_another_lock_pins_is_referred_to() -> None:
    """With a base only the new pins are written, under a reference to it."""
    made = lock_tool().lock(resolved("click==8.5.1", "mypy==2.4.1"), {"run.lock": resolved("click==8.5.1")})
    assert made.splitlines()[1:3] == ["-r run.lock", "mypy==2.4.1 \\"]
    assert "click" not in made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("click==8.5.1\n", "click has no hash"),
        (resolved("click==8.5.1") + "--index-url https://example.org\n", "not a line of a lock"),
        ("click>=8 \\\n    --hash=sha256:" + "a" * 64 + "\n", "not a line of a lock"),
    ],
)
def test_a_lock_with_anything_else_is_refused(text: str, said: str) -> None:
    """A pin without a hash, an index and a range are no part of a lock."""
    with pytest.raises(ValueError, match=said):
        lock_tool().pins(text)


def test_the_index_is_that_of_pip() -> None:
    """The environment comes before files; without any, the resolver's own default serves."""
    index = lock_tool().index_of
    both = "global.index-url='https://file.example/simple'\n:env:.index-url='https://env.example/simple'\n"
    assert index(both) == "https://env.example/simple"
    assert (
        index("global.index-url='https://file.example/simple'\nglobal.timeout='9'\n")
        == "https://file.example/simple"
    )
    assert index("global.extra-index-url='https://more.example/simple'\n") is None
