"""What only a GPU shows of the optimizers: `make test-gpu`; skipped where there is none."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from gpg_vl.config import OptimConfig
from gpg_vl.runs.states import read_state, write_state
from gpg_vl.training.optim import build_optimizer, restore_moments
from gpg_vl.training.rounding import join

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CHOICES = [("adamw", "stochastic"), ("adamw8bit", "stochastic"), ("adamw8bit", "kahan")]
LARGE = {"exp_avg", "exp_avg_sq", "state1", "state2", "rest"}


def model_of(kind: str) -> nn.Module:
    """32 MiB of weights in fp32; of 8-bit AdamW the matrices are in bf16."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2048, 2048), nn.LayerNorm(2048), nn.Linear(2048, 2048)).cuda()
    for weight in model.parameters():
        if kind == "adamw8bit" and weight.ndim > 1:
            weight.data = weight.data.bfloat16()
    return model


def train(model: nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        generator = torch.Generator("cuda").manual_seed(step)
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator, device="cuda")
            weight.grad = (0.5 * noise - 1).to(weight.dtype)
        optimizer.step()
        optimizer.zero_grad()


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(("kind", "rounding"), CHOICES)
def test_offloaded_moments_change_nothing_and_leave_the_card(kind, rounding, tmp_path):
    """Also when they are saved, and restored in the middle."""
    config = OptimConfig(kind=kind, rounding=rounding, learning_rate=1e-3, weight_decay=0.1)
    offload = replace(config, offload=True)
    plain, moved = model_of(kind), model_of(kind)
    train(plain, build_optimizer(plain, config), range(4))
    before = torch.cuda.memory_allocated()
    optimizer = build_optimizer(moved, offload)
    train(moved, optimizer, range(2))
    state = [state for state in optimizer.state.values() if state["step"] > 0]
    moments = [each[name] for each in state for name in LARGE & each.keys()]
    assert all(moment.is_pinned() for moment in moments)
    assert torch.cuda.memory_allocated() - before < 4 * 2**20  # scales and maps; moments: 16 to 64 MiB
    write_state(tmp_path / "state.pt", optimizer.state_dict())
    again = build_optimizer(moved, offload)
    restore_moments(again, read_state(tmp_path / "state.pt"), kind)
    kept = [each[name] for each in again.state.values() for name in LARGE & each.keys()]
    assert len(kept) == len(moments) and all(moment.is_pinned() for moment in kept)
    train(moved, again, range(2, 4))
    assert same_weights(plain, moved)


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_two_ranks_and_a_resumed_run_round_alike(rounding):
    config = OptimConfig(kind="adamw8bit", rounding=rounding, learning_rate=1e-3)
    models = [model_of("adamw8bit") for _ in range(2)]
    for rank, model in enumerate(models):
        torch.cuda.manual_seed(rank)
        optimizer = build_optimizer(model, config)
        train(model, optimizer, range(2))
        if rank == 1:
            saved, optimizer = optimizer.state_dict(), build_optimizer(model, config)
            restore_moments(optimizer, saved, "adamw8bit")
        train(model, optimizer, range(2, 4))
    assert same_weights(*models)


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_small_steps_move_bf16_weights(rounding):
    """By about the sum of the rates in the mean; with kahan, what has gathered beside them counts too."""
    model = model_of("adamw8bit")
    config = OptimConfig(kind="adamw8bit", rounding=rounding, learning_rate=1e-6)
    before = model[0].weight.detach().double()
    optimizer = build_optimizer(model, config)
    train(model, optimizer, range(200))
    end = model[0].weight.detach()
    if rounding == "kahan":
        end = join(end, optimizer.state[model[0].weight]["rest"])
    assert float((end.double() - before).mean()) == pytest.approx(200e-6, rel=0.15)


def test_8_bit_steps_of_a_card_are_those_of_the_cpu():
    """To rounding: the first steps, since a number beside an edge may go to either side."""
    config = OptimConfig(kind="adamw8bit", rounding="kahan", learning_rate=1e-3)
    card = model_of("adamw8bit")
    host = model_of("adamw8bit").cpu()
    optimizers = [build_optimizer(model, config) for model in (card, host)]
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(card.parameters(), host.parameters(), strict=True):
            other.grad = torch.randn(other.shape, generator=generator).to(other.dtype)
            one.grad = other.grad.cuda()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(card.parameters(), host.parameters(), strict=True):
        gap = (one.detach().cpu().double() - other.detach().double()).abs().mean()
        assert float(gap) < 1e-4  # of three steps of 1e-3
