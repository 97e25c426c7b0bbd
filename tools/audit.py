"""Look for known vulnerabilities in what the locks pin: `make audit` and continuous integration run it.

pip-audit asks the advisory service. Where that can't be reached, or knows none of the packages (a mirror of the
index has no advisories), the audit is skipped and says so: without a network nothing fails. A known vulnerability
fails, unless requirements/advisories.toml accepts it with a reason.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
FILES = ("dev.lock", "model.lock", "audit.lock", "torch.txt")  # dev.lock takes run.lock along
ACCEPTED = REQUIREMENTS / "advisories.toml"

_AWAY = re.compile(r"requests\.exceptions\.|urllib3\.exceptions\.|ServiceError|ConnectionError|Could not connect")


@dataclass(frozen=True, slots=True)
class Advisory:
    """One known vulnerability of one pin. `ids` are all its names, its own first."""

    package: str
    ids: tuple[str, ...]
    fixed_in: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the service says of one file. `away`: why it said nothing."""

    asked: int = 0
    advisories: tuple[Advisory, ...] = ()
    unknown: tuple[str, ...] = field(default=())
    away: str = ""


def read(output: str, errors: str) -> Found:
    """What pip-audit printed. Raises ValueError when it failed for another reason than an absent service."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["it printed nothing"])[-1]
        if _AWAY.search(errors):
            return Found(away="the advisory service can't be reached")
        raise ValueError(f"pip-audit failed: {last}") from None
    known = [one for one in packages if "skip_reason" not in one]
    if packages and not known:
        return Found(away="the service that answers knows none of the packages")
    advisories = [
        Advisory(
            f"{one['name']} {one['version']}",
            (found["id"], *found.get("aliases", ())),
            ", ".join(found.get("fix_versions", ())) or "no release",
        )
        for one in known
        for found in one["vulns"]
    ]
    return Found(len(known), tuple(advisories), tuple(one["name"] for one in packages if "skip_reason" in one))


def accepted(text: str) -> dict[str, str]:
    """Advisory → why it does no harm here. Raises ValueError for one without a reason."""
    found = tomllib.loads(text)
    for name, reason in found.items():
        if not isinstance(reason, str) or len(reason.split()) < 3:
            raise ValueError(f"{ACCEPTED.name}: {name} has no reason")
    return found


def report(found: list[Found], allowed: dict[str, str]) -> tuple[int, list[str]]:
    """(the exit code, lines to print) for all files."""
    lines: list[str] = []
    open_ones = 0
    used: set[str] = set()
    for advisory in dict.fromkeys(one for each in found for one in each.advisories):
        reason = next((allowed[name] for name in advisory.ids if name in allowed), None)
        used.update(advisory.ids)
        verdict = f"accepted: {reason}" if reason else f"fixed in {advisory.fixed_in}"
        lines.append(f"{advisory.package}: {advisory.ids[0]}, {verdict}")
        open_ones += reason is None
    unknown = sorted({name for each in found for name in each.unknown})
    lines += [f"not known to the service: {', '.join(unknown)}"] if unknown else []
    away = sorted({each.away for each in found if each.away})
    if away:
        lines.append(f"skipped: {away[0]}")
    elif allowed.keys() - used:
        lines.append(f"accepted, but no longer found: {', '.join(sorted(allowed.keys() - used))}")
    asked = sum(each.asked for each in found)
    if asked:
        lines.append(f"{asked} packages, {open_ones} known vulnerabilities that are not accepted")
    return int(open_ones > 0), lines


def ask(name: str) -> Found:
    """What the service says of one file of requirements."""
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    command = [sys.executable, "-m", "pip_audit", *options, "-r", str(REQUIREMENTS / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- a fixed command
    return read(done.stdout, done.stderr)


def main() -> int:
    """Ask about each file; the first that the service is away for is the last that is asked."""
    found: list[Found] = []
    try:
        allowed = accepted(ACCEPTED.read_text(encoding="utf-8"))
        for name in FILES:
            found.append(ask(name))
            if found[-1].away:
                break
    except ValueError as error:
        sys.stderr.write(f"audit: {error}\n")
        return 2
    code, lines = report(found, allowed)
    sys.stdout.write("".join(f"audit: {line}\n" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
