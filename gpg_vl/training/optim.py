"""AdamW and the learning rate as a pure function of the step."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from gpg_vl.config import OptimConfig
from gpg_vl.errors import CheckpointError
from gpg_vl.training.offload import OffloadedMoments

_FIRST_MOMENT = {"adamw": "exp_avg", "adamw8bit": "state1"}
"""What only the state of that kind has."""
_BLOCK = 256
"""Numbers that share a scale in 8 bits."""
_Form: TypeAlias = tuple[tuple[int, ...], torch.dtype | None]
"""Shape and type of a tensor in a weight's state."""


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW over the trainable weights, or 8-bit AdamW; weight decay on matrices only.

    On a GPU `adamw` is fused: else the step takes as much memory again as the second moments. On a CPU
    `offload` changes nothing: the moments lie in the machine's memory.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    on_gpu = all(weight.device.type == "cuda" for weight in trained)
    settings: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas, "eps": config.eps}
    optimizer: torch.optim.Optimizer
    if config.kind == "adamw":
        optimizer = torch.optim.AdamW(groups, **settings, fused=on_gpu or None)
    else:
        from gpg_vl.training.low_memory_adam import LowMemoryAdam  # imports a package that may be missing

        optimizer = LowMemoryAdam(groups, **settings, rounding=config.rounding)
    if config.offload and on_gpu:
        OffloadedMoments(optimizer)
    return optimizer


def learning_rate(step: int, config: OptimConfig, steps: int) -> float:
    """The rate of step 1..steps: linear warm-up, then constant, cosine or linear to `final_lr_ratio`.

    The first step behind the warm-up has the peak, and one behind the last would have the end, as
    transformers' schedules give it: with a ratio of 0 the last step still trains.
    """
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = (step - 1 - config.warmup_steps) / (steps - config.warmup_steps)  # 0 to below 1
    if config.schedule == "constant":
        share = 1.0
    elif config.schedule == "linear":
        share = 1 - progress
    else:
        share = 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * (config.final_lr_ratio + (1 - config.final_lr_ratio) * share)


def settings_of(optimizer: Any) -> list[dict[str, Any]]:
    """What is set for each parameter group, such as betas and weight decay."""
    return [{name: value for name, value in g.items() if name != "params"} for g in optimizer.param_groups]


def restore_moments(optimizer: Any, saved: dict[str, Any] | None, kind: str) -> None:
    """Take up a saved `state_dict`, but for its settings: those stay as they are configured.

    Raises CheckpointError if it is that of other weights, or of another kind of optimizer than `kind`.
    """
    if saved is None:
        raise CheckpointError("the checkpoint has no optimizer's state")
    try:
        for group, own in zip(saved["param_groups"], settings_of(optimizer), strict=True):
            group.update(own)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for number, moments in saved["state"].items():
            _check_kind(moments, kind)
            for name, form in _forms(moments, weights[number], kind).items():
                _check_moment(moments[name], form, f"{name} of weight {number}")
        optimizer.load_state_dict(saved)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the optimizer's state is that of another model: {error!r}") from error


def _check_kind(moments: Mapping[str, Any], kind: str) -> None:
    """Raise CheckpointError for the state of another optimizer than AdamW of this kind."""
    for other, name in _FIRST_MOMENT.items():
        if name in moments and other != kind:
            raise CheckpointError(
                f"the checkpoint holds the moments of optim.kind {other}, and {kind} has others: go on with "
                f"optim.kind {other}, or start another run from its weights by --model.path"
            )


def _forms(moments: Mapping[str, Any], weight: Tensor, kind: str) -> dict[str, _Form]:
    """The names that a weight's state has, and what stands there."""
    shape = tuple(weight.shape)
    if kind == "adamw":
        return dict.fromkeys(("exp_avg", "exp_avg_sq"), (shape, None))
    forms: dict[str, _Form] = dict.fromkeys(("state1", "state2"), (shape, torch.float32))
    if moments["state1"].dtype == torch.uint8:
        blocks = math.ceil(weight.numel() / _BLOCK)
        forms = dict.fromkeys(("state1", "state2"), (shape, torch.uint8))
        forms |= dict.fromkeys(("absmax1", "absmax2"), ((blocks,), torch.float32))
        forms |= dict.fromkeys(("qmap1", "qmap2"), ((256,), torch.float32))
    return forms | ({"rest": (shape, torch.int16)} if "rest" in moments else {})


def _check_moment(moment: Tensor, form: _Form, name: str) -> None:
    shape, dtype = form
    if tuple(moment.shape) != shape or dtype not in (None, moment.dtype):
        raise ValueError(f"{name} has the shape {list(moment.shape)} and the type {moment.dtype}")
    if not moment.isfinite().all():
        raise CheckpointError(f"the optimizer's state is not finite: {name}")


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
