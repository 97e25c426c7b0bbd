"""Where a model's weights are: on one device, spread over several, or kept in memory or on disk until they run.

accelerate puts a hook around each part of a model that is spread out: it moves inputs to the part's device and, for
a part that is offloaded, brings its weights there for one forward pass. Outside of it such a weight is an empty
shell on the device `meta`. Here is how kbsync gets at the real one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_HOOKED = ("forward", "_hf_hook", "_old_forward", "to", "cuda")  # what accelerate leaves on a hooked module


class _Held(dict[str, Tensor]):
    """An offloaded module's own weights in memory, which its forward passes read from now on."""


def is_offloaded(model: Any) -> bool:
    """Whether some weights are brought to their device only while they run."""
    return any(parameter.is_meta for parameter in model.parameters())


def main_device(model: Any) -> torch.device:
    """Where a model's inputs go: the device of its vocabulary projection, or that of its embeddings when the model
    is spread over several."""
    spread = getattr(model, "hf_device_map", None)
    module: Any = model.get_input_embeddings() if spread else model.get_output_embeddings()
    if not module.weight.is_meta:
        return module.weight.device  # type: ignore[no-any-return]
    return torch.device(module._hf_hook.execution_device)


def bare(module: nn.Module) -> Any:
    """A shallow copy that shares all parts and weights, and whose parts can be exchanged.

    A hook on the original is left out: it would run the original's parts instead of the copy's.
    """
    view = copy.copy(module)
    for name in _HOOKED:
        view.__dict__.pop(name, None)
    view._modules = dict(module._modules)
    return view


def beside(module: nn.Module, tensor: Tensor) -> Tensor:
    """`tensor` where the module's weights are; an offloaded module fetches them by itself to where it is."""
    weight = next(module.parameters())
    return tensor if weight.is_meta else tensor.to(weight.device)


@torch.no_grad()
def real_weight(module: nn.Module) -> Tensor:
    """A module's `weight` to read and to write in place; forward passes see what is written.

    The weights of an offloaded module are taken into memory first, so that nothing is written to the files they
    come from.
    """
    weight = module.weight
    assert isinstance(weight, Tensor)
    if not weight.is_meta:
        return weight
    hook: Any = module._hf_hook
    if not isinstance(hook.weights_map, _Held):
        names = [name for name, _ in module.named_parameters(recurse=False)]
        hook.weights_map = _Held({name: hook.weights_map[name].detach().to("cpu", copy=True) for name in names})
    held: Tensor = hook.weights_map["weight"]
    return held


def real_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by name with its numbers, one part of the model at a time where they are offloaded."""
    for path, module in model.named_modules(remove_duplicate=False):
        hook: Any = getattr(module, "_hf_hook", None)
        for name, parameter in module.named_parameters(recurse=False):
            tensor = hook.weights_map[name] if parameter.is_meta else parameter
            yield f"{path}.{name}" if path else name, tensor


class Again(nn.Module):
    """A layer that is run a second time for its gradient instead of keeping its weights for it.

    Autograd holds on to every weight that a gradient passes through. For offloaded layers that would bring all of
    them to the device at once.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        """What a model asks its layers for besides running them."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's output."""
        if not torch.is_grad_enabled():
            return self.layer(*args, **kwargs)
        return checkpoint(self.layer, *args, use_reentrant=False, **kwargs)
