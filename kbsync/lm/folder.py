"""A model folder that a stranger may have made, looked through before transformers or anything else reads
from it.

What is refused: pickles, whatever they are called; code, and configurations that ask for it; files that are
links out of the folder, devices or pipes; indexes that lead out of it; safetensors headers that lie; JSON
that is too long or too deep; chat templates that are too long; and sizes that the weights don't have. Whoever
can change the folder while it is read is not stopped by any of this.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kbsync.errors import ModelError, one_line
from kbsync.lm.json_file import MOST_JSON, read_json
from kbsync.lm.limits import MOST_EXPERTS, MOST_HEADS, MOST_LAYERS, MOST_NAMED, MOST_POSITIONS, MOST_TEMPLATE
from kbsync.lm.safetensors_header import Stored, read_header

INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_PICKLED = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))  # a pickle's first bytes, from protocol 2 on
_ZIPPED = (b"PK\x03\x04", b"PK\x05\x06")  # torch's pickles come in a zip
_MOST_FILES = 10_000
_MOST_BYTES = {"tokenizer.json": 256_000_000, "vocab.json": 64_000_000, INDEX: 64_000_000}  # of JSON; else:
_UNREAD = ("tokenizer.json", "vocab.json")  # large, and read by a parser with limits of its own
_TEMPLATES = "additional_chat_templates"
_OWN_ATTENTION = re.compile(r"(paged\|)?(eager|sdpa|flex_attention|flash_attention_\d)")
_FILE_KEY = re.compile(
    r"(vocab|merges|tokenizer|spm|source_spm|target_spm)_file|fast_tokenizer_files|transformers_weights"
)
_NAMED = re.compile(r"labels|first_k_dense|depths|indices|blocks|stages")  # what is counted through
_SLACK = 50_000_000  # numbers that a model may have beside those in its files: tables, heads that are tied


def check_folder(folder: Path, only: Sequence[str] = ("*",)) -> None:
    """Raise ModelError, in one line that names the file, for whatever makes the folder unfit to be read.

    `only`: patterns of the files that matter. In the hub's cache, other programs leave theirs beside ours.
    """
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    files = [file for file in _files(folder) if any(file.match(pattern) for pattern in only)]
    if not any(file.suffix == ".safetensors" for file in files):
        if any(file.suffix.lower() in _PICKLES for file in files):
            raise ModelError(f"{folder} holds only pickled weights, which are never loaded; convert to safetensors")
        raise ModelError(f"{folder} has no weights: no *.safetensors file in it")
    for file in files:
        _check_kind(file)
    documents = {file.name: _document(file) for file in files if file.suffix == ".json"}
    code = any(file.suffix == ".py" for file in files) or not _is_own(documents["config.json"])
    for name, document in documents.items():
        for key, value in _pairs(document, folder / name):
            _check_pair(folder, name, key, value, code)
    for file in files:
        if file.suffix == ".py":
            raise _refused(file, "is code, and a model's own code is never run; delete it")
        if file.suffix == ".jinja":
            _check_template(file, file.read_text(encoding="utf-8", errors="replace"))
    if INDEX in documents:
        _check_index(folder / INDEX, documents[INDEX])
    _check_sizes(folder / "config.json", documents["config.json"], weights_of(folder))


def weights_of(folder: Path) -> list[Stored]:
    """All tensors in a folder's safetensors files. Raises ModelError for a header that lies."""
    found: list[Stored] = []
    for file in sorted(folder.glob("*.safetensors")):
        try:
            found += read_header(file).values()
        except (ValueError, OSError) as error:
            raise _unloadable(file, error) from None
    return found


def check_memory(model: Any, folder: Path) -> None:
    """Raise ModelError when `model`, as its configuration describes it, is far larger than the weights in
    `folder`: whatever is not there would be made up in memory before anyone sees that it is missing.

    `model` lies on the meta device, which has shapes and no numbers.
    """
    there = sum(one.numbers for one in weights_of(folder))
    wanted = sum(one.numel() for one in (*model.parameters(), *model.buffers()))
    if wanted > 2 * there + _SLACK:
        raise _refused(folder / "config.json", f"describes {wanted} numbers, and the weights have {there}")


