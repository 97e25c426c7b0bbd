"""A user's SPARQL pattern, checked before it gets into any query.

A pattern is the inside of a WHERE: it may bind variables, compare them and have sub-selects, but it reads the
endpoint's own data only and changes nothing. It is parsed as one group, so it can't close the braces around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kbsync.errors import ConfigError
from kbsync.source.queries import PREFIXES, RESERVED

LONGEST = 4000  # characters

_PREFIX_NAMES = frozenset(re.findall(r"^PREFIX (\w+):", PREFIXES, re.MULTILINE))
_TOKEN = re.compile(  # what may hold a `#` or a brace that means nothing
    r"""<[^<>"{}|^`\\\x00-\x20]*>"""
    r"""|\"{3}(?:(?:"|"")?(?:[^"\\]|\\.))*\"{3}|'{3}(?:(?:'|'')?(?:[^'\\]|\\.))*'{3}"""
    r"""|"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*'|(?P<comment>#[^\r\n]*)|(?P<other>.)""",
    re.DOTALL,
)
_REFUSED = {
    "ServiceGraphPattern": "SERVICE asks another endpoint, which a pattern may not",
    "GraphGraphPattern": "GRAPH reads another graph, which a pattern may not",
}
_UPDATE = re.compile(
    r"(?P<update>insert|delete|load|clear|drop|create|add|move|copy)\b|(?P<dataset>from)\b|(?P<service>service)\b"
    r"|(?P<form>prefix|base|select|construct|describe|ask)\b",
    re.IGNORECASE,
)
_WORDS = {
    "update": "is part of an update, and a pattern changes nothing",
    "dataset": "reads another graph, which a pattern may not",
    "service": "asks another endpoint, which a pattern may not",
    "form": "begins a whole query; write only what stands between the braces of its WHERE",
}


def check(pattern: str) -> str:
    """The pattern without its comments, fit to stand in a group of its own.

    Raises ConfigError with what is wrong, and the line and column where.
    """
    if len(pattern) > LONGEST:
        raise ConfigError(f"the pattern has {len(pattern)} characters, more than the {LONGEST} that it may have")
    text = _without_comments(pattern)
    if not text.strip():
        raise ConfigError("the pattern is empty")
    tree = _parsed(text)
    for node in _nodes(tree):
        name = getattr(node, "name", "")
        if name in _REFUSED:
            raise ConfigError(f"{_REFUSED[name]}{_place_of(text, name[: -len('GraphPattern')])}")
        if name == "pname" and (_part(node, "prefix") or "") not in _PREFIX_NAMES:
            prefix = f"{_part(node, 'prefix') or ''}:"
            known = ", ".join(sorted(_PREFIX_NAMES))
            raise ConfigError(f"the prefix {prefix} is not known{_place_of(text, prefix)}; known are {known}")
    _check_variables(tree, text)
    return text.strip()


def _without_comments(pattern: str) -> str:
    """The pattern with blanks for its comments, so that places stay."""
    for found in _TOKEN.finditer(pattern):
        if found["other"] == "\\":
            raise ConfigError(f"a backslash outside of quotes is refused{_place(pattern, found.start())}")
        if re.search(r"\\[uU]", found[0]):
            raise ConfigError(
                f"\\u escapes are refused; write the character itself{_place(pattern, found.start())}"
            )
    return _TOKEN.sub(lambda found: " " * len(found[0]) if found["comment"] is not None else found[0], pattern)


def _parsed(text: str) -> Any:
    from pyparsing import ParseException
    from rdflib.plugins.sparql.parser import GroupGraphPattern

    try:
        return GroupGraphPattern.parse_string("{" + text + "}", parse_all=True)
    except ParseException as error:
        at = min(max(error.loc - 1, 0), len(text))
        _name_the_word(text)
        raise ConfigError(f"the pattern is not SPARQL{_place(text, at)}: {_shown(text, at)}") from None
    except RecursionError:
        raise ConfigError("the pattern is nested too deeply") from None


def _name_the_word(text: str) -> None:
    """Raise ConfigError for a word that explains why the pattern can't be read, where there is one."""
    bare = _TOKEN.sub(lambda found: found[0] if found["other"] is not None else " " * len(found[0]), text)
    for found in re.finditer(r"(?<![?$\w:.-])[A-Za-z]+(?![\w:-])", bare):
        match = _UPDATE.fullmatch(found[0])
        if match is None:
            continue
        kind = str(match.lastgroup)
        if kind == "form" and bare[: found.start()].strip():
            continue  # a sub-select
        raise ConfigError(f"{found[0].upper()} {_WORDS[kind]}{_place(text, found.start())}")


def _check_variables(tree: Any, text: str) -> None:
    """`?item` must be bound by the pattern itself, and names that the queries around it use are taken."""
    names = {str(one) for one in _nodes(tree) if type(one).__name__ == "Variable"}
    taken = sorted(names & RESERVED)
    if taken:
        raise ConfigError(
            f"?{taken[0]} is a name that kbsync uses itself; rename it{_place_of(text, '?' + taken[0])}"
        )
    if "item" not in _bound(tree[0]):
        raise ConfigError(
            "the pattern does not bind ?item, which stands for the subject: a triple, VALUES, BIND or a sub-select "
            "outside of OPTIONAL, MINUS and FILTER must have it"
        )


def _bound(group: Any) -> set[str]:
    """The variables that every solution of a group binds, as far as can be told without its data."""
    name = getattr(group, "name", "")
    if name == "SubSelect":
        return _projected(group)
    found: set[str] = set()
    for part in _part(group, "part") or ():
        kind = part.name
        if kind == "TriplesBlock":
            found |= {str(one) for one in _nodes(part) if type(one).__name__ == "Variable"}
        elif kind == "GroupOrUnionGraphPattern":
            found |= set.intersection(*(_bound(one) for one in part["graph"]))
        elif kind in ("GroupGraphPatternSub", "SubSelect"):
            found |= _bound(part)
        elif kind == "InlineData":
            found |= {str(one) for one in _nodes(_part(part, "var")) if type(one).__name__ == "Variable"}
        elif kind == "Bind":
            found.add(str(part["var"]))
    return found


def _projected(select: Any) -> set[str]:
    """What a sub-select hands out, of what it binds."""
    inside = _bound(select["where"])
    projection = _part(select, "projection")
    if not projection:  # SELECT *
        return inside
    shown: set[str] = set()
    for one in projection:
        if "evar" in one:
            shown.add(str(one["evar"]))
        elif str(one["var"]) in inside:
            shown.add(str(one["var"]))
    return shown


def _part(node: Any, name: str) -> Any:
    return node[name] if name in node else None  # noqa: SIM401  (rdflib's nodes raise in `get`)


def _nodes(tree: Any) -> Iterator[Any]:
    """Everything in a parsed pattern, the deepest last."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        yield one
        if isinstance(one, (list, tuple)) or type(one).__name__ == "ParseResults":  # which is a mapping, too
            waiting.extend(one)
        elif isinstance(one, Mapping):
            waiting.extend(one.values())


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return f" (line {line}, column {column})"


def _place_of(text: str, word: str) -> str:
    found = re.search(rf"{re.escape(word)}(?!\w)" if word[-1:] != ":" else re.escape(word), text, re.IGNORECASE)
    return _place(text, found.start()) if found is not None else ""


def _shown(text: str, at: int) -> str:
    rest = " ".join(text[at : at + 40].split())
    return f"it can't be read from {rest!r} on" if rest else "it ends too early"
