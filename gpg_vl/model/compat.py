"""What the supported versions of transformers call by different names, asked of the library itself."""

import inspect
from typing import Any


def cache_argument(text_model: Any) -> str:
    """The keyword under which a text model's forward takes its cache of keys and values."""
    known = inspect.signature(text_model.forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def enable_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass instead of keeping them."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