def lacking(source: Path, missing: Collection[str]) -> ModelError:
    """What to raise for weights that are not there: transformers would go on with random numbers in their place."""
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return ModelError(f"{source} lacks the weight {min(missing)}{more}")


def _refused(file: Path, why: str) -> ModelError:
    return ModelError(f"the model can't be loaded: {one_line(str(file))} {why}")


def _unloadable(file: Path, error: Exception) -> ModelError:
    cause = error.strerror if isinstance(error, OSError) else error
    return ModelError(one_line(f"{file} can't be loaded: {cause}"))


def _files(folder: Path) -> list[Path]:
    """The plain files that a reader may open. Raises ModelError for a link that leaves the folder, and for
    what is neither file nor folder."""
    roots = [folder.resolve()]
    if folder.parent.name == "snapshots":  # the hub's cache: links into the blobs beside it
        roots.append(folder.parent.parent.resolve() / "blobs")
    found: list[Path] = []
    for place in (folder, folder / _TEMPLATES):
        if place.is_symlink() and place != folder:
            raise _refused(place, "is a link; copy the folder that it leads to")
        for one in sorted(place.iterdir()) if place.is_dir() else ():
            found += _file(one, roots)
            if len(found) > _MOST_FILES:
                raise ModelError(f"the model can't be loaded: {folder} has more than {_MOST_FILES} files")
    return found


def _file(one: Path, roots: list[Path]) -> Iterator[Path]:
    try:
        if one.is_symlink() and not any(one.resolve().is_relative_to(root) for root in roots):
            raise _refused(one, "is a link that leaves the folder; copy the file that it leads to")
        mode = one.stat().st_mode
    except (OSError, RuntimeError):
        raise _refused(one, "is a link that leads nowhere; take it out") from None
    if stat.S_ISREG(mode):
        yield one
    elif not stat.S_ISDIR(mode):
        raise _refused(one, "is neither a file nor a folder; take it out")


def _check_kind(file: Path) -> None:
    """No pickle, by its name or by its first bytes."""
    if file.suffix.lower() in _PICKLES:
        raise _refused(file, "is a pickle by its name, and pickles can run code; delete it, safetensors are read")
    try:
        with file.open("rb") as content:
            first = content.read(9)
    except OSError as error:
        raise _refused(file, f"can't be read: {error.strerror}") from None
    if file.suffix == ".safetensors" and first[8:] == b"{":
        return  # its first bytes are a length, which may be any
    if first.startswith((*_PICKLED, *_ZIPPED)):
        raise _refused(file, "is a pickle or an archive of pickles, whatever its name; delete it")


def _document(file: Path) -> object:
    most = _MOST_BYTES.get(file.name, MOST_JSON)
    try:
        if file.name not in _UNREAD:
            return read_json(file, most)
        if file.stat().st_size > most:
            raise ValueError(f"it has more than the {most} bytes that such a file may have")
    except (ValueError, OSError) as error:
        raise _unloadable(file, error) from None
    return None


def _is_own(config: object) -> bool:
    """Whether transformers has code of its own for this kind of model."""
    from transformers import CONFIG_MAPPING

    return isinstance(config, dict) and str(config.get("model_type")) in CONFIG_MAPPING


def _pairs(document: object, file: Path) -> Iterator[tuple[str, Any]]:
    """Every key and value of a document, at whatever depth."""
    rest, count = [document], 0
    while rest:
        one = rest.pop()
        count += 1
        if count > 4_000_000:
            raise _refused(file, "has more values than any such file")
        if isinstance(one, dict):
            yield from one.items()
            rest += [value for value in one.values() if isinstance(value, dict | list)]
        elif isinstance(one, list):
            rest += [value for value in one if isinstance(value, dict | list)]


