"""What stands between the matrix products of a decoding step: in torch's operators, or as Triton kernels.

The two compute the same but for rounding. A step has few numbers and is read from memory once, so what costs
is how many kernels it takes: `gpg_vl.model.fused` has one for each of these functions (attention: two).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from gpg_vl.model.attention import Attend, CacheView, attend
from gpg_vl.model.memory import AnswerKeys
from gpg_vl.model.rotation import Rotation


def add_norm(
    hidden: Tensor, added: Tensor | None, weight: Tensor, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """`hidden` (N, H) fp32 with `added` (N, H) to it, and the RMS norm of the sum, in `dtype`."""
    if added is not None:
        hidden = hidden + added
    return hidden, rms_norm(hidden, weight.shape, weight, epsilon).to(dtype)


def rotate(heads: Tensor, rotation: Rotation, memory: AnswerKeys, view: CacheView) -> Tensor:
    """Rotate queries and keys of `heads` (N, heads + 2 · KV heads, D), and store keys and values.

    Returns queries (N, heads, D), in the memory's type as what is stored.
    """
    kv_heads = memory.heads
    turned = rotation(heads, memory.buffer.dtype)
    queries, keys_values = turned.split([turned.shape[1] - 2 * kv_heads, 2 * kv_heads], dim=1)
    memory.write(keys_values.unflatten(1, (2, kv_heads)).transpose(0, 1), view.column)
    return queries


def gate_by_silu(gate_up: Tensor) -> Tensor:
    """(N, 2 · F), values behind their gates, to (N, F): silu of the gates, times the values."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate) * up


@dataclass(frozen=True)
class StepKernels:
    """A function for each."""

    attend: Attend = attend
    add_norm: Callable[[Tensor, Tensor | None, Tensor, float, torch.dtype], tuple[Tensor, Tensor]] = add_norm
    rotate: Callable[[Tensor, Rotation, AnswerKeys, CacheView], Tensor] = rotate
    gate_by_silu: Callable[[Tensor], Tensor] = gate_by_silu

    @property
    def finds_columns(self) -> bool:
        """Whether attention finds an answer's columns by itself, so that a view need not hide the others."""
        return self.attend is not attend


PLAIN = StepKernels()
