"""A mixture of experts in the arithmetic's type: torch's grouped products do not follow autocast.

With fp32 weights they would be fp32 products in the middle of bf16 arithmetic, which a GPU has no kernel for.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

EXPERTS_NAME = "gpg_vl_autocast"
"""Registered with transformers for experts' products."""


class _Cast:
    """A module of experts whose weights are read in another type."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return value.to(self._dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def autocast_experts(module: Any, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Experts function in transformers' interface: its grouped products, in autocast's type where that is on.

    hidden: (tokens, H); chosen, weights: (tokens, experts that each goes through). Returns (tokens, H).
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        module = _Cast(module, torch.get_autocast_dtype(kind))
    outputs: Tensor = grouped_mm_experts_forward(module, hidden, chosen, weights)
    return outputs


ALL_EXPERTS_FUNCTIONS.register(EXPERTS_NAME, autocast_experts)
