"""What the tests of the checkpoint room share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def tensors() -> Tensors:
    """Two small edited tensors of different shapes."""
    torch.manual_seed(0)
    return {"layers.1.down": torch.randn(4, 6), "layers.0.down": torch.randn(6, 3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder that does not exist yet."""
    return tmp_path / "var" / "checkpoints"
