"""PromQL, as far as the files in deploy/ use it: parsed into the metrics, and the labels that each part leaves.

A query that this does not know is an error, so that nothing goes unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

OUTER = frozenset({"job", "instance"})  # what Prometheus itself puts on every series
AGGREGATIONS = ("max", "min", "sum", "avg", "count", "topk")
OVER_COUNTERS = ("increase", "rate")
OVER_GAUGES = ("avg_over_time", "predict_linear", "changes", "absent")
OPERATORS = ({"==", "!=", ">", "<", ">=", "<="}, {"+", "-"}, {"*", "/"})
TOKEN = re.compile(
    r"\s*(?:(?P<range>\[\d+[smhd](?::\d+[smhd])?\])|(?P<number>\d+(?:\.\d+)?(?:e\d+)?)"
    r"|(?P<name>[a-zA-Z_]\w*)|(?P<text>\"[^\"]*\")|(?P<mark>=~|!~|!=|==|>=|<=|[=><+\-*/(){},]))"
)


class Wrong(ValueError):
    """A query that can't be parsed, or that asks for what there is not."""


@dataclass(frozen=True)
class Used:
    """One selector: a metric, the matchers as (label, operator, value), and the function over its range, if any."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    ranged: bool
    function: str


@dataclass
class Query:
    """What a query reads, and the labels that its answer may have."""

    labels: frozenset[str]
    used: list[Used] = field(default_factory=list)


class Parser:
    """Recursive descent: comparisons hold sums, sums hold products, products hold calls and selectors."""

    def __init__(self, text: str, labels_of: dict[str, tuple[str, ...]]) -> None:
        self.tokens, self.labels_of, self.at = list(_tokens(text)), labels_of, 0

    def parse(self) -> Query:
        found = self._operation(0, "")
        if self.at != len(self.tokens):
            raise Wrong(f"more than a query: {self.tokens[self.at :]}")
        return found

    def _operation(self, level: int, function: str) -> Query:
        if level == len(OPERATORS):
            return self._operand(function)
        left = self._operation(level + 1, function)
        while self._next() in OPERATORS[level]:
            self.at += 1
            right = self._operation(level + 1, function)
            sides = [one.labels for one in (left, right) if one.used]  # a number has no labels and matches all
            if len({*sides}) > 1:
                raise Wrong(f"sides with other labels never match: {left.labels} and {right.labels}")
            left = Query(sides[0] if sides else frozenset(), left.used + right.used)
        return left

    def _operand(self, function: str) -> Query:
        kind, text = self._take()
        if kind == "number":
            return Query(frozenset())
        if text == "(":
            inside = self._operation(0, function)
            self._want(")")
            return inside
        if kind != "name":
            raise Wrong(f"unexpected {text!r}")
        if text == "time":
            self._want("(")
            self._want(")")
            return Query(frozenset())
        if text in AGGREGATIONS:
            return self._aggregation(text)
        if text in (*OVER_COUNTERS, *OVER_GAUGES):
            return self._call(text)
        return self._selector(text, function)

    def _aggregation(self, name: str) -> Query:
        kept: tuple[str, ...] = ()
        if self._next() == "by":
            self.at += 1
            kept = tuple(self._list())
        self._want("(")
        if name == "topk":
            self._operation(0, "")
            self._want(",")
        inside = self._operation(0, "")
        self._want(")")
        if not set(kept) <= inside.labels:
            raise Wrong(f"by {set(kept) - inside.labels}: there is no such label to keep")
        return Query(inside.labels if name == "topk" else frozenset(kept), inside.used)

    def _call(self, name: str) -> Query:
        self._want("(")
        inside = self._operation(0, name)
        if self._kind() == "range":  # of a subquery
            self.at += 1
        while self._next() == ",":
            self.at += 1
            self._operation(0, "")
        self._want(")")
        return Query(frozenset() if name == "absent" else inside.labels, inside.used)

    def _selector(self, metric: str, function: str) -> Query:
        if metric not in self.labels_of:
            raise Wrong(f"there is no metric {metric}")
        matchers = []
        if self._next() == "{":
            self.at += 1
            while self._next() != "}":
                label, mark, value = self._take()[1], self._take()[1], self._take()[1]
                if label not in {*self.labels_of[metric], *OUTER}:
                    raise Wrong(f"{metric} has no label {label}")
                matchers.append((label, mark, value.strip('"')))
                if self._next() == ",":
                    self.at += 1
            self._want("}")
        ranged = self._kind() == "range"
        self.at += ranged
        used = Used(metric, tuple(matchers), ranged, function)
        return Query(frozenset({*self.labels_of[metric], *OUTER}), [used])

    def _list(self) -> Iterator[str]:
        self._want("(")
        while self._next() != ")":
            yield self._take()[1]
            if self._next() == ",":
                self.at += 1
        self._want(")")

    def _next(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def _kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _take(self) -> tuple[str, str]:
        if self.at == len(self.tokens):
            raise Wrong("it ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def _want(self, text: str) -> None:
        if self._take()[1] != text:
            raise Wrong(f"wanted {text!r} before {self.tokens[self.at - 1][1]!r}")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    text = text.strip()
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise Wrong(f"can't be read from {text[at:]!r} on")
        at = found.end()
        kind = str(found.lastgroup)
        yield kind, found[kind]
