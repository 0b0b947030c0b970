"""Which weights are trained: all of them, LoRA adapters, or all but a frozen part."""

import warnings
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.policy import CARD, Policy, model_hint

_TARGETS = r"(?:.*\.)?layers\.\d+\.(?:self_attn|mlp)\.\w+_proj"
"""The linear layers of the language model: of a vision tower they are called blocks."""


def choose_weights(policy: Policy, config: ModelConfig) -> None:
    """Mark the weights that training changes, and add LoRA adapters if asked for.

    Raises ConfigurationError for a part that the model does not have, or if nothing is left to train.
    """
    if config.freeze_vision and not policy.takes_images:
        raise ConfigurationError(f"model.freeze_vision: a {policy.family!r} model has no vision tower")
    if config.lora_rank:
        _add_lora(policy, config)
        return
    if policy.has_adapter:
        raise ConfigurationError(
            "model.path is a LoRA checkpoint: set model.lora_rank, or make full weights with `gpg-vl merge`"
        )
    if config.freeze_vision:
        policy.vision_tower.requires_grad_(False)
    if config.freeze_language:
        policy.text_model.requires_grad_(False)
        policy.model.lm_head.requires_grad_(False)
    if not any(weight.requires_grad for weight in policy.parameters()):
        raise ConfigurationError("model: every part is frozen; nothing is left to train")


def _add_lora(policy: Policy, config: ModelConfig) -> None:
    from peft import LoraConfig  # an extra of the package

    if not policy.has_adapter:
        adapter = LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha or 2 * config.lora_rank,
            lora_dropout=0.0,  # the sampler has none, and training must speak of the same distribution
            target_modules=_TARGETS,
            base_model_name_or_path=config.path,
        )
        policy.model.add_adapter(adapter)
    for name, weight in policy.model.named_parameters():
        weight.requires_grad_("lora_" in name)


def merge(checkpoint: str, out: Path) -> None:
    """Write a LoRA checkpoint as a model with full weights, with its processor and `gpg_vl.json`.

    Raises ModelError if `checkpoint` holds no adapter.
    """
    from peft import PeftConfig, PeftModel

    if not (Path(checkpoint) / "adapter_config.json").is_file():
        hint = model_hint(Path(checkpoint))
        raise ModelError(f"{checkpoint!r} is no LoRA checkpoint: it has no adapter_config.json{hint}")
    if out.exists():
        raise ConfigurationError(f"{str(out)!r} exists already; choose another --out")
    base = PeftConfig.from_pretrained(checkpoint).base_model_name_or_path
    images = (Path(checkpoint) / "processor_config.json").is_file()
    kind, reader = (
        (AutoModelForImageTextToText, AutoProcessor) if images else (AutoModelForCausalLM, AutoTokenizer)
    )
    model = kind.from_pretrained(base, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for an attribute that transformers renamed
        merged = PeftModel.from_pretrained(model, checkpoint).merge_and_unload()
    merged.save_pretrained(out)
    reader.from_pretrained(checkpoint).save_pretrained(out)
    card = Path(checkpoint) / CARD
    if card.is_file():
        (out / CARD).write_text(card.read_text())
