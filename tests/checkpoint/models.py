"""Tiny random models and their edits."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

Tensors = dict[str, torch.Tensor]


def llama() -> LlamaForCausalLM:
    """A random Llama of two layers; the head is its own."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    """A random GPT-2 of two layers; the head is tied to the embedding."""
    torch.manual_seed(2)
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return GPT2LMHeadModel(config).eval()


def edits_of(model: torch.nn.Module) -> Tensors:
    """New values for the down-projections of every layer."""
    torch.manual_seed(3)
    ends = ("mlp.down_proj.weight", "mlp.c_proj.weight")
    return {
        name: parameter.detach() + 0.1 * torch.randn_like(parameter)
        for name, parameter in model.named_parameters()
        if name.endswith(ends)
    }
