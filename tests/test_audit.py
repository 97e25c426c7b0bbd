"""tools/audit.py fails on a known vulnerability, and on nothing that only the network is to blame for."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@cache
def audit() -> ModuleType:
    """tools/audit.py."""
    spec = importlib.util.spec_from_file_location("audit_tool", ROOT / "tools" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit_tool"] = module
    spec.loader.exec_module(module)
    return module


def printed(*packages: dict[str, Any]) -> str:
    """What pip-audit prints of these packages."""
    return json.dumps({"dependencies": list(packages), "fixes": []})


GOOD = {"name": "click", "version": "8.5.1", "vulns": []}
BAD = {
    "name": "jinja2",
    "version": "3.1.2",
    "vulns": [{"id": "PYSEC-2024-1", "aliases": ["CVE-2024-22195"], "fix_versions": ["3.1.3"]}],
}
UNKNOWN = {"name": "made-up", "skip_reason": "not found"}


def judged(*found: Any, allowed: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """The exit code and the lines."""
    code, lines = audit().report(list(found), allowed or {})
    return code, lines


def test_nothing_known_is_good() -> None:
    """Packages that the service knows and has nothing against."""
    assert judged(audit().read(printed(GOOD), "")) == (
        0,
        ["1 packages, 0 known vulnerabilities that are not accepted"],
    )


def test_a_known_vulnerability_fails() -> None:
    """It is named with the release that mends it; that a second file has it too makes no second line."""
    found = audit().read(printed(GOOD, BAD), "")
    code, lines = judged(found, found)
    assert code == 1
    assert lines[0] == "jinja2 3.1.2: PYSEC-2024-1, fixed in 3.1.3"
    assert sum("jinja2" in line for line in lines) == 1


@pytest.mark.parametrize("name", ["PYSEC-2024-1", "CVE-2024-22195"])
def test_one_that_is_accepted_does_not(name: str) -> None:
    """By any of its names, with the reason shown."""
    code, lines = judged(audit().read(printed(BAD), ""), allowed={name: "kbsync renders no such template"})
    assert code == 0
    assert lines[0].endswith("accepted: kbsync renders no such template")


def test_what_is_accepted_in_vain_is_said() -> None:
    """An entry that has had its day is seen."""
    _, lines = judged(audit().read(printed(GOOD), ""), allowed={"PYSEC-1": "for reasons of old"})
    assert "accepted, but no longer found: PYSEC-1" in lines


@pytest.mark.parametrize(
    "errors",
    [
        "Traceback …\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host=…): Max retries exceeded",
        "requests.exceptions.ProxyError: …",
        "requests.exceptions.ReadTimeout: …",
        "ERROR:pip_audit._cli:Could not connect to the vulnerability feed",
    ],
)
def test_no_network_is_no_failure(errors: str) -> None:
    """It is said that the audit was skipped, and the exit code is 0."""
    code, lines = judged(audit().read("", errors))
    assert (code, lines) == (0, ["skipped: the advisory service can't be reached"])


def test_a_mirror_without_advisories_is_no_failure() -> None:
    """An index that answers and knows nothing has audited nothing, and that is said; some unknown are named."""
    assert judged(audit().read(printed(UNKNOWN), "")) == (
        0,
        ["skipped: the service that answers knows none of the packages"],
    )
    assert "not known to the service: made-up" in judged(audit().read(printed(GOOD, UNKNOWN), ""))[1]


def test_a_tool_that_breaks_is_a_failure() -> None:
    """An audit that never runs again must be seen."""
    with pytest.raises(ValueError, match="pip-audit failed: error: no such option"):
        audit().read("", "usage: …\nerror: no such option: --format")


def test_the_list_of_accepted_ones_has_a_reason_for_each() -> None:
    """The file that ships is whole, and one without a reason is refused."""
    audit().accepted(audit().ACCEPTED.read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="PYSEC-1 has no reason"):
        audit().accepted('"PYSEC-1" = "later"')
