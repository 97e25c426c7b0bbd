"""The error tree is what its page says it is, and each kind has its own exit code."""

from __future__ import annotations

import inspect
import re

import pytest

from kbsync import errors
from kbsync.errors import KbsyncError, Throttled

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]
KINDS = [cls for cls in CLASSES if cls.__base__ is KbsyncError]


def drawn_tree() -> dict[str, str | None]:
    """Each class that the module's docstring draws, and the class that it hangs from."""
    assert errors.__doc__ is not None
    parents: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([ │├└─]*)([A-Z]\w+)  ", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        path = [(d, n) for d, n in path if d < depth]
        parents[name] = path[-1][1] if path else None
        path.append((depth, name))
    return parents


def test_every_class_is_drawn_where_it_hangs() -> None:
    """The tree at the top of the module has every class, no other, each under its real base."""
    real = {cls.__name__: cls.__base__.__name__ if cls is not KbsyncError else None for cls in CLASSES}
    assert drawn_tree() == real


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_says_when_it_is_raised(cls: type) -> None:
    """Each class has a docstring of its own, a sentence."""
    text = inspect.cleandoc(cls.__doc__ or "")
    assert text.endswith(".")
    assert text != inspect.cleandoc(cls.__base__.__doc__ or "")


def test_each_kind_has_its_own_exit_code() -> None:
    """No two kinds end the command line with the same code, and none with success or the general 1."""
    codes = {cls.__name__: cls.exit_code for cls in KINDS}
    assert len(set(codes.values())) == len(codes)
    assert not {0, 1} & set(codes.values())
    assert KbsyncError.exit_code == 1


def test_exit_codes_fit_a_shell() -> None:
    """Codes are 1 to 125, which shells leave alone, but for 130: a stop reads as an interrupt does."""
    codes = {cls: cls.exit_code for cls in CLASSES}
    assert codes.pop(errors.Stopped) == 130
    assert all(1 <= code <= 125 for code in codes.values())


def test_a_finer_class_ends_with_the_code_of_its_kind() -> None:
    """Scripts can tell kinds apart by code without knowing every class."""
    for cls in CLASSES:
        kinds = [kind for kind in KINDS if issubclass(cls, kind)]
        assert [kind.exit_code for kind in kinds] == ([] if cls is KbsyncError else [cls.exit_code])


def test_a_refusal_carries_the_seconds_to_wait() -> None:
    """Throttled knows how long the endpoint asked us to wait, where it said so."""
    assert Throttled("slow down", 12.5).retry_after_s == 12.5
    assert Throttled("slow down").retry_after_s is None
    assert str(Throttled("slow down", 3)) == "slow down"
