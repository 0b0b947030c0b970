"""What the supported versions of transformers call by different names, asked of the library itself."""

import inspect
from typing import Any

_CACHES = ("cache", "past_key_values", "cache_params")
"""Names of a cache: since 5.24; before; before, in layers with states."""


def cache_argument(module: Any) -> str:
    """The keyword under which the forward of a text model, or of a part of it, takes its cache."""
    known = inspect.signature(module.forward).parameters
    return next(name for name in _CACHES if name in known)


def enable_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass instead of keeping them."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
