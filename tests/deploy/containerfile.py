"""A Containerfile, read into its stages and instructions."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {
    "ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "VOLUME", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
    "ENTRYPOINT", "CMD",
}  # fmt: skip


@dataclass
class Stage:
    """From one FROM to the next: (instruction, the rest of its line)."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """The arguments of every instruction of a kind, in their order."""
        return [rest for one, rest in self.steps if one == word]

    def one(self, word: str) -> str:
        """The arguments of the only one."""
        (found,) = self.all(word)
        return found

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        words = [word for rest in self.all("ENV") for word in shlex.split(rest)]
        return dict(word.split("=", 1) for word in words)


@dataclass
class Build:
    """The arguments before the first stage, and the stages."""

    arguments: dict[str, str]
    stages: list[Stage]


def read(path: Path) -> Build:
    """Raises ValueError for what is no instruction, and for one without arguments."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    build = Build({}, [])
    for line in filter(None, map(str.strip, whole.splitlines())):
        word, _, rest = line.partition(" ")
        if word not in KNOWN or not rest:
            raise ValueError(f"no instruction: {line}")
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            build.stages.append(Stage(image, name))
        elif build.stages:
            build.stages[-1].steps.append((word, " ".join(rest.split()) if word != "RUN" else rest))
        elif word == "ARG":
            name, _, value = rest.partition("=")
            build.arguments[name] = value
        else:
            raise ValueError(f"before the first stage: {line}")
    return build


def argv(rest: str) -> list[str]:
    """An instruction in its exec form. Raises ValueError for the shell's, which does not pass signals on."""
    words: list[str] = json.loads(rest)
    return words
