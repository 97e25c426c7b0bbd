"""Models of full size with random weights, and edits to put to them: for time and memory, with nothing to fetch.

Only torch and transformers are imported here, so that a machine with an accelerator and no kbsync installed can run
it: settings come from the text of `kbsync/settings/`, whose own import would need more.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from kbsync.facts import EditRequest, Fact, Prompt, Value, ValueKind
from kbsync.lm.rows import Encoder

WORDS = 8000  # of the tokenizer, each one token


@dataclass(frozen=True, slots=True)
class Size:
    """One model: its type, its config's sizes, the published critical layers (or as near as there are), and what a
    tiny one of the same type differs in."""

    kind: str
    config: Mapping[str, Any]
    layers: tuple[int, ...]
    weight: float = 15_000.0  # λ
    tiny: Mapping[str, Any] = field(default_factory=dict)


SIZES: Mapping[str, Size] = {
    "gptj-6b": Size(
        "gptj",
        {"vocab_size": 50_400, "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64, "n_positions": 2048},
        (3, 4, 5, 6, 7, 8),
        tiny={"n_embd": 64, "n_layer": 6, "n_head": 4, "rotary_dim": 8},
    ),
    "neox-20b": Size(
        "gpt_neox",
        {"vocab_size": 50_432, "hidden_size": 6144, "intermediate_size": 24_576, "num_hidden_layers": 44,
         "num_attention_heads": 64, "max_position_embeddings": 2048},
        (6, 7, 8, 9, 10),
        tiny={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4},
    ),
    "llama-8b": Size(
        "llama",
        {"vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192},
        (4, 5, 6, 7, 8),
        tiny={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4,
              "num_key_value_heads": 2},
    ),
}  # fmt: skip
TINY_LAYERS = (1, 2, 3)


def build_model(size: Size, device: torch.device, dtype: torch.dtype, tiny: bool = False, seed: int = 0) -> Any:
    """A frozen model with random weights, made on the device in the type asked for.

    A tiny one has weights so large that a token hears those before it; its vocabulary stays that of the words.
    """
    config: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, **size.config}
    if tiny:
        config |= {**size.tiny, "vocab_size": WORDS + 2, "initializer_range": 0.2}
    torch.manual_seed(seed)
    with torch.device(device):
        made = AutoConfig.for_model(size.kind, **config)
        model: Any = AutoModelForCausalLM.from_config(made, dtype=dtype)  # type: ignore[no-untyped-call]
    return model.to(device).eval().requires_grad_(False)


def word_encoder() -> Encoder:
    """A tokenizer of words `w0`, `w1`, …, each of them one token, with a BOS token."""
    vocabulary = {"<s>": 0, "<unk>": 1, **{f"w{i}": i + 2 for i in range(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106  a word, not a secret
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {"bos_token": "<s>", "eos_token": "<s>"}
    return Encoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles))  # type: ignore[no-untyped-call]


def sentences(tokens: int, seed: int = 0) -> list[str]:
    """Text of so many tokens, in sentences of twenty."""
    draw = random.Random(seed)  # noqa: S311  the same in every run
    return [_words(draw, 20) for _ in range(-(-tokens // 20))]


def synthetic_requests(count: int, seed: int = 0) -> list[EditRequest]:
    """Edits in the lengths of real ones: two to five tokens before a subject of one to five, one to four between it
    and an object of one to four; the question has three to six before the subject and one behind."""
    draw = random.Random(seed)  # noqa: S311  the same in every run
    templates = [
        (
            f"{_words(draw, draw.randint(2, 5))} {{}} {_words(draw, draw.randint(1, 4))}",
            f"{_words(draw, draw.randint(3, 6))} {{}} {_words(draw, 1)}",
        )
        for _ in range(30)
    ]
    found = []
    for i in range(count):
        prompt, question = templates[i % len(templates)]
        name, target = _words(draw, draw.randint(1, 5)), _words(draw, draw.randint(1, 4))
        found.append(
            EditRequest(
                fact=Fact(f"Q{i + 1}", "P1", Value(ValueKind.ITEM, f"Q{count + i + 1}")),
                subject_label=name,
                relation_label="",
                target_new=target,
                target_old=None,
                rewrite=Prompt.fill(prompt, f"{name} w{i % WORDS} w{i // WORDS}"),
                question=Prompt.fill(question, f"{name} w{i % WORDS} w{i // WORDS}"),
                generation=Prompt.fill("{} w1", name),
            )
        )
    return found


def _words(draw: random.Random, count: int) -> str:
    return " ".join(f"w{draw.randrange(WORDS)}" for _ in range(count))


def default_settings(section: str, **changes: object) -> Any:
    """The defaults of a section of the settings, such as `Edit`, with `changes`, as an object with its fields."""
    files = (Path(__file__).resolve().parents[1] / "settings").glob("*.py")
    found = (node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body)
    (table,) = (n for n in found if isinstance(n, ast.ClassDef) and n.name == f"{section}Settings")
    values: dict[str, object] = {}
    for line in table.body:
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and isinstance(line.value, ast.Call)
        ):
            values[line.target.id] = _literal(line.value.args[0])
    unknown = sorted(set(changes) - set(values))
    if unknown:
        raise ValueError(f"{section} has no setting {unknown[0]}")
    return SimpleNamespace(**{**values, **changes})


def _literal(node: ast.expr) -> object:
    """A default as it is written; a path as its text."""
    return ast.literal_eval(node.args[0] if isinstance(node, ast.Call) else node)
