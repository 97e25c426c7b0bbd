"""Turn pip's resolution report (on standard input) into exact pins (on standard output): `make lock` runs it.

With a file as argument, pins that the file has already are left out and the file is referred to instead.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

# kbsync itself is not a requirement, torch has its own file, and the rest comes with a CUDA build of torch alone.
LEFT_OUT = re.compile(r"kbsync|torch|triton|(nvidia|cuda)-.*")


def canonical(name: str) -> str:
    """The name as package indexes compare it: lower case, with single hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(report: str) -> list[str]:
    """`name==version` for every package of the report, sorted, without local build marks such as `+cpu`."""
    packages = [one["metadata"] for one in json.loads(report)["install"]]
    found = {canonical(package["name"]): package["version"].partition("+")[0] for package in packages}
    return sorted(f"{name}=={version}" for name, version in found.items() if not LEFT_OUT.fullmatch(name))


def main() -> None:
    """Read the report, write the lock."""
    lines = ["# Written by `make lock` from pyproject.toml; torch is pinned in torch.txt."]
    known: set[str] = set()
    for base in map(Path, sys.argv[1:]):
        lines.append(f"-r {base.name}")
        known.update(base.read_text(encoding="utf-8").splitlines())
    lines += [pin for pin in pins(sys.stdin.read()) if pin not in known]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
