"""Before a candidate may go live: its files are read back from the disk, and the model made of them is asked.

What was judged is what lay in memory; what readers get is what lies on the disk. So the weights are read as a
reader would, put into the base model, and asked a handful of prompts: the answers must be those of the candidate in
memory.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kbsync.checkpoint.manifest import FILE_NAME
from kbsync.checkpoint.tensors import applied
from kbsync.checkpoint.verify import read_checkpoint
from kbsync.disk import file_sha256
from kbsync.edit.memit import Rebuilt
from kbsync.errors import CheckpointError
from kbsync.evaluate.gate import Soundness
from kbsync.lm.finite import all_broken
from kbsync.lm.place import main_device
from kbsync.lm.text import drift_text
from kbsync.store import checkpoints
from kbsync.store.requests import StoredRequest
from kbsync.sync.workbench import Workbench

PROMPTS = 5  # rewrite prompts that are asked, spread over the live set
TEXT_TOKENS = 32  # of ordinary text, each position of which is asked for the next token
# How far logits may lie apart where the same weights need not give the same bits (CUDA): a step of bfloat16, as a
# share of the largest logit. On the CPU they must be the same bits.
TOLERANCE = 2.0**-7
COLLAPSED = 0.9  # a model that says one token at so large a share of all places says it whatever is asked


@dataclass(frozen=True, slots=True)
class Probe:
    """One input: what it is called in a verdict, its token ids, and how many of its last positions are asked."""

    name: str
    ids: tuple[int, ...]
    asked: int


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What was found of the files, and what that took for the run's row."""

    sound: Soundness
    counts: dict[str, float]


def check(bench: Workbench, live: Sequence[StoredRequest], rebuilt: Rebuilt, candidate: int) -> ReadBack:
    """Read the candidate of this row back, and look at it: is each number finite, are the answers those of memory,
    and are they more than one.

    The loaded model holds the base weights, before and after.
    """
    started = time.perf_counter()
    probes = _probes(bench, live)
    sound = Soundness(len(rebuilt.tensors), probes=len(probes))
    try:
        stored = _read(bench, candidate)
        if broken := all_broken(stored):
            sound = replace(sound, broken=broken)
        else:
            wrong, collapsed = _compare(bench, probes, rebuilt.tensors, stored)
            sound = replace(sound, wrong=wrong, collapsed=collapsed)
    except CheckpointError as error:
        sound = replace(sound, wrong=[str(error)])
    seconds = round(time.perf_counter() - started, 3)
    return ReadBack(sound, {"probes": len(probes), "read_back_s": seconds})


def _read(bench: Workbench, candidate: int) -> dict[str, Tensor]:
    """The tensors of the candidate's files, which are as they were when they got their row."""
    with bench.store.read() as tx:
        row = checkpoints.checkpoint_of(tx, candidate)
    path = Path(row.path)
    manifest, stored = read_checkpoint(path, finite=False)
    if file_sha256(path / FILE_NAME) != row.manifest_sha256 or manifest.weights_hash != row.weights_hash:
        raise CheckpointError(f"{path / FILE_NAME} is not what was written")
    return stored


def _probes(bench: Workbench, live: Sequence[StoredRequest]) -> list[Probe]:
    """A few rewrite prompts of the live set, by their hashes, and the beginning of the fixed text."""
    encoder = bench.base.encoder
    ordered = sorted((stored.request for stored in live), key=lambda request: request.content_hash)
    some = [ordered[i * len(ordered) // PROMPTS] for i in range(PROMPTS)] if len(ordered) > PROMPTS else ordered
    probes = [Probe(repr(request.rewrite.text), encoder.plain(request.rewrite).ids, 1) for request in some]
    head = [encoder.bos_id] if encoder.bos_id is not None else []
    text = encoder.text_ids(drift_text())[:TEXT_TOKENS]
    return [*probes, Probe("ordinary text", (*head, *text), len(text))]


def _compare(
    bench: Workbench, probes: Sequence[Probe], memory: Mapping[str, Tensor], stored: Mapping[str, Tensor]
) -> tuple[list[str], list[str] | None]:
    """What is wrong with what the files give, a sentence each, and whether it is one answer to everything: None
    where the files are not the candidate."""
    if set(memory) != set(stored) or not all(torch.equal(stored[name], memory[name].cpu()) for name in memory):
        return ["the tensors in the files are not those that were built"], None
    model = bench.base.model
    with _candidate(bench, memory):
        judged = ask(model, probes)
    with applied(model, stored):
        read = ask(model, probes)
    wrong = differences(probes, judged, read, exact=bench.base.device.type == "cpu")
    return wrong, None if wrong else collapse(read, lambda: ask(model, probes))


@contextmanager
def _candidate(bench: Workbench, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    bench.editor.load(tensors)
    try:
        yield
    finally:
        bench.editor.restore()


@torch.inference_mode()
def ask(model: Any, probes: Sequence[Probe]) -> list[Tensor]:
    """Logits (asked, V) of each probe, float32, on the CPU."""
    device = main_device(model)
    found = []
    for probe in probes:
        row = torch.tensor([probe.ids], device=device)  # (1, T)
        found.append(model(input_ids=row, use_cache=False).logits[0, -probe.asked :].float().cpu())
    return found


def differences(
    probes: Sequence[Probe], judged: Sequence[Tensor], read: Sequence[Tensor], exact: bool
) -> list[str]:
    """What speaks against the model that was read back: numbers that are none, and other answers than those of the
    one that was judged (other bits where they must be `exact`). Both are logits (asked, V) by probe."""
    wrong = []
    for probe, wanted, found in zip(probes, judged, read, strict=True):
        if not bool(found.isfinite().all()):
            wrong.append(f"what it says at {probe.name} is not finite")
        elif not _same(wanted, found, exact):
            apart = float((wanted - found).abs().max())
            wrong.append(f"at {probe.name} it does not answer as it did in memory (logits {apart:.3g} apart)")
    return wrong


def collapse(read: Sequence[Tensor], base: Callable[[], Sequence[Tensor]]) -> list[str]:
    """Whether the model says one token whatever it is asked, where the base model, which is asked only then, says
    several."""
    token, share = _commonest(read)
    if share < COLLAPSED or (before := _commonest(base())[1]) >= COLLAPSED:
        return []
    return [f"it says token {token} whatever is asked ({share:.0%} of the time; the base {before:.0%})"]


def _same(wanted: Tensor, found: Tensor, exact: bool) -> bool:
    if exact:
        return torch.equal(wanted, found)
    return bool((wanted - found).abs().max() <= TOLERANCE * wanted.abs().max())


def _commonest(answers: Sequence[Tensor]) -> tuple[int, float]:
    """The token that is the most likely one at most places, and its share of them."""
    said = [int(token) for logits in answers for token in logits.argmax(-1)]
    ((token, times),) = Counter(said).most_common(1)
    return token, times / len(said)
