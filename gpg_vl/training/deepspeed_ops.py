"""What DeepSpeed compiles on a user's machine: left out where training does without, else announced."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gpg_vl.runtime import deepspeed_settings
from gpg_vl.runtime.progress import waiting

_SHARED_MEMORY = "deepspeed_shm_comm"
"""Collectives of inference on a CPU, which DeepSpeed compiles whenever it starts there."""
_CPU_ADAM = "cpu_adam"
"""AdamW for moments that are offloaded."""


def leave_out_unneeded() -> None:
    """Keep DeepSpeed from compiling, for a launch on a CPU, what training never calls."""
    if deepspeed_settings.asked_for() and not torch.cuda.is_available():
        from deepspeed import ops  # an import of seconds

        ops.__compatible_ops__[_SHARED_MEMORY] = False


@contextlib.contextmanager
def announced(accelerator: Accelerator) -> Iterator[None]:
    """Around what sets up the optimizer: the first process says so where DeepSpeed compiles its own."""
    if not (accelerator.is_main_process and _compiles(accelerator)):
        yield
        return
    with waiting(
        "DeepSpeed compiles its AdamW for offloaded moments, once on this machine: one to ten minutes. It "
        f"waits for ever at a lock that a killed process left: {_built_below()}/**/{_CPU_ADAM}/lock"
    ):
        yield


def _compiles(accelerator: Accelerator) -> bool:
    plugin = accelerator.state.deepspeed_plugin
    if plugin is None or not _offloads(plugin.deepspeed_config):
        return False
    from deepspeed.git_version_info import installed_ops

    built = _built_below().glob(f"**/{_CPU_ADAM}/{_CPU_ADAM}.so")
    return not installed_ops.get(_CPU_ADAM) and not any(built)


def _offloads(settings: dict[str, Any]) -> bool:
    """Whether DeepSpeed's own AdamW takes the place of torch's."""
    device = (settings["zero_optimization"].get("offload_optimizer") or {}).get("device") or "none"
    forced: bool = settings.get("zero_force_ds_cpu_optimizer", True)
    return device != "none" and forced


def _built_below() -> Path:
    """Where torch keeps what it compiles; its own module that says so imports setuptools, and warns."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or f"{cache}/torch_extensions").expanduser()
