"""Causal tracing: which states carry a fact that the model knows (Meng et al. 2022, "Locating and Editing Factual
Associations in GPT", arXiv 2202.05262, section 2).

Three runs of one prompt are compared. In the clean run the model says the object o with P(o). In the corrupted run
Gaussian noise is added to the embeddings of the subject's tokens, and it says o with P*(o). In a restored run the
subject is corrupted too, but one state at one token is put back to what it was in the clean run. How much of P(o)
that brings back is the state's indirect effect.

Noise changes nothing before the subject, and a restored state nothing before its token. So each restored run
computes only the layers above the state and the columns from its token on, over the keys and values that the
corrupted run left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.edit.prefix import PrefixCache
from kbsync.edit.states import StateKind, changed, put, record, state_module
from kbsync.errors import ModelError
from kbsync.facts import digest
from kbsync.lm.batch import Batch, align, by_length
from kbsync.lm.rows import Row

KINDS = tuple(StateKind)
NOISE = 3.0  # the corruption, in standard deviations of the subjects' embeddings (the paper's ν)
ROWS = 256  # corrupted rows that are carried through the model together


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What was found of one fact, as means over the samples of noise.

    `clean` is P(o), `corrupted` P*(o). `effects`: (kinds, tokens, layers) float64, the indirect effect of each
    state (equation 2 of the paper), for the tokens from the subject's first to the prompt's last; `subject_len`
    of them are the subject's.
    """

    clean: float
    corrupted: float
    effects: Tensor
    subject_len: int


@dataclass(frozen=True, slots=True, eq=False)
class _Corrupted:
    """The corrupted run of some rows, each a fact under one sample of noise, seen from one column on.

    `owners`: the fact of each row. `noise`: (R, T, e), what is added to the embeddings. `offset`: the column,
    counted from the subject's first token. `hidden[layer]`: (R, T - column, d). `keys`: each layer's attention
    keys and values of the columns before.
    """

    batch: Batch
    rows: tuple[Row, ...]
    owners: Tensor
    noise: Tensor
    offset: int
    hidden: dict[int, Tensor]
    keys: dict[int, tuple[Tensor, Tensor]]

    def seen_from(self, offset: int) -> _Corrupted:
        """The rows whose prompt reaches that far, from this column on; must be called on the view from 0."""
        kept = [i for i, row in enumerate(self.rows) if offset < traced_tokens(row)]
        at = torch.tensor(kept, device=self.owners.device)
        batch, column = self.batch, self.batch.anchor + offset
        return _Corrupted(
            Batch(batch.ids[at], batch.positions[at], batch.real[at], batch.anchor),
            tuple(self.rows[i] for i in kept),
            self.owners[at],
            self.noise[at],
            offset,
            {layer: hidden[at, offset:] for layer, hidden in self.hidden.items()},
            {layer: (k[at, :, :column], v[at, :, :column]) for layer, (k, v) in self.keys.items()},
        )


Clean = dict[StateKind, dict[int, Tensor]]  # (facts, columns from the subject's first token on, d) by layer


# Families whose traces are those of a plain implementation of the paper; scaled embeddings, a norm behind the MLP,
# or positions that go by columns would need more than putting one state back.
TRACED = frozenset(
    {"gpt2", "gpt_neox", "gptj", "llama", "mistral", "olmo", "qwen2", "qwen3", "smollm3", "stablelm"}
)


