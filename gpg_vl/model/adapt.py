"""Which weights are trained: all of them, LoRA adapters, or all but a frozen part."""

from pathlib import Path

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.model.adapters import ADAPTER_CONFIG, add_adapter, merge_adapter
from gpg_vl.model.families import family_of
from gpg_vl.model.loading import load_weights, model_hint, read_config, read_processor
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.card import CARD

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
    if not policy.has_adapter:
        add_adapter(
            policy.model,
            rank=config.lora_rank,
            alpha=config.lora_alpha or 2 * config.lora_rank,
            targets=_TARGETS,
            base=config.path,
        )
    for name, weight in policy.model.named_parameters():
        weight.requires_grad_("lora_" in name)
    if not any(weight.requires_grad for weight in policy.parameters()):
        raise ConfigurationError(f"{config.path!r} has adapters of another kind than LoRA: merge them first")


def merge(checkpoint: str, out: Path) -> None:
    """Write a LoRA checkpoint as a model with full weights, with its processor and `gpg_vl.json`.

    Raises ModelError if `checkpoint` holds no adapter.
    """
    if not (Path(checkpoint) / ADAPTER_CONFIG).is_file():
        hint = model_hint(Path(checkpoint))
        raise ModelError(f"{checkpoint!r} is no LoRA checkpoint: it has no {ADAPTER_CONFIG}{hint}")
    if out.exists():
        raise ConfigurationError(f"{str(out)!r} exists already; choose another --out")
    family = family_of(checkpoint, read_config(checkpoint))
    model = load_weights(checkpoint, family)
    merge_adapter(model)
    model.save_pretrained(out)
    read_processor(checkpoint, family).save_pretrained(out)
    card = Path(checkpoint) / CARD
    if card.is_file():
        (out / CARD).write_text(card.read_text())