def _check_pair(folder: Path, name: str, key: str, value: Any, code: bool) -> None:
    file = folder / name
    if key == "auto_map" and value and code:
        raise _refused(file, "asks for code of its own (auto_map), which is never run")
    if key in ("trust_remote_code", "trust_repo") and value:
        raise _refused(file, f"asks for code of its own ({key}), which is never run")
    if name == "adapter_config.json" and key == "base_model_name_or_path":
        raise _refused(file, "makes it an adapter of another model; merge the two and name the result")
    if "attn_implementation" in key or "experts_implementation" in key:
        for one in value.values() if isinstance(value, dict) else (value,):
            if one is not None and not (isinstance(one, str) and _is_plain_implementation(one)):
                raise _refused(file, f"asks for a kernel from elsewhere ({key}: {str(one)[:80]!r})")
    if _FILE_KEY.fullmatch(key):
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, str) and _leaves(one):
                raise _refused(file, f"leads out of the folder ({key}: {one[:80]!r})")
    if key == "chat_template":
        _check_template(file, value)


def _is_plain_implementation(name: str) -> bool:
    return bool(_OWN_ATTENTION.fullmatch(name)) or name in ("", "grouped_mm", "batched_mm")


def _leaves(name: str) -> bool:
    """Whether a file's name in a folder leads out of it. What leads to nothing on this machine is someone's
    old path, and harmless."""
    path = PurePosixPath(name.replace("\\", "/"))
    return ".." in path.parts or (path.is_absolute() and Path(name).exists())


def _check_template(file: Path, template: Any) -> None:
    """One text, or a list of named ones."""
    for one in template if isinstance(template, list) else (template,):
        text = one.get("template") if isinstance(one, dict) else one
        if text is not None and (not isinstance(text, str) or len(text) > MOST_TEMPLATE):
            raise _refused(file, f"has a chat template that is no text or beyond {MOST_TEMPLATE} characters")


def _check_index(file: Path, index: object) -> None:
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise _refused(file, "has no weight_map")
    for place in set(map(str, places.values())):
        if PurePosixPath(place.replace("\\", "/")).name != place or not place.endswith(".safetensors"):
            raise _refused(file, f"leads to {place[:80]!r}, which is no safetensors file of the folder")
        if not (file.parent / place).is_file():
            raise _refused(file, f"leads to {place[:80]!r}, which is not there")


def _check_sizes(file: Path, config: object, weights: list[Stored]) -> None:
    """Numbers that are used up before a single shape is compared: how many layers, heads, experts and
    positions."""
    if not isinstance(config, dict):
        raise ModelError(f"{file} can't be loaded: it is not a JSON object")
    layers = experts = 1
    for key, value in _numbers(config):
        if "layers" in key or key in ("n_layer", "attention_types"):
            layers = max(layers, value)
            if value > min(MOST_LAYERS, max(len(weights), 64)):
                raise _refused(file, f"asks for {value} layers ({key}), and there are {len(weights)} tensors")
        elif "experts" in key:
            experts = max(experts, value)
        elif "head" in key and "dim" not in key and value > MOST_HEADS:
            raise _refused(file, f"asks for {value} heads ({key}), and {MOST_HEADS} are the most")
        elif _NAMED.search(key) and value > MOST_NAMED:
            raise _refused(file, f"asks for {value} of {key}, and {MOST_NAMED} are the most")
        elif ("position" in key or key in ("max_seq_len", "n_ctx")) and value > MOST_POSITIONS:
            raise _refused(file, f"asks for {value} positions ({key}), and {MOST_POSITIONS} are the most")
    if layers * experts > MOST_EXPERTS:
        raise _refused(file, f"asks for {layers} × {experts} experts, and {MOST_EXPERTS} are the most")


def _numbers(value: Mapping[str, Any] | list[Any], under: str = "") -> Iterator[tuple[str, int]]:
    """(key, whole number) of everything in a configuration; those in a list go by the list's key."""
    for key, one in value.items() if isinstance(value, Mapping) else ((under, one) for one in value):
        if isinstance(one, int) and not isinstance(one, bool):
            yield str(key).lower(), one
        elif isinstance(one, Mapping | list):
            yield from _numbers(one, str(key).lower())
