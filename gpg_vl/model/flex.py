"""FlexAttention for packed rows: blocks of tokens that do not see each other are left out of the work.

SDPA reads a mask of S² numbers per row in every layer, and multiplies what the mask then drops.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from gpg_vl.errors import ConfigurationError
from gpg_vl.model.masks import Sight, may_attend

BLOCK = 128
"""Tokens: packed rows are padded to a multiple of it."""


def block_mask(tree: Tensor, sight: Sight | None = None) -> BlockMask:
    """(4, R, S), as in a `PackedBatch`, to the blocks of (R, 1, S, S) that are worked on."""
    _, rows, size = tree.shape
    parts = tree.unbind()

    def may_read(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own, other = ([part[row, place] for part in parts] for place in (query, key))
        return may_attend(own, other, query >= key, sight or Sight())

    return create_block_mask(may_read, rows, None, size, size, device=tree.device, BLOCK_SIZE=BLOCK)


def flex_rows(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float | None) -> Tensor:
    """Attention of packed rows. query: (R, heads, S, D); key, value: (R, KV heads, S, D).

    Returns (R, S, heads, D).
    """
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # rotary embeddings leave fp32, which autocast does not cast here
        query, key, value = (tensor.to(torch.get_autocast_dtype(kind)) for tensor in (query, key, value))
    attend: Any = flex_attention if torch.compiler.is_compiling() else _compiled()
    output: Tensor = attend(query, key, value, block_mask=mask, scale=scaling, enable_gqa=True)
    return output.transpose(1, 2).contiguous()


@cache
def _compiled() -> Callable[..., Any]:
    """One kernel for all layers and shapes."""
    return torch.compile(flex_attention, dynamic=True)


def check_flex(config: Any, device: torch.device) -> None:
    """Raise ConfigurationError where a model of this text configuration cannot be trained with it."""
    if device.type != "cuda":
        raise ConfigurationError(
            f"model.attention 'flex' needs a GPU, not {device.type!r}, where torch has no gradients of it: "
            "set model.attention to sdpa"
        )
    if find_spec("triton") is None:
        raise ConfigurationError(
            "model.attention 'flex' needs the package triton: install it, or set model.attention to sdpa"
        )
    if getattr(config, "attention_dropout", 0.0):
        raise ConfigurationError(
            f"model.attention 'flex' has no dropout, and the model's attention_dropout is "
            f"{config.attention_dropout}: set model.attention to sdpa"
        )
