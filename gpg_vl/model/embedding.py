"""Token embeddings in fp32, whatever type their weights are held in: the residual stream begins with them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding


def embedded(module: Any, tokens: Tensor) -> Tensor:
    """(…,) token ids to (…, H), at least fp32; a scale that the module has is not rounded to its weights'."""
    scale = getattr(module, "embed_scale", None)  # Gemma's
    if scale is None or module.weight.dtype == torch.float32:
        found = module(tokens)
        return found.to(torch.promote_types(found.dtype, torch.float32))
    return embedding(tokens, module.weight, module.padding_idx).float() * scale.float()
