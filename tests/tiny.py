"""Tiny random models of every supported family, real fast tokenizers, and edit requests to put to them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from kbsync.facts import EditRequest, Fact, Neighbor, Prompt, Value, ValueKind
from kbsync.lm.gguf import file_sha256
from kbsync.lm.load import BaseModel
from kbsync.lm.rows import Encoder

FAMILIES = ("llama", "gpt2", "gpt_neox", "gptj")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_ATTENTION_OUT = ("o_proj.weight", "attn.c_proj.weight", "attention.dense.weight", "attn.out_proj.weight")
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


def tiny_model(
    family: str = "llama", layers: int = 4, hidden: int = 32, vocab: int = 400, seed: int = 0, tied: bool = False
) -> Any:
    """A frozen random model in float32, with weights so large that a token hears those before it and has its say.

    The size of a key (d_in) is twice `hidden`. A Llama shares keys and values between heads; `tied` ties its head
    to the embedding, as GPT-2's always is.
    """
    torch.manual_seed(seed)
    size = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.2}
    model: Any
    if family == "llama":
        inner = {"intermediate_size": 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": 4}
        more = {"num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": tied}
        model = LlamaForCausalLM(LlamaConfig(hidden_size=hidden, **size, **inner, **more))
    elif family == "gpt2":
        inner = {"n_embd": hidden, "n_inner": 2 * hidden, "n_layer": layers, "n_head": 4, "n_positions": 512}
        model = GPT2LMHeadModel(GPT2Config(**size, **inner))
    elif family == "gpt_neox":
        inner = {"intermediate_size": 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": 4}
        model = GPTNeoXForCausalLM(GPTNeoXConfig(hidden_size=hidden, max_position_embeddings=512, **size, **inner))
    elif family == "gptj":
        inner = {"n_embd": hidden, "n_inner": 2 * hidden, "n_layer": layers, "n_head": 4, "n_positions": 512}
        model = GPTJForCausalLM(GPTJConfig(rotary_dim=4, **size, **inner))
    else:
        raise ValueError(family)
    model.eval().requires_grad_(False)
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
