"""GGUF files: an honest tiny one, and headers that lie, byte by byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
from gguf.constants import LlamaFileType

from tests.tiny import tiny_model, tiny_tokenizer

_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
}  # fmt: skip


def honest(path: Path, without: str = "") -> Path:
    """A whole Llama of two layers, in float32, with its tokenizer; or one that lacks a tensor."""
    model, tokenizer = tiny_model("llama", layers=2), json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_block_count(2)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(400)
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, tensor in model.state_dict().items():
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)
        if name != without:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str | bytes) -> bytes:
    """A text as GGUF writes one."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str, value: str | int | bytes, kind: int = 4) -> bytes:
    """A key: a text, a uint32, or raw bytes of the type `kind`."""
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    return text(name) + struct.pack("<I", kind) + (value if isinstance(value, bytes) else struct.pack("<I", value))


def tensor(name: str = "token_embd.weight", shape: tuple[int, ...] = (8, 8), kind: int = 0, at: int = 0) -> bytes:
    """A tensor's line in the header; float32 by default."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at)


KEYS: Mapping[str, Any] = {
    "general.architecture": "llama", "llama.block_count": 1, "llama.embedding_length": 8,
    "llama.context_length": 64, "llama.feed_forward_length": 8, "llama.vocab_size": 8,
}  # fmt: skip


def lying(
    keys: Mapping[str, Any] = KEYS,
    tensors: tuple[bytes, ...] = (tensor(), tensor("b", at=256), tensor("c", at=512)),
    more: bytes = b"",
    version: int = 3,
    counts: tuple[int, int] | None = None,
    data: int = 768,
) -> bytes:
    """A file of these parts. `more` are raw keys; `counts` are those that the header gives, where they are
    lies."""
    written = [key(name, value) for name, value in keys.items()] + ([more] if more else [])
    many = counts or (len(tensors), len(written))
    head = b"GGUF" + struct.pack("<IQQ", version, *many) + b"".join(written) + b"".join(tensors)
    return head + bytes(-len(head) % 32 + data)


def _array(kind: int, count: int) -> bytes:
    return struct.pack("<IQ", kind, count)


# name → (the file, a part of the refusal)
LIES: Mapping[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a GGUF file"),
    "another format": (b"PK\x03\x04" + bytes(64), "not a GGUF file"),
    "a magic alone": (b"GGUF", "truncated"),
    "an old version": (lying(version=1), "version 1"),
    "the other byte order": (lying(version=3 << 24), "version 50331648"),
    "endless tensors": (lying(counts=(2**63, 6)), "9223372036854775808 tensors"),
    "endless keys": (lying(counts=(3, 2**40)), "1099511627776 keys"),
    "more keys than there are": (lying(counts=(3, 20)), "."),
    "an endless text": (lying(more=key("x", struct.pack("<Q", 2**62), 8)), "the most"),
    "a text beyond the end": (lying(more=key("x", struct.pack("<Q", 10**6), 8)), "truncated"),
    "an endless array": (lying(more=key("x", _array(4, 2**62), 9)), "truncated"),
    "endless texts": (lying(more=key("x", _array(8, 2**62), 9)), "more than the file has room for"),
    "arrays in arrays": (lying(more=key("x", _array(9, 1) * 1000, 9)), "which nothing reads"),
    "an unknown kind of key": (lying(more=key("x", b"", 77)), "unknown type 77"),
    "a key twice": (lying(more=key("llama.block_count", 1)), "written twice"),
    "tensors of one name": (lying(tensors=(tensor(), tensor(at=256))), "one name"),
    "an unknown kind of tensor": (lying(tensors=(tensor(kind=99),)), "unknown type 99"),
    "no dimensions": (lying(tensors=(tensor(shape=()),)), "0 dimensions"),
    "a thousand dimensions": (lying(tensors=(tensor(shape=(1,) * 1000),)), "1000 dimensions"),
    "a product beyond 64 bits": (lying(tensors=(tensor(shape=(2**62, 2**62)),)), "no shape"),
    "a shape beyond the file": (lying(tensors=(tensor(shape=(2**20, 2**20)),)), "truncated"),
    "an offset beyond the file": (lying(tensors=(tensor(at=2**40),)), "truncated"),
    "tensors that overlap": (lying(tensors=(tensor(), tensor("b", at=32))), "overlap"),
    "an offset between": (lying(tensors=(tensor(at=7),)), "aligned"),
    "rows that no block fits": (lying(tensors=(tensor(kind=2),)), "can't hold"),
    "no alignment": (lying({**KEYS, "general.alignment": 0}), "alignment"),
    "a vast alignment": (lying({**KEYS, "general.alignment": 2**31}), "alignment"),
    "no architecture": (lying({k: v for k, v in KEYS.items() if k[0] != "g"}), "no architecture"),
    "an architecture up the tree": (lying({**KEYS, "general.architecture": "../../x"}), "no architecture"),
    "a million layers": (lying({**KEYS, "llama.block_count": 10**6}), "1000000 layers"),
    "more layers than tensors": (lying({**KEYS, "llama.block_count": 4}), "4 layers"),
    "no layers": (lying({k: v for k, v in KEYS.items() if k != "llama.block_count"}), "block_count is no size"),
    "a vast hidden state": (lying({**KEYS, "llama.embedding_length": 10**9}), "far larger"),
    "a vast MLP": (lying({**KEYS, "llama.feed_forward_length": 10**9}), "far larger"),
    "a vast vocabulary": (lying({**KEYS, "llama.vocab_size": 10**9}), "far larger"),
    "a billion heads": (lying({**KEYS, "llama.attention.head_count": 10**9}), "1000000000 heads"),
    "a vast head": (lying({**KEYS, "llama.attention.key_length": 10**9}), "far larger"),
    "many wide heads": (
        lying({**KEYS, "llama.attention.head_count": 60_000, "llama.attention.key_length": 8}), "far larger"),
    "experts without end": (lying({**KEYS, "llama.expert_count": 10**9}), "experts"),
    "a vast rotation": (lying({**KEYS, "llama.rope.dimension_count": 10**9}), "far larger"),
    "endless positions": (lying({**KEYS, "llama.context_length": 10**9}), "1000000000 tokens"),
    "a vast template": (lying({**KEYS, "tokenizer.chat_template": "x" * 300_000}), "chat template"),
}  # fmt: skip
