"""A synced model as a plain Hugging Face folder that anything can load without kbsync."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from kbsync import disk
from kbsync.checkpoint import durable
from kbsync.checkpoint.manifest import Manifest, to_json
from kbsync.checkpoint.tensors import tensors_hash
from kbsync.errors import CheckpointError
from kbsync.lm.finite import is_finite
from kbsync.lm.place import real_tensors

MANIFEST = "kbsync-manifest.json"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def export(model: Any, tokenizer: Any, out_dir: Path, manifest: Manifest) -> Path:
    """Write `model` with its edits in place, and its tokenizer, as the Hugging Face folder `out_dir`.

    The folder has the weights in safetensors, the configuration, the generation configuration, the tokenizer, a
    model card, and the checkpoint's manifest as `kbsync-manifest.json`. It appears in one rename, whole or not
    at all. Raises CheckpointError when the model does not hold the weights that the manifest names, a weight
    is not finite, `out_dir` is there and not an empty folder, or the disk is full or fails.
    """
    _check_model(model, manifest)
    out_dir = Path(os.path.abspath(out_dir))  # noqa: PTH100 - `..` goes, and a link stays a link
    if out_dir.is_symlink() or (out_dir.exists() and not out_dir.is_dir()):
        raise CheckpointError(f"{out_dir} is not a folder; name a new one")
    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise CheckpointError(f"{out_dir} is not empty; name a new folder, nothing is overwritten")
    needed = sum(p.numel() * p.element_size() for p in model.parameters())
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{out_dir.parent} can't be made: {error.strerror}") from None
    with durable.build(out_dir.parent, out_dir.name, needed) as building:
        _fill(building, model, tokenizer, manifest)
        disk.fsync_tree(building)
        disk.rename(building, out_dir)  # onto nothing or an empty folder
        disk.fsync(out_dir.parent)
    return out_dir


def _fill(building: Path, model: Any, tokenizer: Any, manifest: Manifest) -> None:
    try:
        model.save_pretrained(building)
        tokenizer.save_pretrained(building)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"transformers can't save this model: {reason}") from None
    for weights in building.glob("*.safetensors"):
        weights.chmod(durable.file_mode(building))  # safetensors keeps its files to their owner
    (building / MANIFEST).write_text(to_json(manifest), encoding="utf-8")
    (building / "README.md").write_text(model_card(manifest), encoding="utf-8")


def _check_model(model: Any, manifest: Manifest) -> None:
    """An export must never be the model without its edits, nor one that answers NaN."""
    edited: dict[str, torch.Tensor] = {}
    for name, tensor in real_tensors(model):
        if not is_finite(tensor):
            raise CheckpointError(f"the model is not exported: {name} holds NaN or infinity")
        if name in manifest.tensors:
            edited[name] = tensor
    missing = [name for name in manifest.tensors if name not in edited]
    if missing:
        raise CheckpointError(f"the model is not exported: it has no {missing[0]!r}, which was edited")
    if tensors_hash(edited) != manifest.weights_hash:
        raise CheckpointError("the model is not exported: it does not hold the checkpoint's weights; apply them")


def model_card(manifest: Manifest) -> str:
    """README.md of an export: where the model comes from and what was edited. Ids and counts, no labels."""
    base = manifest.base
    hub = _HUB_ID.fullmatch(base.spec) is not None
    front = ["---", "library_name: transformers"]
    front += [f"base_model: {json.dumps(base.spec)}"] if hub else []
    front += ["tags: [kbsync, wikidata, knowledge-editing]", "---"]
    name = base.spec if hub else Path(base.spec).name  # a folder of someone's machine stays there
    per_relation = Counter(fact.relation for fact in manifest.live)
    table = [f"| {relation} | {count} |" for relation, count in sorted(per_relation.items())]
    text = [
        *front,
        "",
        "# A language model in line with Wikidata",
        "",
        f"The base model with {len(manifest.live)} facts of Wikidata edited into its weights by kbsync "
        f"{_one_line(manifest.kbsync)} with MEMIT.",
        "",
        f"- base model: `{_one_line(name)}` ({_one_line(base.family)}, {_one_line(base.dtype)}{_stored(manifest)})",
        f"- weights of the base model, sha256: `{base.weights_hash}`",
        f"- edited tensors: {len(manifest.tensors)}, sha256 `{manifest.weights_hash}`",
        f"- made: {manifest.created_at.isoformat()}, run `{_one_line(manifest.run_id)}`",
        "",
        f"`{MANIFEST}` lists every fact, the editor's settings and what the evaluation found.",
        "",
        "| relation | facts |",
        "| --- | --- |",
        *table,
        "",
        "Facts that are not listed are the base model's own, and so are its licence, its limits and its faults.",
    ]
    return "\n".join(text) + "\n"


def _stored(manifest: Manifest) -> str:
    """What the base model was stored in, where that is not the type of this export."""
    stored = str(manifest.settings.get("stored", ""))
    return f"; stored in {_one_line(stored)}" if stored not in ("", manifest.base.dtype) else ""


def _one_line(text: str) -> str:
    """`text` as it may stand in a line of Markdown: no line breaks, no backquotes, no markup."""
    return re.sub(r"[^\w .,:+/@-]", "_", text)