class Tracer:
    """Traces facts through one model.

    `samples`: draws of noise per fact. `window`: how many neighbouring layers' MLP (or attention) outputs are
    restored together, around the layer that the effect is counted for; hidden states are restored one by one.
    `scale`: the noise's standard deviation. The same seed gives the same noise for a fact on every device and
    in every batch. Raises ModelError for a family that can't be traced, and where attention can't be found.
    """

    def __init__(
        self, adapter: Adapter, samples: int, window: int, scale: float, seed: int, room: int = ROWS
    ) -> None:
        if adapter.family.name not in TRACED:
            traced = ", ".join(sorted(TRACED))
            raise ModelError(f"{adapter.family.name} models can be edited, but not traced; traced are {traced}")
        self.adapter = adapter
        self.samples, self.window, self.scale, self.seed = samples, window, scale, seed
        self._facts = max(1, room // samples)
        self._embedding = adapter.model.get_input_embeddings()
        self._head = adapter.model.get_output_embeddings()
        layers = range(adapter.n_layers)
        self._modules = {kind: [state_module(adapter, kind, layer) for layer in layers] for kind in KINDS}

    def window_of(self, layer: int) -> range:
        """The layers whose MLP or attention outputs are restored for `layer`: fewer at the model's ends."""
        first = layer - self.window // 2
        return range(max(0, first), min(self.adapter.n_layers, first + self.window))

    @torch.inference_mode()
    def trace(self, rows: Sequence[Row], on_states: Callable[[int], None] | None = None) -> list[Trace]:
        """Trace each row's object; `on_states` is told how many states were restored (`state_count` in all).

        Rows must have an object. What a row's trace is does not depend on the others but in its last bits.
        """
        found: dict[int, Trace] = {}
        for part in by_length([len(row.inputs) for row in rows], self._facts):
            found.update(zip(part, self._trace([rows[i] for i in part], on_states), strict=True))
        return [found[i] for i in range(len(rows))]

    def state_count(self, rows: Sequence[Row]) -> int:
        """How many states `trace` restores, not counting the samples."""
        return len(KINDS) * self.adapter.n_layers * sum(traced_tokens(row) for row in rows)

    def _trace(self, rows: Sequence[Row], on_states: Callable[[int], None] | None) -> list[Trace]:
        device = self.adapter.device
        batch = align([row.inputs for row in rows], [row.subject_first for row in rows], device)
        clean, probability = self._clean(batch, rows)
        whole, corrupted = self._corrupted(batch, rows)
        base = corrupted.view(len(rows), self.samples).mean(1)
        longest = max(traced_tokens(row) for row in rows)
        effects = torch.zeros(len(rows), len(KINDS), longest, self.adapter.n_layers, dtype=torch.float64)
        for offset in range(longest):
            part = whole.seen_from(offset)
            owners = part.owners[:: self.samples].cpu()  # the samples of a fact lie side by side
            for layer in range(self.adapter.n_layers):
                for number, kind in enumerate(KINDS):
                    restored = self._restored(part, clean, kind, layer).view(len(owners), self.samples).mean(1)
                    effects[owners, number, offset, layer] = restored - base[owners]
                if on_states is not None:
                    on_states(len(KINDS) * len(owners))
        return [
            Trace(float(probability[i]), float(base[i]), effects[i, :, : traced_tokens(row)], row.subject_len)
            for i, row in enumerate(rows)
        ]

    def _clean(self, batch: Batch, rows: Sequence[Row]) -> tuple[Clean, Tensor]:
        """Every state of the clean run, and P(o) (facts,)."""
        states: Clean = {kind: {} for kind in KINDS}
        taps = [
            (module, record(states[kind], layer, batch.anchor))
            for kind, modules in self._modules.items()
            for layer, module in enumerate(modules)
        ]
        with changed(taps):
            out = self.adapter.run(batch, (0, batch.ids.shape[1]), (0, self.adapter.n_layers))
        return states, self._probability(out[:, batch.anchor :], rows, 0)

    def _corrupted(self, batch: Batch, rows: Sequence[Row]) -> tuple[_Corrupted, Tensor]:
        """The corrupted run of every fact under every sample of noise, and P*(o) (facts · samples,)."""
        width, device = batch.ids.shape[1], batch.ids.device
        owners = torch.arange(len(rows), device=device).repeat_interleave(self.samples)
        many = Batch(batch.ids[owners], batch.positions[owners], batch.real[owners], batch.anchor)
        noise = torch.zeros(len(owners), width, self._embedding.weight.shape[1])
        for i, row in enumerate(rows):
            drawn = subject_noise(row, self.samples, noise.shape[2], self.scale, self.seed)
            noise[i * self.samples : (i + 1) * self.samples, batch.anchor : batch.anchor + row.subject_len] = drawn
        noise = noise.to(device, self._embedding.weight.dtype)
        hidden: dict[int, Tensor] = {}
        taps = [(m, record(hidden, layer, batch.anchor)) for layer, m in enumerate(self._modules[StateKind.HIDDEN])]
        cache = PrefixCache()
        with changed([*taps, (self._embedding, lambda out: out + noise)]):
            out = self.adapter.run(many, (0, width), (0, self.adapter.n_layers), cache=cache)
        each = tuple(rows[i] for i in owners.tolist())
        found = _Corrupted(many, each, owners, noise, 0, hidden, cache.stored)
        return found, self._probability(out[:, batch.anchor :], each, 0)

    def _restored(self, part: _Corrupted, clean: Clean, kind: StateKind, layer: int, columns: int = 1) -> Tensor:
        """P*(o) (R,) with the first `columns` of these states as they were in the clean run."""
        first, last = part.offset, part.offset + columns
        if kind is StateKind.HIDDEN:
            hidden = put(clean[kind][layer][part.owners, first:last])(part.hidden[layer])
            return self._probability(self._above(part, layer + 1, hidden), part.rows, first)
        layers = self.window_of(layer)
        below = part.hidden[layers[0] - 1] if layers[0] > 0 else None
        patches = [(self._modules[kind][one], put(clean[kind][one][part.owners, first:last])) for one in layers]
        with changed(patches):
            return self._probability(self._above(part, layers[0], below), part.rows, first)

    def _above(self, part: _Corrupted, layer: int, hidden: Tensor | None) -> Tensor:
        """Final hidden states (R, columns, d), from `layer` upwards; None is the corrupted embeddings."""
        first, width = part.batch.anchor + part.offset, part.batch.ids.shape[1]
        cache = PrefixCache()
        cache.stored, cache.frozen = part.keys, True
        with changed([(self._embedding, lambda out: out + part.noise[:, first:])]):
            return self.adapter.run(part.batch, (first, width), (layer, self.adapter.n_layers), hidden, cache)

    def _probability(self, hidden: Tensor, rows: Sequence[Row], offset: int) -> Tensor:
        """P(object) of each row (R,), all of its tokens, float64, from final hidden states (R, columns, d)."""
        owners = [i for i, row in enumerate(rows) for _ in row.targets]
        columns = [row.first_scored - row.subject_first - offset + i for row in rows for i in range(row.target_len)]
        tokens = torch.tensor([token for row in rows for token in row.targets], device=hidden.device)
        logits = self._head(hidden[owners, columns]).float()  # (object tokens, V)
        logp = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        total = torch.zeros(len(rows), dtype=torch.float64)
        return total.index_add_(0, torch.tensor(owners), logp.double().cpu()).exp()


def traced_tokens(row: Row) -> int:
    """How many tokens of a row are traced: from the subject's first to the prompt's last."""
    return len(row.ids) - row.target_len - row.subject_first


def subject_noise(row: Row, samples: int, dim: int, scale: float, seed: int) -> Tensor:
    """The noise on a subject's embeddings, (samples, tokens of the subject, dim), float32.

    Drawn on the CPU from a generator of the row's own, so that neither device nor batch changes it.
    """
    generator = torch.Generator().manual_seed(int(digest([seed, list(row.ids)])[:15], 16))
    return scale * torch.randn(samples, row.subject_len, dim, generator=generator)


@torch.inference_mode()
def embedding_deviation(adapter: Adapter, rows: Sequence[Row]) -> float:
    """σ: the standard deviation of all numbers in the embeddings of the rows' subjects."""
    embedding = adapter.model.get_input_embeddings()
    ids = [token for row in rows for token in row.ids[row.subject_first : row.subject_last + 1]]
    found: Tensor = embedding(torch.tensor(ids, device=adapter.device))
    return float(found.double().std())
