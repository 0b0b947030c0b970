"""8-bit AdamW on weights in fp32 and bf16."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit, GlobalOptimManager
from torch import Tensor, nn

from gpg_vl.config import OptimConfig
from gpg_vl.errors import CheckpointError
from gpg_vl.runs.states import read_state, write_state
from gpg_vl.training.optim import build_optimizer, restore_moments
from gpg_vl.training.rounding import join

ROUNDINGS = ("stochastic", "kahan")


def small(precision: torch.dtype = torch.float32) -> nn.Module:
    """Matrices of 6,144 and 64 numbers, one of them in 8 bits, and weights with one dimension in fp32."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 64), nn.LayerNorm(64), nn.Linear(64, 1))
    for weight in model.parameters():
        weight.data = weight.data.to(precision if weight.ndim > 1 else torch.float32)
    return model


def train(model: nn.Module, optimizer: Any, steps: range) -> None:
    """Gradients that depend on the step alone."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator).to(weight.dtype)
        optimizer.step()
        optimizer.zero_grad()


def bits(model: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def movement(weights: Tensor, build: Callable[[list[Any]], Any], steps: int = 200) -> float:
    """How far weights go up in the mean when their gradients lead there, mostly; with what is kept beside."""
    weight = nn.Parameter(weights.clone())
    optimizer = build([weight])
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        noise = torch.randn(weights.shape, generator=generator)
        weight.grad = (0.5 * noise - 1).to(weight.dtype)
        optimizer.step()
    rest = optimizer.state[weight].get("rest")
    end = weight.detach() if rest is None else join(weight.detach(), rest)
    return float((end.double() - weights.double()).mean())


def test_small_steps_move_bf16_weights_as_they_move_fp32_ones():
    """At a rate of 1e-6, a thousandth of the distance between most of these weights and the next in bf16."""
    weights = (0.5 * torch.randn(512, 256, generator=torch.Generator().manual_seed(0))).bfloat16()

    def ours(rounding: str) -> Callable[[list[Any]], Any]:
        config = OptimConfig(learning_rate=1e-6, kind="adamw8bit", rounding=rounding)
        return lambda parameters: build_optimizer(nn.ParameterList(parameters), config)

    wide = movement(weights.float(), ours("kahan"))
    assert wide == pytest.approx(200e-6, rel=0.15)
    assert movement(weights, ours("stochastic")) == pytest.approx(wide, rel=0.05)
    assert movement(weights, ours("kahan")) == pytest.approx(wide, rel=1e-3)  # its gradients are in bf16
    plain = movement(weights, lambda parameters: AdamW8bit(parameters, lr=1e-6, weight_decay=0.0))
    assert abs(plain) < 0.05 * wide


def test_kahan_keeps_fp32_weights_bit_for_bit():
    """The rest is all that bf16 leaves out, so the next step starts where fp32 weights stand."""
    config = OptimConfig(learning_rate=1e-6, kind="adamw8bit", rounding="kahan", weight_decay=0.1)
    held, wide = small(torch.bfloat16), small(torch.bfloat16).float()
    optimizers = [build_optimizer(model, config) for model in (held, wide)]
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(held.parameters(), wide.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator).to(one.dtype)
            other.grad = one.grad.float()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(held.parameters(), wide.parameters(), strict=True):
        state = optimizers[0].state[one]
        assert ("rest" in state) == (one.ndim > 1)
        assert torch.equal(one.detach(), other.detach().to(one.dtype))
        assert torch.equal(state["state1"], optimizers[1].state[other]["state1"])


def test_it_follows_adamw_on_a_regression():
    """The first loss is 1.3; the last ones agree within a few percent."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(512, 96, generator=generator)
    targets = (inputs[:, :8].sin().sum(1, keepdim=True) / 2).detach()
    losses: dict[tuple[str, torch.dtype], list[float]] = {}
    for kind, precision in (
        ("adamw", torch.float32),
        ("adamw8bit", torch.float32),
        ("adamw8bit", torch.bfloat16),
    ):
        model = small(precision)
        optimizer = build_optimizer(model, OptimConfig(kind=kind, learning_rate=1e-3))
        found = losses[kind, precision] = []
        for _ in range(150):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                loss = nn.functional.mse_loss(model(inputs).float(), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item())
    first, *others = losses.values()
    assert first[-1] < 0.1 * first[0]
    for other in others:
        assert other[-1] == pytest.approx(first[-1], abs=0.02 * first[0])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_resumed_equals_uninterrupted(precision, rounding, tmp_path):
    config = OptimConfig(kind="adamw8bit", rounding=rounding, learning_rate=1e-3, weight_decay=0.1)
    whole = small(precision)
    train(whole, build_optimizer(whole, config), range(6))
    first = small(precision)
    optimizer = build_optimizer(first, config)
    train(first, optimizer, range(3))
    write_state(tmp_path / "state.pt", optimizer.state_dict())
    second = small(precision)
    second.load_state_dict(first.state_dict())
    again = build_optimizer(second, config)
    torch.manual_seed(99)  # the global generator has no part in it
    restore_moments(again, read_state(tmp_path / "state.pt"), "adamw8bit")
    train(second, again, range(3, 6))
    assert equal(bits(whole), bits(second))
    kept = [state.get("rest") for state in again.state.values()]
    kinds = {rest.dtype for rest in kept if rest is not None}
    assert kinds == ({torch.int16} if rounding == "kahan" and precision == torch.bfloat16 else set())


