"""Which token of a packed row may read which, as attention takes it."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

MASK_ALIGNMENT = 16
"""Elements; of SDPA's memory-efficient kernel."""


@dataclass(frozen=True)
class Sight:
    """What the tokens of a kind of layer see of their own text."""

    window: int | None = None
    """The nearest tokens that one reads, itself included; None for all before it."""
    bidirectional_images: bool = False
    """Whether the tokens of an image read each other in both directions."""

    def is_causal(self, tokens: int, *, images: bool) -> bool:
        """Whether rows of so many tokens, with `images` or without, are read as plainly causal."""
        return (self.window is None or tokens <= self.window) and not (self.bidirectional_images and images)


def may_attend(query: Iterable[Tensor], key: Iterable[Tensor], earlier: Tensor, sight: Sight) -> Tensor:
    """Whether tokens may read others.

    query, key: the four things that `PackedBatch.tree` says of them, and `earlier`, whether the key stands at
    or before the query in its row; of shapes that broadcast. A token reads the prompt of its segment and its
    own branch. Padding reads padding only: a row that reads nothing would be NaN.
    """
    segment, branch, position, image = query
    read_segment, read_branch, read_position, read_image = key
    own = segment == read_segment
    seen = earlier & ((branch == read_branch) | (read_branch == 0))
    if sight.bidirectional_images:
        seen = seen | ((image == read_image) & (image >= 0))
    if sight.window is not None:
        seen = seen & (position - read_position < sight.window)
    return own & seen


def additive_mask(tree: Tensor, dtype: torch.dtype, sight: Sight | None = None) -> Tensor:
    """(4, R, S) to the mask (R, 1, S, S) as attention adds it to its scores, made where `tree` is.

    SDPA would make one of a bool mask in each layer, and keep it; so it would of one whose rows are not a
    multiple of 16 elements apart.
    """
    _, count, size = tree.shape
    places = torch.arange(size, device=tree.device)
    earlier = places[:, None] >= places
    allowed = may_attend(tree[..., None], tree[:, :, None], earlier, sight or Sight())
    apart = -(-size // MASK_ALIGNMENT) * MASK_ALIGNMENT
    mask = torch.full((count, 1, size, apart), float("-inf"), dtype=dtype, device=tree.device)[..., :size]
    return mask.masked_fill_(allowed[:, None], 0.0)
