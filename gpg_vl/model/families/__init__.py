"""Families of models: an adapter each, found by a model's `model_type` in the group `gpg_vl.families`."""

from typing import Any

from gpg_vl.errors import ModelError
from gpg_vl.model.families.family import Family
from gpg_vl.registry import Registry

_OF_IMAGES = ("features", "vision_sizes")
"""What an adapter with a reader has to answer."""

families: Registry[Family] = Registry("model family", "gpg_vl.families", Family)


def family_of(path: str, config: Any) -> Family:
    """The adapter of a model's configuration.

    Raises ModelError, naming the family, if there is none, or one that does not reproduce the model exactly.
    """
    known = families.announced()
    if config.model_type not in known:
        raise ModelError(f"{path!r} is a {config.model_type!r} model; supported: {', '.join(sorted(known))}")
    family = families.get(config.model_type)
    lacking = [name for name in _OF_IMAGES if getattr(type(family), name) is getattr(Family, name)]
    if family.takes_images and lacking:
        raise ModelError(
            f"the adapter {type(family).__name__} of {config.model_type!r} lacks {', '.join(lacking)}"
        )
    family.check(path, config)
    return family
