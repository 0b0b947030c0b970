"""What a dispatched operation multiplies with a matrix, for tests that count."""

from collections.abc import Sequence
from typing import Any

import torch

_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)


def multiplied_rows(func: Any, args: Sequence[Any], vocabulary: int, hidden: int) -> int:
    """Rows that an operation multiplies with a (vocabulary, hidden) matrix, or makes its gradient of."""
    if func.overloadpacket not in _PRODUCTS:
        return 0
    left, right = args[-2:]
    if vocabulary not in (*left.shape, *right.shape):
        return 0
    return int(left.shape[0] * left.shape[1] * right.shape[1] // (vocabulary * hidden))