def test_a_branch_may_round_otherwise():
    """What kahan had kept goes into the next step of stochastic rounding, and not into those behind it."""
    model = small(torch.bfloat16)
    config = OptimConfig(kind="adamw8bit", rounding="kahan", learning_rate=1e-4)
    optimizer = build_optimizer(model, config)
    train(model, optimizer, range(2))
    other = build_optimizer(model, OptimConfig(kind="adamw8bit", learning_rate=1e-4))
    restore_moments(other, optimizer.state_dict(), "adamw8bit")
    assert any("rest" in state for state in other.state.values())
    train(model, other, range(2, 3))
    assert not any("rest" in state for state in other.state.values())


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_ranks_round_alike_and_weights_unlike(rounding):
    """Whatever their global generators have drawn."""
    config = OptimConfig(kind="adamw8bit", rounding=rounding, learning_rate=1e-3)
    ranks = []
    for rank in range(2):
        model = small(torch.bfloat16)
        torch.manual_seed(rank)
        train(model, build_optimizer(model, config), range(3))
        ranks.append(bits(model))
    assert equal(*ranks)
    twins = nn.ParameterList([nn.Parameter(torch.ones(80, 80, dtype=torch.bfloat16)) for _ in range(2)])
    optimizer = build_optimizer(twins, config)
    for weight in twins:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert torch.equal(twins[0], twins[1]) == (rounding == "kahan")


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_weights_stay_where_they_lie_and_keep_their_hooks(rounding):
    """CUDA graphs read their memory, and DDP hangs on their gradient accumulators."""
    model = small(torch.bfloat16)
    model[0].weight = nn.Parameter(model[0].weight.data.t().contiguous().t())  # not contiguous
    places = [(weight.data_ptr(), weight.dtype, weight.stride()) for weight in model.parameters()]
    accumulators = [torch.autograd.graph.get_gradient_edge(weight).node for weight in model.parameters()]
    optimizer = build_optimizer(model, OptimConfig(kind="adamw8bit", rounding=rounding))
    train(model, optimizer, range(2))
    assert [(weight.data_ptr(), weight.dtype, weight.stride()) for weight in model.parameters()] == places
    after = [torch.autograd.graph.get_gradient_edge(weight).node for weight in model.parameters()]
    assert all(one is other for one, other in zip(accumulators, after, strict=True))
    assert set(optimizer.state) == set(model.parameters())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_transposed_weight_is_stepped_as_the_same_weight_in_order(precision):
    models = [small(precision) for _ in range(2)]
    models[1][0].weight = nn.Parameter(models[1][0].weight.data.t().contiguous().t())
    for model in models:
        config = OptimConfig(kind="adamw8bit", learning_rate=1e-2, weight_decay=0.1)
        optimizer = build_optimizer(model, config)
        train(model, optimizer, range(3))
        assert all(state["state1"].is_contiguous() for state in optimizer.state.values())
    assert equal(bits(models[0]), bits(models[1]))


