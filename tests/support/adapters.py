"""Adapters that peft wrote, and copies of them that differ in one thing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor


def rewrite(adapter: Path, folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """A copy of an adapter whose weights went through `change`."""
    shutil.copytree(adapter, folder)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(change(weights), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def configured(adapter: Path, folder: Path, **settings: Any) -> Path:
    """A copy of an adapter with other settings of peft's."""
    file = shutil.copytree(adapter, folder) / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def foreign(folder: Path, tiny_folder: Path, **settings: Any) -> tuple[Path, PeftModel]:
    """A LoRA adapter that peft trained and wrote, beside our processor; and peft's own model."""
    return written(
        folder, tiny_folder, LoraConfig(**{"r": 2, "target_modules": ["q_proj", "up_proj"], **settings})
    )


def written(folder: Path, tiny_folder: Path, config: PeftConfig) -> tuple[Path, PeftModel]:
    """An adapter of any kind, with noise in its weights."""
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    theirs = get_peft_model(plain, config)
    with torch.no_grad():
        for number, weight in enumerate(theirs.parameters()):
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) / 8)
    theirs.peft_config["default"].base_model_name_or_path = str(tiny_folder)
    theirs.save_pretrained(folder)
    AutoProcessor.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder, theirs
