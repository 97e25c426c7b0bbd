"""A real model whose every answer is known: it says what a table says of the token before."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from kbsync.lm.rows import Encoder

VOCAB = 400


def bigram(table: torch.Tensor) -> Any:
    """A Llama whose logits after token i are `table[i]`, (VOCAB, VOCAB): its one layer adds nothing."""
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=VOCAB, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4,
        rms_norm_eps=0.0, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for parameter in model.model.layers.parameters():
        parameter.zero_()
    model.model.layers[0].input_layernorm.weight.fill_(1.0)
    model.model.embed_tokens.weight.copy_(torch.eye(VOCAB))
    model.model.norm.weight.fill_(VOCAB**-0.5)  # undoes the norm of a one-hot vector
    model.lm_head.weight.copy_(table.T)
    return model


def says(encoder: Encoder, chains: dict[str, float]) -> Any:
    """A bigram model that prefers each text's tokens in a row, by its logit; everything else is at 0."""
    table = torch.zeros(VOCAB, VOCAB)
    for text, logit in chains.items():
        ids = encoder.text_ids(text)
        for one, following in pairwise(ids):
            table[one, following] = logit
    return bigram(table)
