"""LoRA adapters beside a model's weights: added, read and written by peft itself.

transformers has methods for this too, but each of its releases asks for a peft that may not be out yet.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import Module

from gpg_vl.errors import ModelError
from gpg_vl.model.adapter_files import UNREADABLE, base_of, lasting_name, read_adapter, require_peft

_WEIGHTS = "adapter_model.safetensors"
_NAME = "default"
_ROOT = "base_model.model."
"""peft's own name for the adapted model, before each weight's name in its files."""
_OUTER = ("base_model", "model", "language_model")
"""What stands before the layers in a weight's name; releases of transformers differ in it."""
_EARLIER = ("visual.", "model.layers.", "model.embed_tokens.", "model.norm.")
_BEYOND = ("alora_invocation_tokens", "arrow_config", "layer_replication")
"""Settings with which peft changes more than the layers that it adapts."""
_LAYERS = (nn.Linear, nn.Embedding, nn.Conv3d)
"""What LoRA adapters stand beside in the supported families."""
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def has_adapter(model: Module) -> bool:
    """Whether adapters stand beside the weights."""
    return bool(getattr(model, "peft_config", None))


def adapter_settings(model: Any) -> Any:
    """peft's configuration of the adapters that stand beside the weights."""
    return model.peft_config[_NAME]


def adapter_weights(model: Module) -> dict[str, Tensor]:
    """The adapters' tensors, without the adapter's name in theirs."""
    weights = require_peft().get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    return dict(weights)


def add_adapter(
    model: Module, *, rank: int, alpha: int, targets: str | set[str], base: str, rslora: bool = False
) -> None:
    """Put fresh adapters, which change nothing yet, beside the linear layers that names or a pattern say.

    `base` is the model that they belong to; `rslora`: their scale is alpha / sqrt(rank).
    """
    peft = require_peft()
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,  # the sampler has none, and training must speak of the same distribution
        target_modules=targets,
        use_rslora=rslora,
        base_model_name_or_path=lasting_name(base),
    )
    _inject(config, model)


def _inject(config: Any, model: Module) -> None:
    """Adapters in fp32, whatever their base is held in."""
    require_peft().inject_adapter_in_model(config, model, _NAME)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()


def load_adapter(model: Module, folder: Path) -> None:
    """Put the adapters of a LoRA checkpoint beside the weights of its base model; without dropout.

    Raises ModelError unless they are this model's adapters, all of them and nothing else, in finite numbers.
    """
    peft = require_peft()
    if not any((folder / name).is_file() for name in (_WEIGHTS, "adapter_model.bin")):
        raise ModelError(
            f"{str(folder)!r} is no LoRA checkpoint: it has adapter_config.json, but no {_WEIGHTS}"
        )
    config = read_adapter(folder)
    config.base_model_name_or_path = lasting_name(base_of(str(folder)))
    config.lora_dropout = 0.0  # as in `add_adapter`
    try:
        _check_settings(config)
        stored = _bare(peft.load_peft_weights(str(folder), device="cpu"))
        earlier = _named_earlier(stored, model)
        if earlier or _is_loose(config, model):
            _name_targets(config, model, _earlier if earlier else str)
        _inject(config, model)
        result = peft.set_peft_model_state_dict(model, _under_own_names(stored, model), adapter_name=_NAME)
        if result.unexpected_keys:
            raise ValueError(f"peft did not take {min(result.unexpected_keys)}")
    except UNREADABLE as error:
        raise ModelError(f"{str(folder)!r} is no adapter of its base model: {error}") from error


def _check_settings(config: Any) -> None:
    beyond = [name for name in _BEYOND if getattr(config, name, None)]
    if beyond:
        raise ValueError(f"its {beyond[0]} is not supported")
    alphas = [getattr(config, "lora_alpha", 1), *(getattr(config, "alpha_pattern", None) or {}).values()]
    if not all(math.isfinite(alpha) for alpha in alphas):
        raise ValueError("its lora_alpha is not a finite number")


def _bare(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as a file has them, without peft's own name. Raises ValueError unless all are finite."""
    for name, weight in stored.items():
        if weight.is_floating_point() and weight.dtype not in _DTYPES:
            raise ValueError(f"{name} is of type {weight.dtype}")
        if not weight.isfinite().all():
            raise ValueError(f"{name} has values that are NaN or infinite")
    return {name.removeprefix(_ROOT): weight for name, weight in stored.items()}


def _named_earlier(stored: Mapping[str, Tensor], model: Any) -> bool:
    """Whether weights of a vision-language model have its layers' names before transformers 4.52."""
    return hasattr(model.model, "language_model") and any(name.startswith(_EARLIER) for name in stored)


def _earlier(name: str) -> str:
    """A layer's name before transformers 4.52: the language model was `model` itself, the tower beside it."""
    return re.sub(r"^model\.(?:(?:language_)(model)|(visual))(?=\.|$)", r"\1\2", name)


def _is_loose(config: Any, model: Module) -> bool:
    """Whether a pattern names modules around the layers too, as ms-swift writes it."""
    pattern = getattr(config, "target_modules", None)
    return isinstance(pattern, str) and any(
        re.fullmatch(pattern, name) for name, layer in model.named_modules() if not isinstance(layer, _LAYERS)
    )


def _name_targets(config: Any, model: Module, written: Callable[[str], str]) -> None:
    """Put the full names of the layers in place of patterns, which speak of their names as `written`."""
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    if not getattr(config, "target_modules", None):
        return
    loose = isinstance(config.target_modules, str)
    names = [
        name
        for name, layer in model.named_modules()
        if (isinstance(layer, _LAYERS) or not loose) and check_target_module_exists(config, written(name))
    ]
    for kind in ("rank_pattern", "alpha_pattern"):
        pattern = getattr(config, kind, None) or {}
        keys = {name: get_pattern_key(pattern, written(name)) for name in names}
        if pattern:
            setattr(config, kind, {name: pattern[key] for name, key in keys.items() if key in pattern})
    config.target_modules = set(names)
    for done in ("exclude_modules", "layers_to_transform", "layers_pattern"):
        if hasattr(config, done):
            setattr(config, done, None)


def _under_own_names(stored: Mapping[str, Tensor], model: Module) -> dict[str, Tensor]:
    """Stored weights under the model's names: earlier transformers called what is above the layers otherwise.

    Raises ValueError unless they are the same weights.
    """
    own = adapter_weights(model)
    # peft writes the whole embedding beside its adapter
    beside = {name for name in model.state_dict() if ".base_layer." in name}
    known = {_inner(name): name for name in (*own, *beside)}
    weights = {known.get(_inner(name), name): weight for name, weight in stored.items()}
    foreign = weights.keys() - own.keys() - beside
    for what, names in (("lacks", own.keys() - weights.keys()), ("also has", foreign)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"it {what} {min(names)}{more}")
    if len(weights) < len(stored):
        raise ValueError("it has a weight twice, under names of two releases of transformers")
    for name, weight in own.items():
        if weights[name].is_floating_point() != weight.is_floating_point():
            raise ValueError(f"{name} is of type {weights[name].dtype}")
    return weights


def _inner(name: str) -> str:
    """`layers.3.self_attn.…` of `model.language_model.layers.3.self_attn.…`."""
    parts = name.split(".")
    start = next((place for place, part in enumerate(parts) if part not in _OUTER), 0)
    return ".".join(parts[start:])


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
    weights = {
        f"{_ROOT}{name}": weight.detach().contiguous() for name, weight in adapter_weights(model).items()
    }
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    model.peft_config[_NAME].save_pretrained(folder)
