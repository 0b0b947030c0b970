"""Small training runs: their reward, and what is read of them afterwards."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from gpg_vl.config import TrainConfig
from gpg_vl.training.accelerator import build_accelerator
from gpg_vl.training.metrics import is_timing
from gpg_vl.training.session import Session, build_session

REWARD = Path(__file__).with_name("letters.py")
"""Rewards that an untrained model varies in."""


def session_of(config: TrainConfig) -> Session:
    return build_session(config, build_accelerator(config), None)


def weights(model: Path) -> dict[str, torch.Tensor]:
    """Of a model's folder, or of a LoRA checkpoint's."""
    (file,) = model.glob("*model.safetensors")
    return load_file(file)


def round_to_bf16(folder: Path) -> None:
    """Make a model's weights what bf16 holds, as published ones are."""
    file = folder / "model.safetensors"
    rounded = {name: weight.bfloat16().float() for name, weight in load_file(file).items()}
    save_file(rounded, file, metadata={"format": "pt"})


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def metrics(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not is_timing(name)} for line in lines]
