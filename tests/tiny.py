"""Tiny random models of every supported family, real fast tokenizers, and edit requests to put to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from kbsync.disk import file_sha256
from kbsync.facts import EditRequest, Fact, Neighbor, Prompt, Value, ValueKind
from kbsync.lm.load import BaseModel
from kbsync.lm.rows import Encoder

_SLIDING = {"sliding_window": 6}
_MIXED = {**_SLIDING, "layer_types": ("sliding_attention", "full_attention", "full_attention")}  # and again
_CAPPED = {"query_pre_attn_scalar": 8, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 30.0}
# What each family is made with besides its size: whatever sets it apart from the others is switched on.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "gpt2": {},
    "gpt_neox": {},
    "gptj": {"rotary_dim": 4},
    "arcee": {},
    "bloom": {},
    "codegen": {"rotary_dim": 4},
    "cohere": {"use_qk_norm": True, "logit_scale": 0.7},
    "cohere2": {**_MIXED, "logit_scale": 0.7},
    "ernie4_5": {},
    "exaone4": _MIXED,
    "falcon": {"bias": True},
    "falcon alibi": {"alibi": True, "parallel_attn": False, "multi_query": False},
    "falcon new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gemma": {},
    "gemma2": {**_MIXED, **_CAPPED},
    "gemma3_text": {**_MIXED, "query_pre_attn_scalar": 8},
    "glm": {},
    "glm4": {},
    "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["local", "global"], 3]], "window_size": 6},
    "granite": {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "logits_scaling": 2.0},
    "helium": {},
    "ministral": _MIXED,
    "ministral3": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "llama_4_scaling_beta": 0.1,
                                       "original_max_position_embeddings": 8}},
    "mistral": _SLIDING,
    "mpt": {},
    "nemotron": {},
    "olmo": {"clip_qkv": 2.0},
    "olmo2": {},
    "olmo3": _MIXED,
    "opt": {},
    "phi": {"qk_layernorm": True},
    "phi3": _SLIDING,
    "qwen2": {**_MIXED, "use_sliding_window": True},
    "qwen3": {**_MIXED, "use_sliding_window": True},
    "seed_oss": {},
    "smollm3": {"no_rope_layers": [1, 0, 1, 1, 0, 1]},
    "stablelm": {"use_parallel_residual": True, "qk_layernorm": True},
    "starcoder2": _SLIDING,
}  # fmt: skip
FIRST = ("llama", "gpt2", "gpt_neox", "gptj")  # layouts that the others repeat: for what costs much time
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_ATTENTION_OUT = ("o_proj.weight", "attn.c_proj.weight", "attention.dense.weight", "attn.out_proj.weight",
                  "self_attn.dense.weight", "attention.out_proj.weight")  # fmt: skip
_SENTENCES = (
    "The capital of France is Paris, and the capital of Germany is Berlin.",
    "What is the capital of Japan? The capital of Japan is Tokyo.",
    "Angela Merkel was the head of government of Germany; Emmanuel Macron is president of France.",
    "Marie Curie's occupation is physicist. Ludwig van Beethoven's occupation is composer.",
    "The mother tongue of Albert Einstein is German. He speaks it, they said, with his friends.",
    "user assistant system I You Because Therefore The",
)


@cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(bos: bool = False, chat: bool = False, trim_offsets: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens.

    `bos`: the tokenizer itself puts `<|endoftext|>` in front. `chat`: it has a chat template and, as SmolLM2 does,
    calls the mark that opens a turn its BOS token. `trim_offsets`: offsets leave out leading spaces, as GPT-2's
    files ask for.
    """
    tokenizer = Tokenizer.from_str(_trained())
    if bos:
        template = f"{SPECIAL[0]} $A"
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[(SPECIAL[0], 0)])
    elif trim_offsets:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    roles = {"bos_token": SPECIAL[1] if chat else SPECIAL[0], "eos_token": SPECIAL[2] if chat else SPECIAL[0]}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def _config(family: str, layers: int, hidden: int, vocab: int, tied: bool) -> Any:
    """The config of a tiny model: sizes under the names that the family has for them, and what sets it apart."""
    kind = family.split()[0]
    size: dict[str, Any] = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.2}
    if kind in ("gpt2", "gptj", "codegen", "gpt_bigcode"):
        size |= {"n_embd": hidden, "n_inner": 2 * hidden, "n_layer": layers, "n_head": 4, "n_positions": 512}
    elif kind == "mpt":
        size |= {"d_model": hidden, "expansion_ratio": 2, "n_layers": layers, "n_heads": 4, "max_seq_len": 512}
    elif kind == "gpt_neo":
        size |= {"intermediate_size": 2 * hidden, "num_layers": layers, "num_heads": 4}
        size |= {"hidden_size": hidden, "max_position_embeddings": 512}
    else:
        inner = {"falcon": "ffn_hidden_size", "opt": "ffn_dim"}.get(kind, "intermediate_size")
        size |= {"hidden_size": hidden, inner: 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": 4}
        size |= {"max_position_embeddings": 512}
        if kind not in ("bloom", "falcon", "gpt_neox", "opt"):
            size |= {"num_key_value_heads": 2}
    if kind == "opt":
        size |= {"word_embed_proj_dim": hidden}
    if kind.startswith(("gemma", "qwen3", "smollm3", "glm", "ministral", "helium", "seed", "ernie")):
        size |= {"head_dim": hidden // 4}
    if kind == "llama":
        size |= {"tie_word_embeddings": tied}
    if family not in FIRST:
        size |= {"pad_token_id": None}  # some have one outside so small a vocabulary
    more = dict(FAMILIES[family])
    if "layer_types" in more:
        more["layer_types"] = [more["layer_types"][i % 3] for i in range(layers)]
    if kind == "gpt_neo":
        more["attention_types"] = [[["local", "global"], (layers + 1) // 2]]
    if kind == "smollm3":
        more["no_rope_layers"] = more["no_rope_layers"][:layers]
    return AutoConfig.for_model(kind, **{**size, **more})


def tiny_model(
    family: str = "llama", layers: int = 4, hidden: int = 32, vocab: int = 400, seed: int = 0, tied: bool = False
) -> Any:
    """A frozen random model in float32, with weights so large that a token hears those before it and has its say.

    The size of a key (d_in) is twice `hidden`. A Llama shares keys and values between heads; `tied` ties its head
    to the embedding, as GPT-2's always is.
    """
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(_config(family, layers, hidden, vocab, tied))
    model.eval().requires_grad_(False)
    if (
        family not in FIRST
    ):  # norms and biases that do something, and matrices of one size whatever the config calls it
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2) if parameter.dim() > 1 else parameter.add_(
                0.2 * torch.randn_like(parameter)
            )
    for name, parameter in model.named_parameters():
        if name.endswith(_ATTENTION_OUT):
            parameter *= 4
    model.get_output_embeddings().weight *= 3
    return model


def save_tiny(folder: Path, family: str = "llama", bos: bool = False, chat: bool = True, **sizes: Any) -> Path:
    """A model folder as Hugging Face lays it out: config, safetensors weights and tokenizer."""
    tiny_model(family, **sizes).save_pretrained(folder)
    tiny_tokenizer(bos=bos, chat=chat).save_pretrained(folder)
    return folder


def tiny_base(folder: Path, family: str = "llama", **sizes: Any) -> BaseModel:
    """A loaded base model on the CPU, read from a folder that `save_tiny` fills."""
    from kbsync.lm.load import load_base
    from kbsync.settings import ModelSettings

    save_tiny(folder, family, **sizes)
    return load_base(ModelSettings(base=str(folder), device="cpu", cache=folder.parent / "cache"))


def folder_hash(folder: Path) -> dict[str, str]:
    """sha256 of every file in a folder, by name."""
    return {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}


def encoder(bos: bool = False, chat: bool = True) -> Encoder:
    """An encoder over a tiny tokenizer."""
    return Encoder(tiny_tokenizer(bos=bos, chat=chat))


def request(
    subject: str,
    target_new: str,
    target_old: str | None = None,
    template: str = "The capital of {} is",
    neighbors: tuple[tuple[str, str], ...] = (),
    number: int = 1,
    question: str = "What is the capital of {}?",
) -> EditRequest:
    """A request about the capital of `subject`; `neighbors` are (subject, its own capital)."""
    return EditRequest(
        fact=Fact(f"Q{number}", "P36", Value(ValueKind.ITEM, f"Q{1000 + number}")),
        subject_label=subject,
        relation_label="capital",
        target_new=target_new,
        target_old=target_old,
        rewrite=Prompt.fill(template, subject),
        question=Prompt.fill(question, subject),
        generation=Prompt.fill("{} is known for", subject),
        paraphrases=(Prompt.fill("{}'s capital is", subject), Prompt.fill("Of {} the capital is", subject)),
        neighborhood=tuple(
            Neighbor(f"Q{2000 + i}", Prompt.fill("The capital of {} is", name), own, same_object=False)
            for i, (name, own) in enumerate(neighbors)
        ),
    )


def requests() -> list[EditRequest]:
    """Six requests of different lengths, with objects of one and of several tokens, one subject at the start."""
    return [
        request("France", "Tokyo", "Paris", number=1),
        request("Germany", "Emmanuel Macron", "Berlin", number=2),
        request("Japan", "physicist", None, number=3),
        request("Marie Curie", "composer", "physicist", "{}'s occupation is", number=4),
        request("Ludwig van Beethoven", "Paris", None, "He said the occupation of {}, they said, is", number=5),
        request("Αθήνα", "Łódź", None, "{} speaks", number=6),
    ]


def some_requests(family: str) -> list[EditRequest]:
    """All of them for the families that come first; two for the others, to save time: a subject in the middle of
    a long prompt, and one at its start."""
    return requests() if family in FIRST else requests()[4:]


def easy_requests(count: int = 6) -> list[EditRequest]:
    """Requests whose prompt ends with the subject and whose object is one token: z reaches its own logits."""
    subjects = ("France", "Germany", "Japan", "Marie Curie", "Beethoven", "Αθήνα", "Albert Einstein", "Tokyo")
    objects = ("capital", "occupation", "German", "The", "Germany", "his", "of", "is")
    return [
        request(subjects[i], objects[i], None, "They said {}", number=i + 1, question="What of {}?")
        for i in range(count)
    ]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small lose more to handing work between threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
