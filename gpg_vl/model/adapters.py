"""LoRA adapters beside a model's weights: added, read, written and merged by peft itself.

transformers has methods for this too, but each of its releases asks for a peft that may not be out yet.
"""

import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import Module

from gpg_vl.errors import ConfigurationError, ModelError

ADAPTER_CONFIG = "adapter_config.json"
"""What makes a model folder a LoRA checkpoint."""
_WEIGHTS = "adapter_model.safetensors"
_NAME = "default"
_ROOT = "base_model.model."
"""peft's own name for the adapted model, before each weight's name in its files."""
_UNREADABLE = (
    *(OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError),
    *(re.error, struct.error, SafetensorError, UnpicklingError),
)
"""What peft and torch raise for files that are damaged, or another model's."""
_ONE_MATRIX = "these adapters cannot be merged: embedding and head are one matrix"


def _peft() -> ModuleType:
    try:
        import peft  # an extra of the package
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
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

    Raises ModelError unless they are this model's adapters, all of them and nothing else.
    """
    peft = _peft()
    if not any((folder / name).is_file() for name in (_WEIGHTS, "adapter_model.bin")):
        raise ModelError(f"{str(folder)!r} is no LoRA checkpoint: it has {ADAPTER_CONFIG}, but no {_WEIGHTS}")
    try:
        peft.inject_adapter_in_model(peft.PeftConfig.from_pretrained(folder), model, _NAME)
        weights = _under_own_names(peft.load_peft_weights(str(folder), device="cpu"), _weights(model))
        peft.set_peft_model_state_dict(model, weights, adapter_name=_NAME)
    except _UNREADABLE as error:
        raise ModelError(f"{str(folder)!r} is no adapter of its base model: {error}") from error


def _weights(model: Module) -> dict[str, Tensor]:
    """The adapters' tensors, without the adapter's name in theirs."""
    weights = _peft().get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    return dict(weights)


def _under_own_names(stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored weights under the model's names: earlier transformers called what is above the layers otherwise.

    Raises ValueError unless they are the same weights.
    """
    tails = Counter(map(_from_layer, own))
    known = {_from_layer(name): name for name in own if tails[_from_layer(name)] == 1}
    bare = {name.removeprefix(_ROOT): weight for name, weight in stored.items()}
    weights = {
        name if name in own else known.get(_from_layer(name), name): weight for name, weight in bare.items()
    }
    # peft writes the whole embedding beside its adapter
    foreign = {name for name in weights.keys() - own.keys() if ".base_layer." not in name}
    for what, names in (("lacks", own.keys() - weights.keys()), ("also has", foreign)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"it {what} {min(names)}{more}")
    return weights


def _from_layer(name: str) -> str:
    """`layers.3.self_attn.…` of `model.language_model.layers.3.self_attn.…`."""
    numbered = re.search(r"\w+\.\d+\..*", name)
    return numbered.group() if numbered else name


@dataclass(frozen=True)
class LowRank:
    """A plain LoRA adapter: base(x) + scaling · up (down x)."""

    base: nn.Linear
    down: Tensor
    """(rank, in)."""
    up: Tensor
    """(out, rank)."""
    scaling: float


def low_rank(layer: Any) -> LowRank | None:
    """The adapter beside a linear layer; None where there is none, or one that does more than that."""
    if not hasattr(layer, "base_layer"):
        return None
    from peft.tuners.lora.layer import Linear

    if (
        type(layer) is not Linear
        or layer.active_adapters != [_NAME]
        or layer.merged
        or layer.disable_adapters
    ):
        return None
    down, up = layer.lora_A[_NAME], layer.lora_B[_NAME]
    plain = type(layer.base_layer) is nn.Linear and not layer.fan_in_fan_out and up.bias is None
    if not plain or _NAME in getattr(layer, "lora_variant", {}):
        return None
    return LowRank(layer.base_layer, down.weight, up.weight, layer.scaling[_NAME])


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapters alone, in peft's own layout."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"{_ROOT}{name}": weight.detach().contiguous() for name, weight in _weights(model).items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    model.peft_config[_NAME].save_pretrained(folder)


def merge_adapter(model: Any) -> None:
    """Add the adapters to the weights they stand beside, and take them away.

    Raises ModelError if they change only one of embedding and head where these are one matrix.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    tied = model.get_input_embeddings().weight if model.config.get_text_config().tie_word_embeddings else None
    whole: dict[str, Module] = {}
    for name, layer in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in whole):
            continue
        if hasattr(layer, "unload_and_optionally_merge_module"):  # trained beside the adapters
            whole[name] = layer.unload_and_optionally_merge_module(
                merge=True, safe_merge=False, adapter_names=None
            )
        elif isinstance(layer, BaseTunerLayer):
            if layer.get_base_layer().weight is tied:
                raise ModelError(f"{_ONE_MATRIX}, and the adapter on {name} would change both")
            layer.merge()
            whole[name] = layer.get_base_layer()
    for name, layer in whole.items():
        model.set_submodule(name, layer)
    del model.peft_config
    if tied is not None and model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise ModelError(f"{_ONE_MATRIX}, and the checkpoint has a head of its own")
