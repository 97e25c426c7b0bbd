"""Points in a plane, drawn with plain characters."""

from __future__ import annotations

from collections.abc import Sequence

_COLUMNS, _ROWS = 56, 13


def scatter(marks: Sequence[tuple[float, float, str]], x_name: str, y_name: str) -> str:
    """Lines of text with each mark (x, y, one character) where it belongs; a later one hides an earlier one.

    The axes reach from the least value to the greatest, which stand beside them. `marks` are finite; without any,
    the text is empty.
    """
    if not marks:
        return ""
    left, right = _ends([x for x, _, _ in marks])
    low, high = _ends([y for _, y, _ in marks])
    grid = [[" "] * _COLUMNS for _ in range(_ROWS)]
    for x, y, mark in marks:
        column = round((x - left) / (right - left) * (_COLUMNS - 1))
        row = round((high - y) / (high - low) * (_ROWS - 1))
        grid[row][column] = mark
    ends = {0: f"{high:.3f}", _ROWS - 1: f"{low:.3f}"}
    width = max(map(len, ends.values()))
    lines = [f"{ends.get(i, ''):>{width}} |{''.join(row).rstrip()}" for i, row in enumerate(grid)]
    floor = f"{'':{width}} +{'-' * _COLUMNS}"
    scale = f"{'':{width}}  {f'{left:.3f}':<{_COLUMNS // 2}}{f'{right:.3f}':>{_COLUMNS // 2}}"
    return "\n".join([y_name, *lines, floor, scale, f"{'':{width}}  {x_name:^{_COLUMNS}}".rstrip()])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Least and greatest, apart even when they are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.001, high + 0.001)
