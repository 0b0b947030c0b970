"""Moments that lie elsewhere between steps: on a CPU the movement, on CUDA without a card where they are."""

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from gpg_vl.config import OptimConfig
from gpg_vl.training.offload import OffloadedMoments
from gpg_vl.training.optim import build_optimizer, restore_moments
from tests.support.fake_cuda import fake_cuda

KINDS = ("adamw", "adamw8bit")


def model_of() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 64), nn.Linear(64, 1))
    model[0].weight.data = model[0].weight.data.bfloat16()
    return model


def spoil(moment: Tensor) -> None:
    moment.fill_(255 if moment.dtype == torch.uint8 else 1e4)


class Mover:
    """Two memories that are both the CPU's: whatever stays behind in the wrong one is spoilt."""

    def __init__(self) -> None:
        self.moved: list[str] = []
        self.buffers: list[Tensor] = []

    def to_host(self, moment: Tensor, buffer: Tensor | None) -> Tensor:
        self.moved.append("host")
        if buffer is None:
            self.buffers.append(torch.empty_like(moment))
        target = self.buffers[-1] if buffer is None else buffer
        target.copy_(moment)
        spoil(moment)
        return target

    def to_device(self, moment: Tensor, device: torch.device) -> Tensor:
        self.moved.append(str(device))
        found = moment.clone()
        spoil(moment)
        return found


def train(model: nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator).to(weight.dtype)
        optimizer.step()
        optimizer.zero_grad()


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_moments_come_before_a_step_and_go_behind_it(kind, wrapped):
    """The weights are those of an optimizer that keeps them, also when it is wrapped, saved and restored."""
    config = OptimConfig(kind=kind, rounding="kahan", learning_rate=1e-2)
    plain, moved = model_of(), model_of()
    train(plain, build_optimizer(plain, config), range(4))

    def offloaded(mover: Mover) -> Any:
        optimizer = build_optimizer(moved, config)
        OffloadedMoments(optimizer, mover.to_host, mover.to_device)
        return Accelerator(cpu=True).prepare(optimizer) if wrapped else optimizer

    first, second = Mover(), Mover()
    optimizer = offloaded(first)
    assert isinstance(optimizer, AcceleratedOptimizer) == wrapped
    train(moved, optimizer, range(2))
    each = 9 if kind == "adamw8bit" else 8  # two for each of four weights, and one weight's rest
    assert first.moved == ["host"] * each + ["cpu"] * each + ["host"] * each
    again = offloaded(second)
    restore_moments(again, optimizer.state_dict(), kind)
    assert second.moved == ["host"] * each  # restored moments do not stay on the device
    train(moved, again, range(2, 4))
    assert same_weights(plain, moved)
    assert len(second.buffers) == each  # made once
    held = {id(value) for state in again.state.values() for value in state.values()}
    assert {id(buffer) for buffer in second.buffers} <= held


def test_a_step_that_fails_leaves_moments_for_the_next(monkeypatch):
    config = OptimConfig(learning_rate=1e-2)
    plain, moved = model_of(), model_of()
    train(plain, build_optimizer(plain, config), range(2))
    optimizer, mover = build_optimizer(moved, config), Mover()
    OffloadedMoments(optimizer, mover.to_host, mover.to_device)
    train(moved, optimizer, range(1))

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = optimizer.register_step_pre_hook(full)  # behind the one that brings them
    with pytest.raises(torch.OutOfMemoryError):
        train(moved, optimizer, range(1, 2))
    hook.remove()
    train(moved, optimizer, range(1, 2))
    assert same_weights(plain, moved)


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_cpu_it_changes_nothing(kind):
    models = [model_of(), model_of()]
    for model, offload in zip(models, (False, True), strict=True):
        optimizer = build_optimizer(model, OptimConfig(kind=kind, offload=offload, learning_rate=1e-2))
        train(model, optimizer, range(2))
        assert not optimizer._optimizer_step_pre_hooks
    assert same_weights(*models)


@pytest.mark.parametrize("offload", [False, True])
def test_on_a_gpu_moments_lie_in_the_machines_memory(offload):
    with fake_cuda() as kernels:
        model = nn.Linear(96, 64).to("cuda")
        optimizer = build_optimizer(model, OptimConfig(offload=offload))
        places = []
        optimizer.register_step_pre_hook(lambda *_: places.append(place(optimizer)))
        for _ in range(2):
            for weight in model.parameters():
                weight.grad = torch.zeros_like(weight)
            kernels.reset()
            optimizer.step()
            places.append(place(optimizer))
    resting = {"cpu"} if offload else {"cuda"}
    assert places == [set(), resting, {"cuda"}, resting]
    assert kernels.launched["_fused_adamw_"] == 2


def place(optimizer: Any) -> set[str]:
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    return {moment.device.type for moment in moments}
