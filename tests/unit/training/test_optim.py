import math

import pytest
import torch
from torch import nn
from transformers import get_scheduler

from gpg_vl.config import OptimConfig
from gpg_vl.errors import CheckpointError
from gpg_vl.training.optim import build_optimizer, learning_rate, restore_moments, set_learning_rate
from tests.support.fake_cuda import fake_cuda


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        # Peak 8, warm-up over 2 of 6 steps, floor 0.25 · 8 = 2; progress 0, 0.25, 0.5, 0.75 afterwards.
        ("constant", [4, 8, 8, 8, 8, 8]),
        ("linear", [4, 8, 8, 6.5, 5, 3.5]),
        ("cosine", [4, 8, 8, 5 + 3 * math.sqrt(0.5), 5, 5 - 3 * math.sqrt(0.5)]),
    ],
)
def test_schedule(schedule, rates):
    config = OptimConfig(learning_rate=8.0, warmup_steps=2, schedule=schedule, final_lr_ratio=0.25)
    assert [learning_rate(step, config, 6) for step in range(1, 7)] == pytest.approx(rates, rel=1e-12)


def test_schedule_without_warm_up():
    config = OptimConfig(learning_rate=1.0, schedule="linear")
    assert [learning_rate(step, config, 4) for step in range(1, 5)] == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_without_warm_up_the_rates_are_those_of_transformers(schedule):
    config = OptimConfig(learning_rate=1.0, schedule=schedule)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=0, num_training_steps=5)
    for step in range(1, 6):
        assert learning_rate(step, config, 5) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()
    assert learning_rate(5, config, 5) > 0


def test_a_warm_up_longer_than_the_run_never_ends():
    config = OptimConfig(learning_rate=1.0, warmup_steps=10, schedule="cosine")
    assert [learning_rate(step, config, 4) for step in (1, 4)] == [0.1, 0.4]


def test_weight_decay_is_on_matrices_only():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    model[0].weight.data.fill_(1.0)
    model[0].bias.data.fill_(1.0)
    optimizer = build_optimizer(model, OptimConfig(learning_rate=0.5, weight_decay=0.2))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(model[0].weight, torch.full((2, 3), 0.9))  # 1 - 0.5 · 0.2
    assert torch.equal(model[0].bias, torch.ones(2))
    assert torch.equal(model[1].weight, torch.ones(2))


def test_frozen_weights_are_left_out():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    config = OptimConfig(learning_rate=0.5, betas=(0.8, 0.98), eps=1e-6)
    optimizer = build_optimizer(model, config)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model[1].parameters()}
    assert {(g["lr"], g["betas"], g["eps"]) for g in optimizer.param_groups} == {(0.5, (0.8, 0.98), 1e-6)}
    set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


def test_a_gpu_steps_all_weights_in_place():
    """One kernel for a group of weights: no operator that makes a tensor."""
    with fake_cuda() as kernels:
        model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)).to("cuda")
        optimizer = build_optimizer(model, OptimConfig())
        for _ in range(2):  # the first makes the moments
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            kernels.reset()
            optimizer.step()
    assert kernels.launched == {"_fused_adamw_": 2, "_foreach_add_": 2}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(7), "exp_avg_sq of weight 0 has the shape \\[7\\]"),
        (torch.full((2, 3), math.inf), "not finite: exp_avg_sq"),
    ],
)
def test_second_moments_of_other_weights_or_that_overflowed_are_refused(value, message):
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, OptimConfig())
    model.weight.grad, model.bias.grad = torch.ones(2, 3), torch.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg_sq"] = value
    with pytest.raises(CheckpointError, match=message):
        restore_moments(optimizer, saved, "adamw")
