"""A GGUF file becomes a safetensors folder once; reading it anew takes ~20 s, the folder under one."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from kbsync import disk
from kbsync.errors import ModelError, one_line
from kbsync.lm.folder import lacking
from kbsync.lm.gguf_header import check_gguf
from kbsync.lm.precision import note_source

# Bump when the conversion itself changes, so that an old cached folder is not taken for a new one.
CONVERSION = 2


def convert(gguf: Path, cache: Path) -> Path:
    """Dequantise `gguf` to float32 and write it as a model folder under `cache`; return the folder.

    The folder's name holds the file's hash, so a changed file is converted again. It appears in one rename:
    a killed conversion leaves nothing that looks whole. Raises ModelError for a truncated or foreign file.
    """
    folder = cache / "models" / f"{gguf.stem}-{disk.file_sha256(gguf)[:16]}-v{CONVERSION}"
    if (folder / "config.json").exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".convert-", dir=folder.parent))
    except OSError as error:
        raise ModelError(f"model.cache: nothing can be written to {folder.parent}: {error}") from None
    try:
        _write(gguf, temporary)
        disk.rename(temporary, folder)
    except OSError as error:
        if (folder / "config.json").exists():  # another process was faster
            return folder
        raise ModelError(f"the converted model can't be written to {folder.parent}: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        check_gguf(gguf)
    except (ValueError, OSError) as error:
        raise ModelError(one_line(f"{gguf} can't be read: {error}")) from None
    alone = folder / ".source"  # what lies beside the file is none of its business, and may not be the user's
    alone.mkdir()
    (alone / "model.gguf").symlink_to(gguf.absolute())
    try:
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf", trust_remote_code=False)
        read: Any = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file="model.gguf",
            dtype=torch.float32,
            quantization_config=GgufConfig(gguf_file="model.gguf", dequantize=True),
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # the reader raises whatever its parser stumbled over
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{gguf} can't be read; it may be truncated ({cause})") from None
    finally:
        shutil.rmtree(alone)
    model, found = read
    if found["missing_keys"]:
        raise lacking(gguf, found["missing_keys"])
    # The weights are plain float32 now; what is left of the quantiser would keep them from being saved.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    note_source(folder, _types(gguf))


def _types(gguf: Path) -> Counter[str]:
    """How many numbers of each GGUF type the file has."""
    from gguf import GGUFReader

    counts: Counter[str] = Counter()
    for tensor in GGUFReader(gguf).tensors:
        counts[tensor.tensor_type.name] += int(tensor.n_elements)
    return counts
