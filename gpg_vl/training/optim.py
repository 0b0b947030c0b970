"""AdamW and the learning rate as a pure function of the step."""

import math
from typing import Any

import torch
from torch import nn

from gpg_vl.config import OptimConfig
from gpg_vl.errors import CheckpointError


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the trainable weights; weight decay on matrices only.

    On a GPU fused: else the step takes as much memory again as the second moments.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(weight.device.type == "cuda" for weight in trained)
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=fused or None
    )


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


def restore_moments(optimizer: Any, saved: dict[str, Any] | None) -> None:
    """Take up a saved `state_dict`, but for its settings: those stay as they are configured.

    Raises CheckpointError if it is that of other weights.
    """
    if saved is None:
        raise CheckpointError("the checkpoint has no optimizer's state")
    try:
        for group, own in zip(saved["param_groups"], settings_of(optimizer), strict=True):
            group.update(own)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for number, moments in saved["state"].items():
            for name in ("exp_avg", "exp_avg_sq"):
                if moments[name].shape != weights[number].shape:
                    raise ValueError(f"weight {number} has the shape {list(moments[name].shape)}")
                if not moments[name].isfinite().all():
                    raise CheckpointError(f"the optimizer's state is not finite: {name} of weight {number}")
        optimizer.load_state_dict(saved)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the optimizer's state is that of another model: {error!r}") from error


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
