"""Files of tensors that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kbsync import disk, failpoints
from kbsync.errors import EditError


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Save tensors under `path` in one rename. Raises EditError where that can't be done."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        failpoints.hit("write.before")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        failpoints.hit("write.after")
        disk.rename(temporary, path)
    except (OSError, SafetensorError) as error:
        raise EditError(f"the covariance can't be written to {path}: {error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def read(path: Path) -> dict[str, Tensor] | None:
    """The tensors, or None when there is no such file. Raises ValueError when it is damaged."""
    if not path.exists():
        return None
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(error) from None


def read_or_forget(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that can be made again; nothing when it is not there, or damaged."""
    try:
        return read(path) or {}
    except ValueError:
        return {}
