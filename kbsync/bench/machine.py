"""What a measurement was made on: the figures of two machines, models or settings must not be mixed up."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
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
