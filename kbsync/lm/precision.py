"""In which numbers a model's weights are stored, and whether they can be edited at all.

Every model is loaded as plain matrices of one type, float32 on a CPU and bfloat16 on CUDA; what it was stored in is
told beside it. A model whose matrices are stored as codes and scales is loaded only where transformers turns them
back into numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kbsync.errors import ModelError
from kbsync.lm.json_file import MOST_JSON, read_json

SOURCE = "kbsync-source.json"  # beside a converted model: what it was converted from
_NAMES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16", "F8_E4M3": "float8_e4m3",
          "F8_E5M2": "float8_e5m2"}  # fmt: skip
_PLAIN = ("fp8", "mxfp8")  # quantisers whose codes transformers turns back into numbers, on any device


def quantiser(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a model's config.json says of its quantiser, if weights can be turned back into numbers; None for a
    model that is not quantised.

    Raises ModelError, saying what to do, for one that can't be edited.
    """
    found = config.get("quantization_config")
    if not found:
        return None
    found = dict(found) if isinstance(found, Mapping) else {}
    method = str(found.get("quant_method", "by an unknown method"))
    if method in _PLAIN:
        return found
    bits = found.get("bits")
    size = f", {bits} bits" if isinstance(bits, int) else ""
    raise ModelError(
        f"it is quantised ({method}{size}), and codes can't be edited; name the model that it was made from, "
        "or a GGUF file of it"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json; empty when it can't be read (loading will say so)."""
    try:
        config = read_json(folder / "config.json", MOST_JSON)
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def stored_in(folder: Path) -> str:
    """In which types a model folder's weights are stored, most numbers first: `bfloat16`, `GGUF (Q8_0, F32)`.

    Read from the files' headers, and from what a conversion noted. Raises ModelError for a damaged file.
    """
    try:
        source = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        return f"{source['format']} ({', '.join(source['types'])})"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  the file is no mapping
                    part = file.get_slice(name)
                    size = 1
                    for length in part.get_shape():
                        size *= length
                    counts[_NAMES.get(part.get_dtype(), part.get_dtype())] += size
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged: {error}") from None
    return ", ".join(name for name, _ in counts.most_common())


def note_source(folder: Path, types: Mapping[str, int]) -> None:
    """Note in a converted folder which GGUF types its weights had, with the number of weights of each."""
    ordered = sorted(types, key=lambda name: (-types[name], name))
    (folder / SOURCE).write_text(json.dumps({"format": "GGUF", "types": ordered}), encoding="utf-8")
