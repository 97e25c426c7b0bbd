"""The rebuild: base weights + live set → synced weights, in one MEMIT solve and a few rounds of repair.

Nothing is carried over from an earlier synced model. The live set is put in canonical order (by content hash)
before anything is computed, so the weights are a pure function of base model, settings and live set.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.edit.conditioning import Conditioning
from kbsync.edit.contexts import Contexts
from kbsync.edit.covariance import Covariance
from kbsync.edit.keys import SubjectPass, bystander_moments, mean_keys
from kbsync.edit.load import Taken
from kbsync.edit.repair import Repair
from kbsync.edit.target import TargetSolver
from kbsync.edit.update import Update
from kbsync.errors import EditError, NotFinite
from kbsync.facts import EditRequest
from kbsync.lm.finite import is_finite
from kbsync.lm.rows import Encoder, Row

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import EditSettings

_NAMES = 256  # other subjects whose mean key is held at most: enough for a mean


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Edited weights by state-dict name, in the model's own type, and what building them took.

    `misses` counts the requests that greedy decoding still got wrong, at the prompt or where else repair asks,
    after the solve and after each round of repair that was kept; `residual` is the mean of ‖z − h‖/‖z‖ left after
    the solve; `facts` is the live set's size; `seconds` per part; `taken` has what the live keys take of each
    edited layer; `conditioning` has how well the solve of each was posed.
    """

    tensors: Mapping[str, Tensor]
    misses: tuple[int, ...]
    residual: float
    facts: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    taken: Mapping[int, Taken] = field(default_factory=dict)
    conditioning: Mapping[int, Conditioning] = field(default_factory=dict)


