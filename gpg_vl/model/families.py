"""The model families that packed rows and shared prompt caches reproduce exactly.

Exactly means: log-probabilities, gradients and greedy answers equal those of transformers' own forward on
each answer alone (tests/invariant/test_families.py holds every family to it).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpg_vl.errors import ModelError


@dataclass(frozen=True)
class Family:
    """What differs between supported families."""

    vision: bool
    """Whether it takes images, and M-RoPE positions (3, R, S) instead of plain ones (R, S)."""


FAMILIES: Mapping[str, Family] = {
    "qwen2_vl": Family(vision=True),
    "qwen2_5_vl": Family(vision=True),
    "qwen2": Family(vision=False),  # Qwen2.5 too
    "qwen3": Family(vision=False),
    "llama": Family(vision=False),
}
"""By `model_type` of a config.json."""

_FIXED_ROPE = ("default", "linear", "llama3", "yarn", "mrope")
"""Rotary embeddings whose angles depend on the position alone. `dynamic` and `longrope` look at the length
of the sequence too, which in a packed row is not that of the answer."""


def family_of(path: str, config: Any) -> Family:
    """The family of a model's configuration.

    Raises ModelError, naming the family, if packing does not support it exactly.
    """
    if config.model_type not in FAMILIES:
        raise ModelError(f"{path!r} is a {config.model_type!r} model; supported: {', '.join(FAMILIES)}")
    text = config.get_text_config()
    sliding = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    if sliding:
        raise ModelError(
            f"{path!r} is a {config.model_type!r} model with {', '.join(sorted(sliding))} layers, which "
            "packed rows do not support: their window would count other answers' tokens; "
            "use_sliding_window: false in its config.json switches them off"
        )
    rope = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in _FIXED_ROPE:
        raise ModelError(
            f"{path!r} has {rope!r} rotary embeddings, whose angles depend on the length of the row; "
            f"packed rows support {', '.join(_FIXED_ROPE)}"
        )
    return FAMILIES[config.model_type]
