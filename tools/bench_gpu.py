"""Measure the editor on an accelerator, on models of full size with random weights.

    PYTHONPATH=. python3 tools/bench_gpu.py --model gptj-6b --part z --edits 10000 --out gptj-z.json

It needs torch, transformers and safetensors, not kbsync's other packages, and no network. The parts are
`check` (tiny models: is what comes out right on this device?), `z`, `rebuild` and `covariance`; without --part all
are run. Each part is short: z solves as many requests as fit into --seconds and extrapolates from them, unless
--all is given. --tiny runs everything on tiny models, to try the script itself. The last line printed is JSON.
Ends with code 1 if a check fails.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from kbsync.bench import gpu, gpu_check
from kbsync.bench.fullsize import SIZES, TINY_LAYERS

PARTS = ("check", "z", "rebuild", "covariance")


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for; returns the exit code."""
    asked = _arguments().parse_args(words)
    device = torch.device(asked.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    parts = asked.part or list(PARTS)
    if device.type == "cpu" and asked.tiny:
        torch.set_num_threads(1)  # tiny models lose more to handing work between threads than they win
    found: dict[str, Any] = {"machine": _machine(device, dtype, words), "model": asked.model, "tiny": asked.tiny}
    for name, result in _run(asked, parts, device, dtype):
        found[name] = result
        _print(name, result)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found.get("check", {"ok": True})["ok"] else 1


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SIZES), default="gptj-6b")
    parser.add_argument("--part", choices=PARTS, action="append", help="may be given several times")
    parser.add_argument("--tiny", action="store_true", help="tiny models in place of those of full size")
    parser.add_argument("--edits", type=int, default=10_000, help="z: how many edits (10,000)")
    parser.add_argument("--evaluations", type=int, default=20, help="z: evaluations of the loss for each (20)")
    parser.add_argument("--batch-size", type=int, help="z: requests solved together (what the memory allows)")
    parser.add_argument("--seconds", type=float, default=180.0, help="z: when to stop solving (180)")
    parser.add_argument("--all", action="store_true", help="z: solve all of them, however long it takes")
    parser.add_argument("--facts", type=int, default=10_000, help="rebuild: live facts (10,000)")
    parser.add_argument("--tokens", type=int, default=20_000, help="covariance: tokens (20,000)")
    parser.add_argument("--device", help="cuda where there is one, else cpu")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    return parser


def _run(
    asked: argparse.Namespace, parts: Sequence[str], device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[str, dict[str, Any]]]:
    size = SIZES[asked.model]
    if "check" in parts:
        yield "check", gpu_check.check(size, device)
    if not set(parts) - {"check"}:
        return
    rate = gpu.matmul_rate(device, dtype)
    subject = gpu.prepare(size, device, dtype, asked.tiny, TINY_LAYERS if asked.tiny else size.layers)
    if "z" in parts:
        seconds = float("inf") if asked.all else asked.seconds
        batch = asked.batch_size or "auto"
        yield "z", gpu.measure_z(subject, asked.edits, asked.evaluations, seconds, rate, batch)
    if "rebuild" in parts:
        yield "rebuild", gpu.measure_rebuild(subject, asked.facts)
    if "covariance" in parts:
        yield "covariance", gpu.measure_covariance(subject, asked.tokens)


def _machine(device: torch.device, dtype: torch.dtype, words: Sequence[str] | None) -> dict[str, Any]:
    """Where and with what this was measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["tools/bench_gpu.py", *(sys.argv[1:] if words is None else words)]),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _print(name: str, result: Mapping[str, Any]) -> None:
    lines = [f"\n{name}"]
    for key, value in result.items():
        shown = f"{value:.6g}" if isinstance(value, float) else value
        lines.append(f"  {key.replace('_', ' '):32} {shown}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