class Editor:
    """MEMIT on one loaded model. The model holds the base weights unless a candidate is loaded into it."""

    def __init__(
        self,
        adapter: Adapter,
        encoder: Encoder,
        contexts: Contexts,
        layers: tuple[int, ...],
        covariance: Covariance,
        settings: EditSettings,
    ) -> None:
        self.adapter = adapter
        self.encoder = encoder
        self.contexts = contexts
        self.layers = layers
        self.covariance = covariance
        self.settings = settings
        self.solver = TargetSolver(adapter, encoder, contexts, layers[-1], settings)
        self._base = {layer: adapter.read_weight(layer).clone() for layer in layers}

    def with_settings(self, settings: EditSettings) -> Editor:
        """An editor on the same model with other settings; layers, contexts, C and the precision in which z is
        solved stay what they are."""
        other = copy.copy(self)
        other.settings = settings
        other.solver = self.solver.with_settings(settings)
        return other

    def with_covariance(self, covariance: Covariance) -> Editor:
        """An editor on the same model with another C of the same layers; z don't depend on it."""
        other = copy.copy(self)
        other.covariance = covariance
        return other

    @property
    def target_settings(self) -> dict[str, object]:
        """Everything besides base model and request that a z depends on: what its cache is keyed by."""
        names = ("clamp", "steps", "stop_loss", "kl_weight", "others_weight", "decay")
        return {
            "layer": self.layers[-1],
            "prefixes": list(self.contexts.prefixes),
            "contexts": list(self.contexts.solved),
            "others": self.contexts.others.hash if self.settings.others_weight > 0 else None,
            "dtype": str(self.solver.top.dtype),
            **{name: getattr(self.settings, name) for name in names},
        }

    @property
    def weight_settings(self) -> dict[str, object]:
        """Everything besides base model and live set that the synced weights depend on."""
        return {
            **self.target_settings,
            "layers": list(self.layers),
            "key_contexts": list(self.contexts.keyed),
            "covariance": self.covariance.hash,
            "covariance_tokens": self.covariance.tokens,
            "covariance_weight": self.settings.covariance_weight,
            "covariance_facts": self.settings.covariance_facts,
            "bystander_weight": self.settings.bystander_weight,
            "mean_weight": self.settings.mean_weight,
            "others": self.contexts.others.hash,  # their mean key is in the solve, whatever z makes of them
            "repair_rounds": self.settings.repair_rounds,
            "repair_contexts": list(self.contexts.asked),
            "repair_batch": self.solver.limit.rule,
        }

    def weight_for(self, facts: int) -> float:
        """λ for a live set of this many facts. Beyond `covariance_facts` it grows with them, so that what each may
        do to ordinary text shrinks and the sum of it stays within bounds."""
        most = self.settings.covariance_facts
        grown = max(1.0, facts / most) if isinstance(most, int) else 1.0
        return self.settings.covariance_weight * grown

    def base_weight(self, layer: int) -> Tensor:
        """The base model's weight of an edited layer, (d_out, d_in), whatever the model holds now."""
        return self._base[layer]

    def restore(self) -> None:
        """Put the base weights back."""
        for layer, weight in self._base.items():
            self.adapter.write_weight(layer, weight)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a candidate's weights in, by state-dict name. Raises EditError for a name that is not edited."""
        names = {self.adapter.weight_name(layer): layer for layer in self.layers}
        unknown = sorted(set(tensors) - set(names))
        if unknown:
            raise EditError(f"{unknown[0]} is not one of the edited weights {sorted(names)}")
        self.restore()
        for name, tensor in tensors.items():
            parameter = self.adapter.parameter(names[name])
            with torch.no_grad():
                parameter.copy_(tensor)

    def tensors(self) -> dict[str, Tensor]:
        """The edited layers' weights as they are now, on the CPU."""
        return {
            self.adapter.weight_name(layer): self.adapter.parameter(layer).detach().cpu().clone()
            for layer in self.layers
        }

    def rebuild(
        self,
        requests: Sequence[EditRequest],
        targets: Mapping[str, Tensor],
        on_step: Callable[[str], None] | None = None,
    ) -> Rebuilt:
        """The synced weights for a live set; the model holds them afterwards.

        `targets` maps content hash to z, (d,). Raises EditError when two requests contradict one another, when
        a z is missing; NotFinite when a z or a result is not finite.
        """
        live = sorted(requests, key=lambda request: request.content_hash)
        _refuse_contradictions(live)
        missing = [r for r in live if r.content_hash not in targets]
        if missing:
            raise EditError(f"no z for {missing[0].rewrite.text!r}; it must be solved before the rebuild")
        bad = [r for r in live if not is_finite(targets[r.content_hash])]
        if bad:
            raise NotFinite(f"z of {bad[0].rewrite.text!r} is not finite; it must be solved again")
        self.restore()
        say = on_step or (lambda _: None)
        if not live:
            return Rebuilt(self.tensors(), (), 0.0)
        try:
            return self._build(live, targets, say)
        except torch.OutOfMemoryError:
            self.restore()
            raise EditError(
                f"{self.adapter.device} has no memory for the rebuild of {len(live)} facts; free some, "
                "set a smaller edit.batch_size, or see model.device_map"
            ) from None
        except BaseException:
            self.restore()  # whoever goes on after an error or an interrupt shall not meet half an update
            raise

    def _build(
        self, live: Sequence[EditRequest], targets: Mapping[str, Tensor], say: Callable[[str], None]
    ) -> Rebuilt:
        started = time.perf_counter()
        keyed = [self.contexts.key_rows(self.encoder, request) for request in live]
        say("solve")
        plain = [self.contexts.plain_rows(self.encoder, request) for request in live]
        subject = SubjectPass(self.adapter, keyed, self.layers[0])
        update = Update(self.adapter, self.layers, subject, self._preserved(live, plain))
        residual = update.write({i: targets[r.content_hash] for i, r in enumerate(live)})
        seconds = {"solve": time.perf_counter() - started}
        misses = Repair(self, self.solver, update, live).run(self.settings.repair_rounds, say)
        seconds["repair"] = time.perf_counter() - started - seconds["solve"]
        return Rebuilt(
            self.tensors(), tuple(misses), residual, len(live), seconds, update.taken, update.conditioning
        )

    def _preserved(self, live: Sequence[EditRequest], rows: Sequence[Sequence[Row]]) -> dict[int, Tensor]:
        """λ times C and what other subjects' keys have in common, plus the second moment of the live prompts' other
        tokens, per layer, on the base weights."""
        flat = [row for contexts in rows for row in contexts]
        weight = self.weight_for(len(rows))
        moments = bystander_moments(self.adapter, flat, self.layers)
        preserved = {
            layer: weight * self.covariance.matrices[layer] + self.settings.bystander_weight * moment
            for layer, moment in moments.items()
        }
        if self.settings.mean_weight > 0:
            prompts = self.contexts.others.beside(live, _NAMES)
            named = [self.encoder.plain(prompt) for prompt in prompts]
            for layer, key in (mean_keys(self.adapter, named, self.layers) if named else {}).items():
                preserved[layer].addr_(key, key, alpha=weight * self.settings.mean_weight)
        return preserved


def _refuse_contradictions(live: Sequence[EditRequest]) -> None:
    said: dict[str, str] = {}
    for request in live:
        other = said.setdefault(request.rewrite.text, request.target_new)
        if other != request.target_new:
            raise EditError(
                f"the live set contradicts itself: {request.rewrite.text!r} should end with both "
                f"{other!r} and {request.target_new!r}"
            )
