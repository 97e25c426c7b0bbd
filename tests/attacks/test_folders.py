"""Model folders from strangers: each attack is refused by name, and nothing of it has run, hung or filled
memory."""

from __future__ import annotations

import re
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from kbsync.errors import ModelError
from kbsync.facts import Prompt
from kbsync.lm.folder import check_folder
from kbsync.lm.load import BaseModel, find_folder, load_base
from kbsync.lm.rows import Encoder
from kbsync.lm.safetensors_header import MOST_HEADER, read_header
from kbsync.settings import ModelSettings
from tests.attacks.folders import ATTACKS, HEADERS, header, more, tensor
from tests.tiny import one_thread, save_tiny, tiny_tokenizer

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", layers=2)


@pytest.fixture
def folder(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy to be spoilt; the process runs where a pickle's file would appear, and may have 2 GB more
    memory."""
    monkeypatch.chdir(tmp_path)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 10**9, before[1]))
    yield Path(shutil.copytree(honest, tmp_path / "model"))
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert not (tmp_path / "ran").exists()


def read(folder: Path) -> BaseModel:
    """As the program does, on the CPU."""
    return load_base(ModelSettings(base=str(folder), device="cpu", cache=folder.parent / "cache"))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_folder_that_attacks_is_refused(name: str, folder: Path) -> None:
    """One line names the file and the reason."""
    attack, file, reason = ATTACKS[name]
    attack(folder)
    with pytest.raises(ModelError) as caught:
        read(folder)
    said = str(caught.value)
    assert file in said
    assert reason in said
    assert "\n" not in said
    assert len(said) < 500


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    """Whatever the header says, the file has to bear it out."""
    content, reason = HEADERS[name]
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_header(tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value)


def test_a_header_of_a_hundred_megabytes_is_not_read(tmp_path: Path) -> None:
    """Its length alone is enough: the file has as many bytes, and none of them is looked at."""
    file = tmp_path / "model.safetensors"
    with file.open("wb") as out:
        out.write((100_000_000).to_bytes(8, "little") + b"{")
        out.truncate(200_000_000)
    with pytest.raises(ValueError, match=f"{MOST_HEADER} are the most"):
        read_header(file)


def test_an_honest_header_is_read(tmp_path: Path) -> None:
    """What the library writes, with metadata, empty tensors, scalars and types of one and two bytes."""
    made = {
        "matrix": torch.zeros(3, 5, dtype=torch.bfloat16),
        "scalar": torch.tensor(1.0),
        "empty": torch.zeros(0, 7),
        "codes": torch.zeros(9, dtype=torch.float8_e4m3fn),
    }
    save_file(made, tmp_path / "a.safetensors", metadata={"format": "pt"})
    found = read_header(tmp_path / "a.safetensors")
    assert {name: one.shape for name, one in found.items()} == {name: tuple(t.shape) for name, t in made.items()}
    assert sum(one.numbers for one in found.values()) == 25
    (tmp_path / "b.safetensors").write_bytes(header({"a": tensor()}))
    assert read_header(tmp_path / "b.safetensors")["a"].end == 16
    assert torch.equal(load_file(tmp_path / "b.safetensors")["a"], torch.zeros(2, 2))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neo", "gptj", "mpt", "phi3", "smollm3", "gemma3_text"])
def test_an_honest_folder_passes(family: str, tmp_path: Path) -> None:
    """Families whose configurations have the odd keys: lists of layers, positions that become tables."""
    save_tiny(tmp_path / "m", family, layers=4)
    check_folder(tmp_path / "m")


def test_honest_things_beside_a_model_pass(folder: Path) -> None:
    """What repositories hold besides: pages, licences, pictures, folders, someone's old paths, a code map
    without the code for a kind of model that needs none; weights in several files, and a link within the
    folder."""
    for name in ("README.md", "LICENSE", ".gitattributes", "figure.png"):
        (folder / name).write_bytes(b"\x89PNG or words")
    (folder / "original").mkdir()
    (folder / "original" / "consolidated.pth").write_bytes(b"PK\x03\x04")  # never looked at
    (folder / "link.md").symlink_to("README.md")
    more("config.json", auto_map={"AutoConfig": "configuration_x.X"}, attn_implementation="sdpa")(folder)
    more("tokenizer_config.json", vocab_file="/home/someone/who/trained/vocab.json")(folder)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for part, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / part, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    places = {name: part for part, own in parts.items() for name in own}
    more("model.safetensors.index.json", metadata={}, weight_map=places)(folder)
    assert read(folder).stored == "float32"


def test_a_folder_of_the_hubs_cache_passes(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, every file is a link into the blobs beside the snapshots; a link to anywhere else is refused."""
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(honest.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    check_folder(snapshot)
    for name in ("modeling_x.py", "pytorch_model.bin"):
        (snapshot / name).write_bytes(b"")
        with pytest.raises(ModelError, match=re.escape(f"{name} is ")):
            check_folder(snapshot)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    assert find_folder("a/b", tmp_path) == snapshot  # what it did not ask for is another program's, and not read
    (snapshot / "notes.txt").symlink_to("../../../elsewhere")
    with pytest.raises(ModelError, match=r"notes\.txt is a link"):
        check_folder(snapshot)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append({}) }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_a_template_stays_in_its_sandbox(template: str, folder: Path) -> None:
    """transformers renders chat templates in jinja's sandbox: no way to Python's insides, to files, to long
    ranges."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=r"unsafe|not safe|range|loader|has no attribute") as caught:
        Encoder(tokenizer).chat(Prompt.fill("What of {}?", "France"))
    assert str(caught.value).startswith("the model's chat template can't be used: ")
    assert not (folder.parent / "ran").exists()
