"""What lies on disk: settings, the relation catalogue, manifests, weights; and the SQL that users type."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from kbsync.checkpoint import verify
from kbsync.checkpoint.manifest import Base, FileEntry, LiveFact, Manifest, TensorEntry, from_json, to_json
from kbsync.edit import kept
from kbsync.errors import ModelError
from kbsync.facts import Fact, Value, ValueKind
from kbsync.lm import gguf, precision
from kbsync.lm.gguf_header import check_gguf
from kbsync.lm.safetensors_header import read_header
from kbsync.request.catalogue import load_catalogue
from kbsync.request.verbalise import verbalise
from kbsync.settings import load_settings, share
from kbsync.store.engine import open_store
from kbsync.store.query import run_sql
from tests.attacks.gguf_files import key, lying
from tests.fuzz.draw import Draw, Target, file, named

HASH = "0" * 64


def settings(data: bytes) -> None:
    """A config file."""
    with named():
        load_settings(file("kbsync.toml", data))


def relations(data: bytes) -> None:
    """A relation catalogue; what it lets in must be able to say a fact."""
    with named():
        catalogue = load_catalogue(file("relations.toml", data))
        for one in catalogue.relations:
            fact = Fact("Q1", one, Value(ValueKind.ITEM, "Q2"))
            verbalise(fact, {"Q1": "Arland", "Q2": "Ada"}, catalogue)


def manifest(data: bytes) -> None:
    """A manifest: read, it says the same when it is written again."""
    with named():
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return  # `read_manifest` says so before
        found = from_json(text)
        assert from_json(to_json(found)) == found


def weights(data: bytes) -> None:
    """A safetensors file, wherever we open one."""
    path = file("weights/model.safetensors", data)
    with named():
        precision.stored_in(path.parent)
    found = verify._load(path)
    try:
        let_in = read_header(path).values()
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017  most inputs raise nothing
    else:  # what our own check lets in, the library reads
        assert isinstance(found, dict) or any(
            one.dtype not in ("F32", "F64", "F16", "BF16", "I8") for one in let_in
        )
    assert isinstance(found, dict) or "\n" not in found
    kept.read_or_forget(path)


def model_config(data: bytes) -> None:
    """A model folder's config.json, and the note of a conversion."""
    path = file("config/config.json", data)
    file("config/kbsync-source.json", data)
    with named():
        precision.quantiser(precision.read_config(path.parent))
    with named():
        precision.stored_in(path.parent)


def gguf_header(data: bytes) -> None:
    """The header of a GGUF file: walked through to its end, or one line of why not."""
    try:
        check_gguf(file("header.gguf", data))
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017  most inputs raise nothing


def gguf_file(data: bytes) -> None:
    """A GGUF file: whatever the reader stumbles over is a ModelError."""
    path = file("model.gguf", data)
    with named(ModelError):
        gguf.convert(path, path.parent / "cache")


@cache
def _store() -> str:
    path = file("kbsync.db", b"")
    path.unlink()
    url = f"sqlite:///{path}"
    open_store(url).close()
    return url


def sql(data: bytes) -> None:
    """What a user asks the store: an answer that can be printed as JSON, or one line of why not."""
    draw = Draw(data)
    limit, timeout = draw.pick((1, 2, 1000, 2**31 - 1, 2**31, 2**63)), draw.pick((0.05, 1e-9, 0.2))
    with named():
        found = run_sql(_store(), draw.text(), limit, timeout)
        json.dumps(found.rows).encode()


def _manifest() -> bytes:
    fact = LiveFact(HASH, "Q1", "P6", Value(ValueKind.ITEM, "Q2"), "Arland", "Ada")
    made = Manifest(
        "0.1.0", "1", datetime(2024, 1, 1, tzinfo=UTC), Base("embedded", HASH, HASH, "llama", "float32"),
        {"layers": [1, 2], "clamp": 0.5}, (fact,), {"efficacy": 1.0}, HASH,
        {"model.layers.0.mlp.down_proj.weight": TensorEntry("float32", (2, 2))},
        {"edited.safetensors": FileEntry(HASH, 10)},
    )  # fmt: skip
    return to_json(made).encode()


def _tensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(16)


_CONFIGS = Path(share("config/wikidata.toml")).parent
_RELATION = """[P6]
label = "head of government"
rewrite = "The head of government of {} is"
paraphrases = ["In {}, the government is headed by", "The government of {} is led by", "{} is governed by"]
question = "Who governs {}?"
generation = "The government of {} is"
current = "latest"
"""

TARGETS = (
    Target(
        "settings",
        settings,
        (
            b"[watch]\nrelations = ['P6']\n[trust]\nsettling = '24h'\n",
            b"[schedule]\ncron = '0 4 * * *'\n",
            b"[edit]\nlayers = [1, 2]\nclamp = 1.5\n[gate]\nmin_efficacy_success = 'off'\n",
            *(
                path.read_bytes()[:2000]
                for path in sorted(_CONFIGS.glob("*.toml"))
                if path.name != "relations.toml"
            ),
        ),
        (
            "[model]",
            "[source]",
            "[watch]",
            "[edit]",
            "[trust]",
            "[retention]",
            "nan",
            "inf",
            "true",
            "'~x/y'",
            "endpoint = ",
            "'http://[::1'",
            "1979-05-27",
            '"""',
            "relations",
            "cache = ",
            "\\u0000",
            "classes.P6 = ['Q5']",
        ),
    ),
    Target(
        "catalogue",
        relations,
        (_RELATION.encode(), b"[P6]\nlabel='x'\n", b"P6 = 1"),
        ("{}", "paraphrases", "question", "object = 'year'", "settling = '1d'", "'''", "max_changes = -1"),
    ),
    Target(
        "manifest",
        manifest,
        (_manifest(), b"{}"),
        ("1e999", "NaN", "\\ud800", '"format": 1', "0001-01-01T00:00:00+14:00", "null", "true"),
        4096,
    ),
    Target(
        "safetensors",
        weights,
        (_tensors(), b"\x02\0\0\0\0\0\0\0{}"),
        ("__metadata__", "data_offsets", "F8_E4M3", "F64", '"shape":[]', "BF16"),
    ),
    Target(
        "model config",
        model_config,
        (b'{"quantization_config":{"quant_method":"fp8","bits":8}}', b'{"format":"GGUF","types":["Q8_0"]}'),
        ("quantization_config", "quant_method", "bits", "fp8", "null", "[]"),
    ),
    Target(
        "gguf header",
        gguf_header,
        (lying(), lying(more=key("tokenizer.ggml.tokens", b"\x08\0\0\0\x01" + bytes(15), 9)), b"GGUF"),
        ("GGUF", "general.architecture", "llama.block_count", "general.alignment", "\x09\x00\x00\x00"),
        1600,
    ),
    Target("gguf", gguf_file, (b"GGUF\x03\0\0\0" + bytes(16), b"GGML"), ("GGUF", "general.architecture"), 256),
    Target(
        "sql",
        sql,
        (
            b"\x02\x00SELECT * FROM runs",
            b"\x00\x00SELECT 1; DROP TABLE runs",
            b"\x04\x02SELECT ?, x'00', char(0)",
            b"\x02\x00WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x FROM c LIMIT 5",
            b"\x02\x00PRAGMA table_list",
            b"\x02\x00ATTACH 'x' AS y",
        ),
        ("SELECT", "FROM", "runs", "zeroblob(", "hex(", "char(", "1e999", "load_extension(", "PRAGMA ", "VALUES"),
        300,
    ),
)
