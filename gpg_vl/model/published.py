"""The weights of now as a checkpoint on the hub has them, for engines that hold a copy of the model."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from gpg_vl.errors import ModelError
from gpg_vl.model.holding import is_packed, unpacked
from gpg_vl.model.merging import ONE_MATRIX, adapted_layers, merged, tied_weight
from gpg_vl.model.policy import Policy

Gathered = Callable[[Sequence[nn.Parameter]], AbstractContextManager[Any]]
"""A context in which parameters are whole that processes share."""
Part = list[tuple[str, nn.Module]]
"""Modules, behind what stands before their weights' names: a dot is its end."""


def published(
    policy: Policy, gathered: Gathered = nullcontext, dtype: torch.dtype | None = None
) -> Iterator[list[tuple[str, Tensor]]]:
    """The policy's weights of now, named and shaped as a checkpoint on the hub has them, a few at a time.

    A part is one layer, the embedding, the head (one that is the embedding, too), or what is left beside
    them. Its tensors are contiguous, on the policy's device, and valid until the next part is asked for.
    Adapters are merged as `gpg-vl merge` does it, in fp32; 4-bit weights are unpacked. `dtype` is what
    they are cast to; None leaves them as they are held.

    Weights are read inside `gathered` alone, and all processes that share them have to take all parts.
    Raises ModelError for adapters that cannot be merged.
    """
    adapted = set(adapted_layers(policy.model).values())
    if tied_weight(policy.model) is not None and policy.model.get_input_embeddings() in adapted:
        raise ModelError(f"{ONE_MATRIX}, and the adapter on the embedding would change both")
    for part in _parts(policy.model, adapted):
        with gathered([weight for _, layer in part for _, weight in _weights(layer, adapted)]):
            yield _read(policy, part, adapted, dtype)


def _parts(model: Any, adapted: Collection[nn.Module]) -> Iterable[Part]:
    """Modules with weights of their own, adapted ones with all that is in them."""
    alone = {model.get_input_embeddings(), model.get_output_embeddings()}
    parts: defaultdict[str, Part] = defaultdict(list)

    def visit(layer: nn.Module, prefix: str, part: str) -> None:
        if any(_weights(layer, adapted)):
            parts[part].append((prefix, layer))
        for name, child in layer.named_children() if layer not in adapted else ():
            inner = f"{prefix}{name}."
            begins = isinstance(layer, nn.ModuleList) or child in alone
            visit(child, inner, part or (inner if begins else ""))

    visit(model, "", "")
    return parts.values()


def _weights(layer: nn.Module, adapted: Collection[nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    return layer.named_parameters(recurse=layer in adapted)


@torch.no_grad()
def _read(
    policy: Policy, part: Part, adapted: Collection[nn.Module], dtype: torch.dtype | None
) -> list[tuple[str, Tensor]]:
    """A part's weights, once they are whole."""
    found: dict[str, Tensor] = {}
    for prefix, layer in part:
        bare = merged(prefix[:-1], _copied(layer)) if layer in adapted else layer
        for name, weight in bare.named_parameters(recurse=layer in adapted):
            tensor = unpacked(weight)
            found[prefix + name] = tensor.to(policy.device, dtype or tensor.dtype)
    stored = revert_weight_conversion(policy.model, found)
    return [(name, _oriented(policy, name, tensor).contiguous()) for name, tensor in stored.items()]


def _oriented(policy: Policy, name: str, tensor: Tensor) -> Tensor:
    """Stacks of experts as the hub has them: transformers reads both orders, vLLM that one alone."""
    turned = policy.family.transposed_experts and ".experts." in name and tensor.ndim == 3
    return tensor.transpose(1, 2) if turned else tensor


def _copied(layer: Any) -> Any:
    """A module that can be merged while the layer stays: its weights are copies in fp32, or wider.

    No module's own way of being copied is used: it would follow the hooks that training has put there.
    """
    from peft.tuners.lora.layer import Linear

    copy = object.__new__(type(layer))
    copy.__dict__ = {
        name: value.copy() if isinstance(value, list) else value for name, value in vars(layer).items()
    } | {
        "_parameters": {name: _wide(weight) for name, weight in layer._parameters.items()},
        "_modules": {name: _copied(child) for name, child in layer.named_children()},
    }
    if hasattr(layer, "base_layer") and is_packed(getattr(layer.base_layer, "weight", None)):
        copy.__class__ = Linear  # its own class would pack the sum again
    return copy


def _wide(weight: nn.Parameter | None) -> nn.Parameter | None:
    if weight is None:  # a bias that is not there
        return None
    numbers = unpacked(weight)
    kind = torch.promote_types(numbers.dtype, torch.float32)
    return nn.Parameter(numbers.to(kind, copy=True), requires_grad=False)
