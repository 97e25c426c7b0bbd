"""A model folder of a few thousand weights: a real Llama with a real tokenizer that has read one small book.

It has learned the sentences that it is given by heart, so that it carries a subject to where the object is said,
as a model must that is to be edited. Training takes two seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F  # noqa: N812  the library's own habit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kbsync.lm.text import drift_text

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 640
STEPS = 120


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


def untrained(seed: int) -> LlamaForCausalLM:
    """A random Llama; `auto` edits the down-projections of its layers 1 and 2."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.05,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, book: Sequence[str]) -> float:
    """Let the model learn `book` by heart, sentence by sentence; returns the last loss."""
    rows = [[0, *words(sentence, add_special_tokens=False).input_ids] for sentence in book]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    targets = torch.tensor([row[1:] + [-100] * (width - len(row) + 1) for row in rows])
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    loss = torch.tensor(0.0)
    for _ in range(STEPS):
        loss = F.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss)


def save(folder: Path, book: Sequence[str], seed: int = 1) -> Path:
    """Write model and tokenizer as a folder that `model.base` can name."""
    words, model = tokenizer(book), untrained(seed)
    train(model, words, book)
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
