"""What a measurement was made on: the figures of two machines, models or settings must not be mixed up."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kbsync.sync.workbench import Workbench


def machine(bench: Workbench) -> dict[str, Any]:
    """Day, device, versions, model and seed, as JSON."""
    import torch
    import transformers

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": str(bench.base.device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "solve_dtype": str(bench.editor.solver.top.dtype).removeprefix("torch."),
        "model": bench.base.spec,
        "seed": bench.settings.edit.seed,
    }


def peak_mb() -> float:
    """The highest memory of this process so far, in MB; 0 where the system does not tell (it is not Linux).

    `ru_maxrss` does not do: it begins with what the process that started this one had.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def processor_s(pid: int | None) -> float:
    """Processor seconds of another process so far, all its threads; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, man 5 proc
