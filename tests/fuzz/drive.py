"""Coverage-guided fuzzing of one target, in a process of its own: libFuzzer takes the process over.

    python -m tests.fuzz.drive answer --inputs 100000
    python -m tests.fuzz.drive answer --again build/fuzz/answer/found-1a2b3c4d

An exception that a target lets through is a finding: its input is kept, and the fuzzing goes on. At the end one
line of JSON says how many inputs there were, and how many findings; with any, the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.draw import Target

HANGS_S = 20  # an input that takes longer ends the process with libFuzzer's report


class Watched:
    """The target, counted and timed; what it lets through is kept by the place that it came from."""

    def __init__(self, target: Target, folder: Path, inputs: int, seconds: float) -> None:
        self.target, self.folder = target, folder
        self.inputs, self.until = inputs, time.monotonic() + seconds
        self.began, self.done = time.monotonic(), 0
        self.slowest = 0.0
        self.found: dict[str, str] = {}

    def __call__(self, data: bytes) -> None:
        """One input; the last one ends the process."""
        began = time.monotonic()
        try:
            self.target.run(data)
        except Exception as error:
            self._keep(data, error)
        now = time.monotonic()
        self.slowest = max(self.slowest, now - began)
        self.done += 1
        if self.done >= self.inputs or now > self.until:
            self._end(now)

    def _keep(self, data: bytes, error: Exception) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {place.filename}:{place.lineno}"
        if where not in self.found:
            file = self.folder / f"found-{hashlib.sha256(data).hexdigest()[:8]}"
            file.write_bytes(data)
            self.found[where] = str(file)
            traceback.print_exception(error, limit=-6)
            sys.stderr.write(f"FOUND {where}: {file}\n")

    def _end(self, now: float) -> None:
        said = {
            "target": self.target.name,
            "inputs": self.done,
            "seconds": round(now - self.began, 1),
            "slowest_s": round(self.slowest, 2),
            "found": self.found,
        }
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if self.found else 0)  # libFuzzer has no way to be told that it is enough


def fuzz(target: Target, folder: Path, inputs: int, seconds: float, seed: int) -> None:
    """Feed the target until it is enough. Never returns."""
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words), encoding="ascii")
    options = [f"-max_len={target.most}", f"-dict={words}", f"-seed={seed}", f"-timeout={HANGS_S}"]
    options += ["-rss_limit_mb=4096", f"-artifact_prefix={folder}/", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], Watched(target, folder, inputs, seconds))
    atheris.Fuzz()


def _escaped(word: str) -> str:
    """A word as libFuzzer's dictionaries write it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogatepass"))


def main(words: Sequence[str]) -> None:
    """Read the command line, and fuzz."""
    parser = argparse.ArgumentParser(description="Fuzz one surface of kbsync.")
    parser.add_argument("target", help="its name; `list` prints all of them")
    parser.add_argument("--inputs", type=int, default=1_000_000_000, help="stop after so many")
    parser.add_argument("--seconds", type=float, default=60.0, help="stop after so long")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="where inputs are kept")
    parser.add_argument("--again", type=Path, help="run one kept input, and show what it raises")
    asked = parser.parse_args(words)
    if asked.again is None and asked.target != "list":
        import atheris

        with atheris.instrument_imports(include=["kbsync"]):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    if asked.target not in TARGETS:
        sys.exit("\n".join(TARGETS) if asked.target == "list" else f"no target {asked.target}; `list` prints them")
    target = TARGETS[asked.target]
    if asked.again is not None:
        target.run(asked.again.read_bytes())
        return
    folder = (asked.folder / target.name.replace(" ", "-")).absolute()
    fuzz(target, folder, asked.inputs, asked.seconds, asked.seed)


if __name__ == "__main__":
    main(sys.argv[1:])
