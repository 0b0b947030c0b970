"""What a device can do, and copies to it that the machine does not wait for."""

import contextlib
import os
import shutil
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`: a GPU reads pinned memory, and this returns at once."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def on_device(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Within, kernels, streams and events are this GPU's, whichever is the current one outside."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@cache
def multiplies_bf16(device: torch.device) -> bool:
    """Whether it is an NVIDIA GPU with products of bf16 numbers, whose sums torch can return in fp32."""
    if device.type != "cuda" or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def runs_triton(device: torch.device) -> bool:
    """Whether Triton kernels of ours run there: it builds their launcher with a C compiler."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return multiplies_bf16(device) and find_spec("triton") is not None and compiler is not None
