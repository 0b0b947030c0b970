"""LoRA adapters beside a model's weights: added, read, written and merged by peft itself.

transformers has methods for this too, but each of its releases asks for a peft that may not be out yet.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Module

from gpg_vl.errors import ConfigurationError, ModelError

CONFIG = "adapter_config.json"
"""What makes a model folder a LoRA checkpoint."""
_WEIGHTS = "adapter_model.safetensors"
_NAME = "default"
_ROOT = "base_model.model."
"""peft's own name for the adapted model, before each weight's name in its files."""


def _peft() -> ModuleType:
    try:
        import peft  # an extra of the package
    except ModuleNotFoundError as error:
        raise ConfigurationError("LoRA needs the package peft: pip install 'gpg-vl[lora]'") from error
    return peft


def has_adapter(model: Module) -> bool:
    """Whether adapters stand beside the weights."""
    return bool(getattr(model, "peft_config", None))


def add_adapter(model: Module, *, rank: int, alpha: int, targets: str, base: str) -> None:
    """Put fresh adapters, which change nothing yet, beside the linear layers that a pattern names.

    `base` is what the adapters' file will name as the model they belong to.
    """
    peft = _peft()
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,  # the sampler has none, and training must speak of the same distribution
        target_modules=targets,
        base_model_name_or_path=base,
    )
    peft.inject_adapter_in_model(config, model, _NAME)


def load_adapter(model: Module, folder: Path) -> None:
    """Put the adapters of a LoRA checkpoint beside the weights of its base model.

    Raises ModelError if they are not this model's, all of them.
    """
    peft = _peft()
    try:
        peft.inject_adapter_in_model(peft.PeftConfig.from_pretrained(folder), model, _NAME)
        weights = _under_own_names(peft.load_peft_weights(str(folder), device="cpu"), _weights(model))
        peft.set_peft_model_state_dict(model, weights, adapter_name=_NAME)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{str(folder)!r} is no adapter of its base model: {error}") from error


def _weights(model: Module) -> dict[str, Tensor]:
    """The adapters' own, by names without the adapter's."""
    weights = _peft().get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    return dict(weights)


def _under_own_names(stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored weights under the model's names: earlier transformers called what is above the layers otherwise.

    Raises ValueError unless they are the same weights.
    """
    known = {_from_layer(name): name for name in own}
    bare = {name.removeprefix(_ROOT): weight for name, weight in stored.items()}
    weights = {known.get(_from_layer(name), name): weight for name, weight in bare.items()}
    for what, names in (("lacks", own.keys() - weights.keys()), ("also has", weights.keys() - own.keys())):
        if names:
            raise ValueError(f"it {what} {len(names)} weights, such as {min(names)}")
    return weights


def _from_layer(name: str) -> str:
    """`layers.3.self_attn.…` of `model.language_model.layers.3.self_attn.…`."""
    numbered = re.search(r"\w+\.\d+\..*", name)
    return numbered.group() if numbered else name


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapters alone, in peft's own layout."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"{_ROOT}{name}": weight.detach().contiguous() for name, weight in _weights(model).items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    model.peft_config[_NAME].save_pretrained(folder)


def merge_adapter(model: Any) -> None:
    """Add the adapters to the weights they stand beside, and take them away."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    del model.peft_config
