"""Which weights are trained: all of them, LoRA adapters, or all but a frozen part."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError, ModelError, RunFolderError, UserError
from gpg_vl.model.adapter_files import ADAPTER_CONFIG, base_of, is_adapter, read_adapter, require_peft
from gpg_vl.model.adapters import adapter_settings, add_adapter
from gpg_vl.model.families import family_of
from gpg_vl.model.loading import load_weights, model_hint, read_config, read_processor
from gpg_vl.model.merging import merge_adapter, probe
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.card import CARD, README, merged_readme

_UNSAID = ("rank_pattern", "alpha_pattern")
"""Settings of peft with which layers have another rank or scale than the configuration says."""


def check_adapters(path: str, config: ModelConfig) -> None:
    """Look, before anything is loaded, whether `path` can be trained with adapters as configured.

    `path` is the configured model or a checkpoint that goes on from it. Raises ConfigurationError without
    peft, or where the adapters there are others than configured; ModelError if they cannot be read, or their
    base model is gone.
    """
    if is_adapter(path):
        base_of(path)
        _check_settings(read_adapter(path), config, path)
    elif config.lora_rank:
        require_peft()


def choose_weights(policy: Policy, config: ModelConfig) -> None:
    """Mark the weights that training changes, and add LoRA adapters if asked for.

    Raises ConfigurationError for a part that the model does not have, for adapters that are others than
    configured, or if nothing is left to train.
    """
    if config.freeze_vision and not policy.takes_images:
        raise ConfigurationError(f"model.freeze_vision: a {policy.model_type!r} model has no vision tower")
    if policy.has_adapter:
        _check_settings(adapter_settings(policy.model), config, config.path)
        _check_places(policy, config)
    elif config.lora_rank:
        add_adapter(
            policy.model,
            rank=config.lora_rank,
            alpha=_alpha(config),
            targets=_targets(policy, config),
            base=config.path,
            rslora=config.lora_rslora,
        )
    if config.lora_rank:
        for name, weight in policy.model.named_parameters():
            weight.requires_grad_("lora_" in name)
    if config.freeze_vision:
        policy.vision_tower.requires_grad_(False)
    if config.freeze_language:
        policy.text_model.requires_grad_(False)
        policy.model.lm_head.requires_grad_(False)
    if not any(weight.requires_grad for weight in policy.parameters()):
        raise ConfigurationError("model: every part is frozen; nothing is left to train")


def _targets(policy: Policy, config: ModelConfig) -> str | set[str]:
    """What adapters stand beside: a pattern where nothing is chosen, which holds for other releases of
    transformers too, else names of linear layers. Raises ConfigurationError for patterns that name none."""
    family, model = policy.family, policy.model
    vision = "|".join(family.vision_parts)
    outside = rf"(?!(?:.*\.)?(?:{vision})\.)" if vision else ""
    usual = rf"{outside}(?:.*\.)?{family.lora_targets}"
    if not config.lora_vision and not config.lora_targets:
        return usual
    parts = [policy.text_model, *(family.vision_modules(model) if config.lora_vision else [])]
    text, *towers = [{layer for layer in part.modules() if isinstance(layer, nn.Linear)} for part in parts]
    linear = text.union(*towers)
    names = {  # as they are without adapters
        name.removesuffix(".base_layer"): layer
        for name, layer in model.named_modules()
        if layer in linear and ".lora_" not in name
    }
    if not config.lora_targets:
        return {name for name, layer in names.items() if layer not in text or re.fullmatch(usual, name)}
    found = {
        pattern: {name for name in names if _ends_with(pattern, name)} for pattern in config.lora_targets
    }
    if missing := [pattern for pattern, layers in found.items() if not layers]:
        ends = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
        raise ConfigurationError(
            f"model.lora_targets: {missing[0]!r} is the end of no linear layer's name; there are "
            f"{', '.join(ends)}"
        )
    return set().union(*found.values())


def _ends_with(pattern: str, name: str) -> bool:
    try:
        return re.search(rf"(?:^|\.)(?:{pattern})$", name) is not None
    except re.error as error:
        raise ConfigurationError(f"model.lora_targets: {pattern!r} is no pattern: {error}") from error


def _check_places(policy: Policy, config: ModelConfig) -> None:
    """Raise ConfigurationError for adapters that stand elsewhere than configured, where that is said."""
    if not config.lora_vision and not config.lora_targets:
        return
    adapted = {name for name, layer in policy.model.named_modules() if hasattr(layer, "lora_A")}
    if adapted != {name for name in _targets(policy, config)}:
        raise ConfigurationError(
            f"the adapters in {config.path!r} stand beside other layers than model.lora_vision and "
            "model.lora_targets say: leave both out to go on with them, or make full weights with "
            "`gpg-vl merge`"
        )


def _alpha(config: ModelConfig) -> int:
    return config.lora_alpha or 2 * config.lora_rank


def _check_settings(adapters: Any, config: ModelConfig, path: str) -> None:
    """Raise ConfigurationError unless the adapters of `path` are what the configuration says."""
    if adapters.peft_type != "LORA":
        raise ConfigurationError(f"{path!r} has adapters of another kind than LoRA: merge them first")
    theirs = f"model.lora_rank {adapters.r} and model.lora_alpha {adapters.lora_alpha}"
    cure = f"set {theirs}, or make full weights with `gpg-vl merge`"
    if not config.lora_rank:
        raise ConfigurationError(f"{path!r} is a LoRA checkpoint: {cure}")
    if (adapters.r, adapters.lora_alpha) != (config.lora_rank, _alpha(config)):
        raise ConfigurationError(
            f"model.lora_rank {config.lora_rank} and model.lora_alpha {_alpha(config)} are not those of the "
            f"adapters in {path!r}: {cure}"
        )
    if bool(adapters.use_rslora) != config.lora_rslora:
        theirs = str(bool(adapters.use_rslora)).lower()
        raise ConfigurationError(
            f"the adapters in {path!r} have another scale: set model.lora_rslora {theirs}"
        )
    unsaid = [name for name in _UNSAID if getattr(adapters, name, None)]
    if unsaid:
        raise ConfigurationError(
            f"the adapters in {path!r} have {unsaid[0]}, which no setting says: make full weights with "
            "`gpg-vl merge`"
        )


def merge(checkpoint: str, out: Path) -> None:
    """Write a LoRA checkpoint as a model with full weights, with its processor, `gpg_vl.json` and README.

    `out` appears whole or not at all. Raises ModelError if `checkpoint` holds no adapters, or some that
    cannot be merged; ConfigurationError for an `out` that is taken; RunFolderError if it cannot be written.
    """
    if not is_adapter(checkpoint):
        hint = model_hint(Path(checkpoint))
        raise ModelError(f"{checkpoint!r} is no LoRA checkpoint: it has no {ADAPTER_CONFIG}{hint}")
    if os.path.lexists(out):
        raise ConfigurationError(f"{str(out)!r} exists already; choose another --out")
    if out.resolve().is_relative_to(Path(checkpoint).resolve()):
        raise ConfigurationError(f"{str(out)!r} is inside the checkpoint; choose another --out")
    family = family_of(checkpoint, read_config(checkpoint))
    processor = read_processor(checkpoint, family)
    with _appearing(out) as folder:
        model = load_weights(checkpoint, family)
        try:
            merge_adapter(model, family, probe(processor, family, model.config.get_text_config().vocab_size))
        except ModelError as error:
            raise ModelError(f"{checkpoint!r}: {error}") from error
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        card = Path(checkpoint) / CARD
        if card.is_file():
            shutil.copyfile(card, folder / CARD)
        written = Path(checkpoint) / README
        if written.is_file():
            (folder / README).write_text(merged_readme(written.read_text("utf-8", "replace")), "utf-8")


@contextlib.contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A temporary neighbour that becomes `out` at the end. Raises RunFolderError if it cannot be written."""
    temporary = out.with_name(f".{out.name}.merging")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed merge
        temporary.mkdir(parents=True)
        yield temporary
        os.rename(temporary, out)
    except UserError:
        raise
    except (OSError, SafetensorError) as error:  # a full disk: each library has its own
        raise RunFolderError(f"cannot write {str(out)!r}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
