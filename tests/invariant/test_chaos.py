"""A run of two processes under ZeRO-2, killed at random moments, ends like an undisturbed one."""

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpg_vl.config import TrainConfig
from tests.support.launched import finish, start
from tests.support.training import metrics

STEPS = 12


@pytest.fixture
def config(mixed_training: TrainConfig) -> TrainConfig:
    return mixed_training


def kill_at(config, step: int, delay: float, *, resume: bool) -> None:
    """Start or go on, and kill -9 both processes `delay` seconds after `step` steps were written."""
    started = start(config, "zero2", resume=resume)
    file = Path(config.out, "metrics.jsonl")
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and any(process.poll() is None for process in started):
        if file.is_file() and file.read_text().count("\n") >= step:
            break
        time.sleep(0.02)
    time.sleep(delay)
    for process in started:
        process.kill()
    for process in started:
        process.wait()


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_runs_end_like_undisturbed_ones(config, tmp_path, kills):
    run = replace(config.run, steps=STEPS, save_every=1, keep_last=2)
    calm = replace(config, out=str(tmp_path / "calm"), run=run)
    finish(calm, start(calm, "zero2"))
    disturbed = replace(config, out=str(tmp_path / "disturbed"), run=run)
    moments = random.Random(kills)
    for number in range(kills):
        step = moments.randrange(1 + number * (STEPS - 2) // kills, 2 + (number + 1) * (STEPS - 2) // kills)
        kill_at(disturbed, step, moments.uniform(0, 0.3), resume=number > 0)
    finish(disturbed, start(disturbed, "zero2", resume=True))
    model = Path("checkpoints", f"step_{STEPS:06d}", "model", "model.safetensors")
    expected, ended = load_file(Path(calm.out) / model), load_file(Path(disturbed.out) / model)
    for name, weight in expected.items():
        assert torch.equal(ended[name], weight), name
    assert metrics(Path(disturbed.out)) == metrics(Path(calm.out))
