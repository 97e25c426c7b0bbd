"""Write the locks: every package that an installation needs, exact, with the sha256 of each file of its release.

`make lock` runs it. Packages are resolved for Linux and macOS and all Pythons that pyproject.toml allows, so a lock
is whole wherever it is used and pip has nothing left to look for (`--no-deps --require-hashes`). The index is the
one that pip is configured with; its name is written nowhere.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "pyproject.toml"
HEADER = "# Written by `make lock` from pyproject.toml; torch is pinned in torch.txt."

# torch is installed by a command of its own, and the rest comes with a CUDA build of torch alone.
LEFT_OUT = re.compile(r"torch|triton|(nvidia|cuda)-.*")
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==[0-9][0-9A-Za-z.!]*(?: ; (?P<marker>[^\\]+))?(?: \\)?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
PLACES = [
    {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    for system, machine, python in itertools.product(
        ("linux", "darwin"), ("x86_64", "aarch64", "arm64"), ("3.11", "3.12", "3.13", "3.14", "3.15")
    )
]


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock: its lines, the first with name, version and marker, the others with a hash each."""

    name: str
    marker: str
    lines: tuple[str, ...]

    @property
    def is_wanted(self) -> bool:
        """Whether it is one for a lock: not torch's, and for a system that kbsync runs on."""
        if LEFT_OUT.fullmatch(self.name):
            return False
        return not self.marker or any(Marker(self.marker).evaluate(place) for place in PLACES)


def pins(text: str) -> list[Pin]:
    """The pins of a requirements file. Raises ValueError for a pin without a hash, and for any other line."""
    found: list[Pin] = []
    for line in text.splitlines():
        pin = PIN.fullmatch(line)
        if pin is not None:
            found.append(Pin(pin["name"], (pin["marker"] or "").strip(), (line,)))
        elif HASH.fullmatch(line) is not None and found:
            last = found.pop()
            found.append(Pin(last.name, last.marker, (*last.lines, line)))
        elif line.strip() and not line.startswith(("#", "-r ")):
            raise ValueError(f"not a line of a lock: {line!r}")
    bare = [pin.name for pin in found if len(pin.lines) == 1]
    if bare:
        raise ValueError(f"{bare[0]} has no hash")
    return found


def lock(resolved: str, bases: Mapping[str, str]) -> str:
    """A lock from what was resolved. `bases`: names and texts of locks that it builds on."""
    known = {pin.name for text in bases.values() for pin in pins(text)}
    kept = [line for pin in pins(resolved) if pin.name not in known and pin.is_wanted for line in pin.lines]
    return "\n".join([HEADER, *(f"-r {base}" for base in bases), *kept]) + "\n"


def index_of(configuration: str) -> str | None:
    """The index in what `pip config list` prints; the environment's counts more than a file's."""
    found = dict(re.findall(r"^(\S+)\.index-url='(.*)'$", configuration, re.MULTILINE))
    return found.get(":env:") or found.get("install") or found.get("global")


def resolve(output: Path, *sources: str) -> str:
    """What uv resolves; pins that `output` has stay as far as they can. Ends the program when it can't."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    index = index_of(told.stdout)
    environment = {**os.environ, **({"UV_DEFAULT_INDEX": index} if index else {})}
    options = ["--universal", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    command = [sys.executable, "-m", "uv", "pip", "compile", *options, "--output-file", str(output), *sources]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"nothing was written: {done.stderr.strip()}")
    return output.read_text(encoding="utf-8")


def main() -> None:
    """Resolve everything, and replace the locks when all of it went through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", required=True, help="the version of torch to resolve with")
    parser.add_argument("--keep", action="store_true", help="keep the pins that still fit")
    given = parser.parse_args()
    told = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    project = told["project"]
    python = ("--python-version", project["requires-python"].removeprefix(">="))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)

        def file(base: str, *lines: str) -> str:
            (work / base).write_text("\n".join(lines) + "\n", encoding="utf-8")
            return str(work / base)

        def made(base: str, *sources: str, **bases: str) -> str:
            old = HERE / base
            if given.keep and old.exists():
                file(base, old.read_text(encoding="utf-8").replace("-r run.lock\n", ""))
            return lock(
                resolve(work / base, *python, *sources), {f"{one}.lock": text for one, text in bases.items()}
            )

        torch = ("--constraint", file("torch.txt", f"torch=={given.torch}"), str(PROJECT))
        build = file("build.txt", *told["build-system"]["requires"], "editables")  # for an editable installation
        run = made("run.lock", *torch, build)
        base = file("base.txt", *run.splitlines())
        dev = made("dev.lock", *torch, build, "--extra", "dev", "--constraint", base, run=run)
        audit = made("audit.lock", file("audit.txt", *project["optional-dependencies"]["audit"]))
        model = made("model.lock", "--no-deps", str(HERE / "model.txt"))
        for base, text in (("run", run), ("dev", dev), ("audit", audit), ("model", model)):
            (HERE / f"{base}.lock").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