def test_weight_decay_is_on_matrices_only_and_moments_are_in_8_bits():
    model = small()
    optimizer = build_optimizer(model, OptimConfig(kind="adamw8bit", learning_rate=0.5, weight_decay=0.2))
    before = bits(model)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for weight, old in zip(model.parameters(), before, strict=True):
        assert torch.allclose(weight, 0.9 * old if weight.ndim > 1 else old)  # 1 - 0.5 · 0.2
        kind = torch.uint8 if weight.numel() >= 4096 else torch.float32
        assert optimizer.state[weight]["state1"].dtype == kind


def test_what_other_code_tells_bitsandbytes_is_not_followed():
    model = small()
    manager = GlobalOptimManager.get_instance()
    try:
        manager.override_config(model[0].weight, "optim_bits", 32)
        optimizer = build_optimizer(model, OptimConfig(kind="adamw8bit"))
        train(model, optimizer, range(1))
    finally:
        manager.initialize()
    assert optimizer.state[model[0].weight]["state1"].dtype == torch.uint8


def change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda moments: moments.update({name: value})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("state1", torch.zeros(3, 3, dtype=torch.uint8)), "state1 of weight 0 has the shape"),
        (change("state2", torch.zeros(64, 96)), "state2 of weight 0 has the shape .* type torch.float32"),
        (change("absmax1", torch.zeros(3)), r"absmax1 of weight 0 has the shape \[3\]"),
        (change("absmax2", torch.full((24,), torch.inf)), "not finite: absmax2 of weight 0"),
        (change("qmap1", torch.zeros(255)), r"qmap1 of weight 0 has the shape \[255\]"),
        (change("rest", torch.zeros(64, 96)), "rest of weight 0"),
        (lambda moments: moments.pop("absmax1"), "that of another model: KeyError"),
    ],
)
def test_moments_that_are_damaged_or_of_other_weights_are_refused(damage, message):
    """A short scale or map, a GPU would read past its end."""
    model = small(torch.bfloat16)
    config = OptimConfig(kind="adamw8bit", rounding="kahan")
    optimizer = build_optimizer(model, config)
    train(model, optimizer, range(1))
    saved = optimizer.state_dict()
    damage(saved["state"][0])
    with pytest.raises(CheckpointError, match=message):
        restore_moments(build_optimizer(model, config), saved, "adamw8bit")


@pytest.mark.parametrize(("before", "now"), [("adamw", "adamw8bit"), ("adamw8bit", "adamw")])
def test_moments_of_another_kind_are_refused_by_name(before, now):
    model = small()
    optimizer = build_optimizer(model, OptimConfig(kind=before))
    train(model, optimizer, range(1))
    message = rf"moments of optim\.kind {before}, and {now} has others: go on with optim\.kind {before}, or"
    with pytest.raises(CheckpointError, match=message):
        restore_moments(build_optimizer(model, OptimConfig(kind=now)), optimizer.state_dict(), now)


def test_bitsandbytes_is_imported_for_it_alone_and_says_nothing():
    code = """
import sys
from gpg_vl.cli.quiet import quiet_libraries
quiet_libraries()
from torch import nn
from gpg_vl.config import OptimConfig
from gpg_vl.training.optim import build_optimizer
build_optimizer(nn.Linear(2, 2), OptimConfig())
print("bitsandbytes" in sys.modules)
build_optimizer(nn.Linear(2, 2), OptimConfig(kind="adamw8bit"))
print("bitsandbytes" in sys.modules)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert (done.stdout, done.stderr) == ("False\nTrue\n", "")
