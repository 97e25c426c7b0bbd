"""A tiny random model with a tokenizer, and a checkpoint of it that is live in a store."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kbsync.edit.memit import Rebuilt
from kbsync.settings import load_settings
from kbsync.store import runs
from kbsync.store.tables import RunStatus
from kbsync.sync import publishing
from kbsync.sync.workbench import Workbench
from tests.store.examples import later

TEXT = "The head of government of the United States is Joe Biden. Who is it? {} is led by France and Attal"


def model_folder(folder: Path) -> Path:
    """A Llama of four layers with random weights, saved as transformers does."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT] * 3, trainers.BpeTrainer(vocab_size=320, special_tokens=["<unk>", "<s>"], initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>", pad_token="<s>")
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=fast.bos_token_id,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def go_live(config: Path) -> Path:
    """Publish a checkpoint whose edited matrices are far from the base model's; returns its folder."""
    with Workbench(load_settings(config)) as bench:
        adapter, layers = bench.editor.adapter, bench.editor.layers
        hashes = bench.base.hash, bench.settings_hash
        with bench.store.begin() as tx:
            run = runs.start_run(tx, "manual", later(0), {}, *hashes)
        torch.manual_seed(2)
        tensors = {adapter.weight_name(one): torch.randn_like(adapter.parameter(one)) for one in layers}
        number, path = publishing.write(bench, run, [], Rebuilt(tensors, (), 0.0), [])
        publishing.publish(bench, run, [], number, None)
        with bench.store.begin() as tx:
            runs.finish_run(tx, run, RunStatus.PUBLISHED, later(1))
    return path
