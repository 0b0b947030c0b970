"""`model.compile`: torch.compile for the vision tower's layers, and the text model's in gradient passes."""

import functools
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from gpg_vl.errors import ConfigurationError


def compile_layers(text_model: nn.Module, vision: nn.Module, device: torch.device) -> None:
    """Compile the forward of each layer of both; of the text model's, where gradients are computed.

    Layer by layer: all of a kind share one set of kernels, so the warm-up does not grow with their number,
    and modules and weights keep their names. Raises ConfigurationError where `device` has nothing to compile
    with.
    """
    _check_compiler(device)
    for layer in _layers(vision):
        layer.forward = _compiled(layer.forward)
    for layer in _layers(text_model):
        layer.forward = _compiled_for_gradients(layer.forward)


def _layers(part: nn.Module) -> list[nn.Module]:
    """The repeated layers of a part, which transformers marks as those that gradient checkpointing wraps."""
    return [module for module in part.modules() if isinstance(module, GradientCheckpointingLayer)]


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(forward, dynamic=True)  # prompts, answers and images have any number of tokens


def _compiled_for_gradients(forward: Callable[..., Any]) -> Callable[..., Any]:
    # Rollouts stay eager: their caches grow by a column per token, and each new shape would be guarded.
    compiled = _compiled(forward)

    @functools.wraps(forward)
    def either(*args: Any, **kwargs: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else forward)(*args, **kwargs)

    return either


def _check_compiler(device: torch.device) -> None:
    """Raise where torch.compile would fail in the middle of the first step."""
    if device.type == "cpu":
        name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
        if shutil.which(name) is None:
            raise ConfigurationError(
                f"model.compile needs a C++ compiler on a CPU, and there is no {name!r}: install one, "
                "name it in the variable CXX, or set model.compile to false"
            )
    elif find_spec("triton") is None:
        raise ConfigurationError(
            f"model.compile needs the package triton on {device.type!r}: install it, or set model.compile to "
            "false"
        )
