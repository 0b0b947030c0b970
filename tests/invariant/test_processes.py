"""Two processes with the same global batch make the same update as one: DDP, ZeRO-2, ZeRO-3 (CPU, gloo)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from gpg_vl.data.ingest import write_prepared
from gpg_vl.training.metrics import is_timing
from gpg_vl.training.train import train
from gpg_vl.types import Sample
from tests.invariant.launched import LAUNCHES, finish, start

REWARD = Path(__file__).with_name("letters.py")


@pytest.fixture
def config(tiny_folder: Path, scene_samples, tmp_path: Path) -> TrainConfig:
    """Two steps over images and texts; three questions, so that one process has more of them."""
    texts = [Sample(f"text-{i}", "t", "Is it? " * (i + 1), "(A)", "choice", ("yes", "no")) for i in range(4)]
    write_prepared([*scene_samples[:4], *texts], tmp_path / "data", source="", converter="mixed", version="1")
    return TrainConfig(
        out=str(tmp_path / "one"),
        model=ModelConfig(path=str(tiny_folder), precision="fp32"),
        data=DataConfig(train=[str(tmp_path / "data")]),
        rollout=RolloutConfig(group_size=4, max_new_tokens=12),
        algorithm=AlgorithmConfig(questions_per_step=3, max_rounds=2, min_valid_fraction=1.0),
        rewards={f"{REWARD}:letters": 1.0},
        optim=OptimConfig(learning_rate=1e-2, eps=1e-4),
        run=RunConfig(steps=3, seed=3, threads=1, micro_batch_tokens=120),
    )


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not is_timing(name)} for line in lines]


@pytest.mark.parametrize(
    ("kind", "compiled"),
    [
        *((kind, False) for kind in LAUNCHES),
        *(pytest.param(kind, True, marks=pytest.mark.slow) for kind in ("ddp", "zero3")),
    ],
)
def test_two_processes_update_like_one(config, kind, compiled, tmp_path):
    one = load_file(train(config) / "model.safetensors")
    two = replace(config, out=str(tmp_path / kind), model=replace(config.model, compile=compiled))
    finish(two, start(two, kind))
    checkpoint = tmp_path / kind / "checkpoints" / "step_000003"
    assert (checkpoint / "state" / "deepspeed").is_dir() == (kind != "ddp")
    untrained = load_file(Path(config.model.path) / "model.safetensors")
    trained = load_file(checkpoint / "model" / "model.safetensors")
    assert trained.keys() == one.keys()
    moved = max(float((one[name] - untrained[name]).abs().max()) for name in one)
    assert moved > 1e-2
    tolerance = 1e-4 if compiled else 1e-5  # compiled layers round elsewhere
    for name, weight in one.items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-5, atol=tolerance * moved, msg=name)
    for ours, theirs in zip(metrics(tmp_path / kind), metrics(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_another_layout_of_the_optimizer_is_refused_by_name(config, tmp_path):
    first = replace(config, run=replace(config.run, steps=1))
    train(first)
    started = start(replace(config, run=replace(config.run, steps=2)), "zero2", resume=True)
    assert [process.wait(timeout=300) for process in started] == [
        1,
        1,
    ]
    log = Path(config.out).with_suffix(".0.log").read_text()
    assert "holds the optimizer's state as 'whole', this launch needs 'ZeRO-2 on 2 processes'" in log
