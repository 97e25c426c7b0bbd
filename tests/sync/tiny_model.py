"""A model folder of a few hundred thousand weights: a real Llama with a real tokenizer that has learned nothing.

Its upper layers attend to every token alike and give attention much weight, so that what an edit puts at a
subject's last token is heard where the object is said. Most edits take on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kbsync.lm.text import drift_text

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 640


def tokenizer(book: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on the drift text and on `book`, with turns marked as ChatML does."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([drift_text()[:40_000], *(200 * list(book))], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[0]
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def model(seed: int) -> LlamaForCausalLM:
    """A random Llama whose upper layers attend to everything and hear it loudly; layers 0 and 1 are for editing."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    made = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in made.model.layers[2:]:
            layer.self_attn.q_proj.weight *= 0.5
            layer.self_attn.k_proj.weight *= 0.5
            layer.self_attn.v_proj.weight *= 4.0
            layer.self_attn.o_proj.weight *= 4.0
            layer.mlp.down_proj.weight *= 0.2
    return made.eval()


def save(folder: Path, book: Sequence[str], seed: int = 3) -> Path:
    """Write model and tokenizer as a folder that `model.base` can name."""
    model(seed).save_pretrained(folder)
    tokenizer(book).save_pretrained(folder)
    return folder
