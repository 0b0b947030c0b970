"""Linear layers for a few tokens at a time: as few products as their weights allow."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gpg_vl.model.adapters import low_rank


class Projection:
    """Linear layers of the same input as one: (N, in) to (N, sum of their outputs).

    Weights of another type than `dtype` are copied, and the copies joined; others are used where they are.
    Plain LoRA adapters are two more products for all layers together; layers of any other kind run as they
    are.
    """

    def __init__(self, layers: Sequence[Any], dtype: torch.dtype) -> None:
        adapters = [low_rank(layer) for layer in layers]
        bases: list[Any] = [
            layer if one is None else one.base for layer, one in zip(layers, adapters, strict=True)
        ]
        self._dtype = dtype
        self.plain = all(type(base) is nn.Linear for base in bases)
        """Whether it is products of matrices alone."""
        self._modules = layers
        if not self.plain:
            return
        if len(bases) > 1 and any(base.weight.dtype != dtype for base in bases):
            self._parts = [_joined(bases, dtype)]
        else:
            self._parts = [_alone(base, dtype) for base in bases]
        self._down, self._up = _low_rank_of(adapters, [base.out_features for base in bases], dtype)

    def __call__(self, inputs: Tensor) -> Tensor:
        if not self.plain:
            with autocast(inputs.device, self._dtype):
                return torch.cat([layer(inputs) for layer in self._modules], dim=-1).to(self._dtype)
        outputs = [linear(inputs, weight, bias) for weight, bias in self._parts]
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        if self._down is not None and self._up is not None:
            output.add_(inputs @ self._down @ self._up)  # rounded apart, as training does
        return output


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Arithmetic of this type for modules whose own weights may be of any."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def _alone(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, without a copy where they have the type."""
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)
    return layer.weight.detach().to(dtype), bias


def _joined(layers: Sequence[nn.Linear], dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight (sum of outputs, in) and bias of all layers, copied layer by layer."""
    sizes, weight = [layer.out_features for layer in layers], layers[0].weight
    whole = weight.new_empty((sum(sizes), weight.shape[1]), dtype=dtype)
    biased = any(layer.bias is not None for layer in layers)
    bias = weight.new_zeros(sum(sizes), dtype=dtype) if biased else None
    for end, size, layer in zip(accumulate(sizes), sizes, layers, strict=True):
        rows = slice(end - size, end)
        whole[rows] = layer.weight.detach()
        if bias is not None and layer.bias is not None:
            bias[rows] = layer.bias.detach()
    return whole, bias


def _low_rank_of(
    adapters: Sequence[Any], sizes: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """(in, sum of ranks) and (sum of ranks, sum of outputs): every adapter writes its own layer's outputs."""
    found = [one for one in adapters if one is not None]
    if not found:
        return None, None
    down = torch.cat([one.down.detach() for one in found]).t().to(dtype)
    up = down.new_zeros(down.shape[1], sum(sizes))
    row = column = 0
    for one, size in zip(adapters, sizes, strict=True):
        if one is not None:
            rank = len(one.down)
            up[row : row + rank, column : column + size] = one.scaling * one.up.detach().t()
            row += rank
        column += size
    return down, up
