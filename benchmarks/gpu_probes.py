"""What the card, and torch's attention on it, are like: the first stage of `benchmarks.gpu_session`."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.limits import timed

ROWS = ((1, 12, 553, 128), (4, 12, 2041, 128), (4, 12, 2048, 128), (1, 16, 1936, 80), (1, 16, 36, 80))
"""Rows, heads, tokens and head size of attention: prefill, packed rows of odd and even lengths, images."""


def attention(device: torch.device, *, small: bool) -> Iterator[dict[str, Any]]:
    """Seconds of the first and the second forward and backward at each shape, with and without cuDNN."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    for cudnn in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        for rows, heads, tokens, size in ROWS:
            if small:
                tokens //= 8
            inputs = [
                torch.randn(rows, heads, tokens, size, device=device, dtype=torch.bfloat16) for _ in "qkv"
            ]
            mask = _tree_like(tokens, device) if rows > 1 else None
            work = _attend(inputs, mask)
            first, second = timed(work, device), timed(work, device)
            backend = SDPBackend(torch._fused_sdp_choice(*inputs, attn_mask=mask)).name
            shape = f"{rows}x{heads}x{tokens}x{size}" + (" masked" if mask is not None else "")
            yield {"cudnn": cudnn, "shape": shape, "backend": backend, "first s": first, "second s": second}
    torch.backends.cuda.enable_cudnn_sdp(before)


def _tree_like(tokens: int, device: torch.device) -> Tensor:
    """An additive mask (1, 1, S, S), whose rows are aligned where the length is."""
    mask = torch.zeros(1, 1, tokens, tokens, dtype=torch.bfloat16, device=device)
    return mask.masked_fill_(torch.ones_like(mask, dtype=torch.bool).triu(1), float("-inf"))


def _attend(inputs: list[Tensor], mask: Tensor | None) -> Callable[[], None]:
    query, key, value = (part.requires_grad_() for part in inputs)

    def work() -> None:
        scaled_dot_product_attention(query, key, value, attn_mask=mask).sum().backward()

    return work
