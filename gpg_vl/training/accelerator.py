"""The processes of a launch, joined; the launcher says how work is spread, our options what is computed."""

import os
import sys
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import is_initialized
from accelerate.utils import DeepSpeedPlugin, GradientAccumulationPlugin, InitProcessGroupKwargs
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.runtime import deepspeed_settings
from gpg_vl.runtime.launched import place
from gpg_vl.runtime.parallel import World, joining
from gpg_vl.training.deepspeed_ops import leave_out_unneeded
from gpg_vl.training.surroundings import check_launch, check_packages

_COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Processes wait for the one with the longest answers or the slowest reward."""


def build_accelerator(config: TrainConfig | SftConfig) -> Accelerator:
    """The launch's processes, devices and, where the launcher asks for it, DeepSpeed.

    Returns once all processes are there. Raises ConfigurationError for packages and launches that the user
    can mend.
    """
    check_packages(config)
    check_launch(config)
    clip = config.optim.max_grad_norm
    leave_out_unneeded()
    with joining():
        accelerator = Accelerator(
            mixed_precision="no",  # the policy does its own autocast
            dynamo_backend="no",  # model.compile decides
            # The launcher's number would divide the gradient: we cut by tokens ourselves
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            deepspeed_plugin=_deepspeed(clip),
            log_with=list(config.run.trackers) or None,
            project_dir=config.out,
            **_process_options(),
        )
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        _settle(plugin.deepspeed_config, clip)
        # Else from_pretrained would shard while it loads, and transformers 5 then saves under other names.
        unset_hf_deepspeed_config()
    elif deepspeed_settings.asked_for():
        raise ConfigurationError("DeepSpeed is asked for, but ACCELERATE_USE_CPU=true rules it out: unset it")
    if others := deepspeed_settings.not_followed(deepspeed_settings.asked_numbers(), clip):
        accelerator.print(f"gpg-vl: not followed of the launcher: {', '.join(others)}", file=sys.stderr)
    return accelerator


def _process_options() -> dict[str, Any]:
    """How processes are joined; without a GPU, Accelerate would start each one by itself."""
    process_group: dict[str, Any] = {"timeout": _COLLECTIVE_TIMEOUT}
    options: dict[str, Any] = {}
    here, deepspeed = place(), deepspeed_settings.asked_for()
    launched = here is not None and (here.size > 1 or deepspeed)
    if launched and not torch.cuda.is_available():
        process_group["backend"] = "gloo"
        options["cpu"] = not deepspeed
    return options | {"kwargs_handlers": [InitProcessGroupKwargs(**process_group)]}


def _deepspeed(max_grad_norm: float) -> DeepSpeedPlugin | None:
    """What the launcher asks of DeepSpeed; None without it, and for a second run of one program."""
    if not deepspeed_settings.asked_for() or is_initialized():
        return None
    file = os.environ.get(deepspeed_settings.FILE)
    settings = deepspeed_settings.usable(deepspeed_settings.read_file(file), file) if file else None
    return DeepSpeedPlugin(
        hf_ds_config=settings,
        gradient_accumulation_steps=1,
        gradient_clipping=max_grad_norm,
        zero3_init_flag=False,  # weights are loaded whole, then spread
        enable_msamp=False,
    )


def _settle(settings: dict[str, Any], max_grad_norm: float) -> None:
    """Fill in the numbers that our options decide. Raises ConfigurationError where DeepSpeed takes none."""
    settings |= {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm,
    }
    if not torch.cuda.is_available():  # torch's AdamW is on the CPU already, and needs no compiler
        settings.setdefault("zero_force_ds_cpu_optimizer", False)
    from deepspeed.runtime.config import DeepSpeedConfig  # an import of seconds

    source = os.environ.get(deepspeed_settings.FILE, "the launcher")
    try:
        DeepSpeedConfig({**settings, "train_batch_size": None})
    except (ValueError, TypeError, AssertionError, AttributeError, KeyError) as error:
        raise ConfigurationError(f"{source}: DeepSpeed cannot be set up so: {error}") from error


def world_of(accelerator: Accelerator) -> World:
    """The processes of a launch."""
    return World(accelerator.process_index, accelerator.num_processes)
