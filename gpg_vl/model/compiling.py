"""`model.compile`: torch.compile for the decoder layers of the gradient pass."""

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from gpg_vl.errors import ConfigurationError


def compile_layers(layers: Iterable[nn.Module], device: torch.device) -> None:
    """Compile each layer's forward where gradients are computed; elsewhere it stays as it is.

    Layer by layer: all share one set of kernels, so the warm-up does not grow with their number, and modules
    and weights keep their names. Raises ConfigurationError where `device` has nothing to compile with.
    """
    _check_compiler(device)
    for layer in layers:
        layer.forward = _compiled_for_gradients(layer.forward)


def _compiled_for_gradients(forward: Callable[..., Any]) -> Callable[..., Any]:
    # Rollouts stay eager: their caches grow by a column per token, and each new shape would be guarded.
    compiled = torch.compile(forward, dynamic=True)

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
