"""What types weights are held in, and classes of models that are loaded straight into them.

Autocast copies a matrix of another type for every product. One that is held in the arithmetic's own type has
half of the memory and no copy, and the products are the same numbers. So frozen matrices are; norms and other
small weights stay in fp32, as autocast reads them.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.model.families.family import Family
from gpg_vl.weights_config import ModelConfig

_CAST = (nn.Linear, nn.Conv2d, nn.Conv3d)
"""Layers whose weights autocast copies."""

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight in 4 bits: every 64 share a scale of one byte, and 256 scales one of four."""


@dataclass(frozen=True)
class Holding:
    """Types of a model's matrices, by whether they are trained."""

    frozen: torch.dtype = torch.float32
    trained: torch.dtype = torch.float32
    trains_vision: bool = True
    trains_language: bool = True
    four_bit: bool = False
    """Whether the language model's linear layers are quantised to NF4."""

    @classmethod
    def of(cls, config: ModelConfig, *, bf16: bool) -> "Holding":
        """As configured, where the arithmetic is `bf16` or not.

        Raises ConfigurationError for matrices in less than the arithmetic's type.
        """
        for name in ("frozen_precision", "trained_precision"):
            if not bf16 and (kind := getattr(config, name)) not in ("auto", "fp32"):
                raise ConfigurationError(
                    f"model.{name} {kind} needs bf16 arithmetic, which a CPU has by model.precision bf16"
                )
        whole = not config.lora_rank  # else the weights are a base, and adapters are trained
        return cls(
            frozen=torch.bfloat16 if bf16 and config.frozen_precision != "fp32" else torch.float32,
            trained=torch.bfloat16 if config.trained_precision == "bf16" else torch.float32,
            trains_vision=whole and not config.freeze_vision,
            trains_language=whole and not config.freeze_language,
            four_bit=config.frozen_precision == "nf4",
        )

    @classmethod
    def untrained(cls, *, bf16: bool) -> "Holding":
        """For a model that only answers."""
        kind = torch.bfloat16 if bf16 else torch.float32
        return cls(frozen=kind, trains_vision=False, trains_language=False)

    @property
    def plain(self) -> bool:
        """Whether all weights are in fp32."""
        return {self.frozen, self.trained} == {torch.float32}

    def apply(self, model: Any, family: Family) -> None:
        """Give a model's matrices their types; the embedding stays."""
        embedding = family.text_model(model).embed_tokens.weight
        for weight, trained in _matrices(model, family, self):
            kind = self.trained if trained else self.frozen
            if weight is not embedding and (weight.ndim > 1 or not trained):
                weight.data = weight.data.to(kind)

    def apply_to_embedding(self, model: Any, family: Family) -> None:
        """Give the embedding its type; a head that is the same matrix has it too.

        No arithmetic rounds what is looked up: a frozen one stays in fp32 if bf16 does not hold its numbers.
        """
        weight = family.text_model(model).embed_tokens.weight
        rounded = weight.data.to(self.trained if self.trains_language else self.frozen)
        if self.trains_language or weight.is_meta or (rounded == weight.data).all():
            weight.data = rounded

    def loaded_as(self, kind: type, family: Family) -> type:
        """A subclass of transformers' class whose new models have these types, which loading keeps to."""
        holding = self

        class Held(kind):
            def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
                super().__init__(config, *arguments, **options)
                holding.apply(self, family)

        Held.__name__, Held.__qualname__, Held.__module__ = kind.__name__, kind.__qualname__, kind.__module__
        return Held


def _matrices(model: Any, family: Family, holding: Holding) -> Iterator[tuple[nn.Parameter, bool]]:
    """Weights that arithmetic in bf16 would copy, with whether they are trained."""
    tower = {layer for part in family.vision_modules(model) for layer in part.modules()}
    for name, layer in model.named_modules():
        if isinstance(layer, _CAST) or name.endswith(".experts"):
            trained = holding.trains_vision if layer in tower else holding.trains_language
            yield from ((weight, trained) for weight in layer.parameters(recurse=False))


def four_bit_options(model: Any, family: Family) -> dict[str, Any]:
    """What transformers loads a 4-bit base with: NF4 with quantised scales, as in QLoRA (arXiv 2305.14314).

    Raises ModelError for a model whose layers bitsandbytes does not know.
    """
    from transformers import BitsAndBytesConfig

    if family.recurrent or any(name.endswith(".experts") for name, _ in model.named_modules()):
        raise ModelError(
            f"model.frozen_precision nf4: a {model.config.model_type!r} model has experts or states, which "
            "are no linear layers to quantise; take bf16"
        )
    kept = {*family.vision_modules(model), model.get_output_embeddings()}
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=[name for name, layer in model.named_modules() if layer in kept],
    )
    return {"quantization_config": quantisation}


def keep_trainable(model: nn.Module) -> None:
    """Let 4-bit weights be read with gradients, and unpacked in the arithmetic's type.

    For some CPUs bitsandbytes repacks them in the first pass without gradients, and no pass with gradients
    reads them behind that. They were read in fp32, which it would unpack them to.
    """
    layers: Iterator[Any] = model.modules()
    for layer in layers:
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
            layer.weight.quant_state.dtype = layer.compute_dtype


def four_bit_weights(text_model: Any) -> Iterator[Tensor]:
    """The frozen weights of a language model's linear layers, its adapters' left out."""
    for layer in text_model.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.requires_grad:
            yield layer.weight


def is_packed(weight: Tensor | None) -> bool:
    """Whether bitsandbytes quantised it."""
    return getattr(weight, "quant_state", None) is not None


def unpacked(weight: Tensor) -> Tensor:
    """A weight's numbers without its gradient; a quantised one's in the arithmetic's type."""
    if not is_packed(weight):
        return weight.detach()
    from bitsandbytes.functional import dequantize_4bit

    numbers: Tensor = dequantize_4bit(weight.data, weight.quant_state)  # type: ignore[attr-defined]
    return numbers


def full_shape(weight: Tensor) -> tuple[int, ...]:
    """A weight's shape, also of one that ZeRO-3 spread or bitsandbytes packed."""
    if is_packed(weight):
        return tuple(weight.quant_state.shape)  # type: ignore[attr-defined]
    return tuple(getattr(weight, "ds_shape", weight.shape))


def numbers(weight: Tensor) -> int:
    """How many numbers a weight has."""
    return math.prod(full_shape(weight))


def save_model(model: Any, folder: Path) -> None:
    """Write a model as transformers does, which notes the type of its first weight as that of all.

    `from_pretrained` reads weights in the type noted: here one that holds all of them.
    """
    model.save_pretrained(folder)
    kind = torch.bfloat16
    for weight in model.parameters():
        kind = torch.promote_types(kind, weight.dtype)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["dtype"] = str(kind).removeprefix("torch.")
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
