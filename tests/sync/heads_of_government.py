"""A store of one relation's facts, and a tiny model that says the same word after each of its prompts."""

from __future__ import annotations

from pathlib import Path

import torch

from kbsync.store import entities, known, mirror
from kbsync.store.engine import open_store
from kbsync.store.runs import finish_run, start_run
from kbsync.store.tables import RunStatus
from tests.store.examples import later, named, page, statement
from tests.tiny import encoder, tiny_model, tiny_tokenizer

SAID, UNSAID = "Germany", "Paris"  # the first is one token of the tiny tokenizer's
COUNTRIES = ("France", "Japan", "Beethoven", "Einstein", "Emmanuel", "Tokyo", "Berlin", "Marie Curie")
KNOWN = 5  # of the countries, the first so many have the object that the model says


def save_model(folder: Path) -> Path:
    """A random Llama whose head hears what the prompts' last token leaves behind as `SAID`."""
    model = tiny_model("llama")
    asked = encoder()
    ends = []
    for country in COUNTRIES:
        ids = [asked.bos_id, *asked.text_ids(f"The head of government of {country} is")]
        ends.append(model.base_model(torch.tensor([ids])).last_hidden_state[0, -1])
    mean = torch.stack(ends).mean(0)
    (token,) = asked.text_ids(f" {SAID}")
    model.get_output_embeddings().weight[token] = mean * 2.5 / mean.norm()
    model.save_pretrained(folder)
    tiny_tokenizer(chat=True).save_pretrained(folder)
    return folder


def fill(url: str) -> None:
    """A store after the first pull: the first countries are led by `SAID`, the others by `UNSAID`."""
    with open_store(url) as store, store.begin() as tx:
        run = start_run(tx, "manual", later(0), {}, "base", "settings")
        led = [statement(1, "Q901" if i < KNOWN else "Q902", f"Q{10 + i}") for i, _ in enumerate(COUNTRIES)]
        mirror.apply(tx, run, later(0), page(led), True)
        known.complete_first_pull(tx, run, "P6", later(0))
        names = {"P6": "head of government", "Q901": SAID, "Q902": UNSAID}
        names |= {f"Q{10 + i}": country for i, country in enumerate(COUNTRIES)}
        entities.save(tx, later(0), [named(one, label) for one, label in names.items()])
        finish_run(tx, run, RunStatus.PUBLISHED, later(1))
