"""What a run needs around it, checked by names, files and variables: before torch is imported."""

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.data.manifest import check_prepared
from gpg_vl.errors import ConfigurationError
from gpg_vl.model.adapter_files import check_model
from gpg_vl.rollout.vllm.serving import missing_vllm
from gpg_vl.runs.resume import AUTO, check_unused, newest_checkpoint, resumed_folder
from gpg_vl.runtime import deepspeed_settings
from gpg_vl.runtime.launched import place
from gpg_vl.scoring.scorer import Scorer

_UNSUPPORTED = ("FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
"""What accelerate can be asked for by ACCELERATE_USE_… beside DeepSpeed."""


def check_run(
    config: TrainConfig | SftConfig, resume: str | None, *, overwrite: bool = False, launching: bool = False
) -> None:
    """Raise the UserError that `train` or `sft` would end with, as far as packages, variables and files tell.

    overwrite: whether the folder is going to be emptied. launching: whether processes are still to be
    started, which look at their own launch.
    """
    check_packages(config)
    if not launching:
        check_launch(config)
    _check_folder(config, resume, overwrite=overwrite)
    _check_inputs(config, resume)


def _check_folder(config: TrainConfig | SftConfig, resume: str | None, *, overwrite: bool) -> None:
    if overwrite and resume is not None:
        raise ConfigurationError("--overwrite starts anew and --resume goes on: give one of them")
    if resume is None and not overwrite:
        check_unused(config.out)
    elif resume not in (None, AUTO):
        resumed_folder(resume, Path(config.out) / "checkpoints")


def _check_inputs(config: TrainConfig | SftConfig, resume: str | None) -> None:
    """Raise the UserError that the run would end with for want of a folder, file or reward."""
    if isinstance(config, TrainConfig):
        Scorer(config.rewards)
    for folder in [*config.data.train, *config.data.validation]:
        check_prepared(folder)
    newest = newest_checkpoint(Path(config.out) / "checkpoints")
    if resume is None or (resume == AUTO and newest is None):
        check_model(config.model.path)  # a checkpoint has weights of its own


def check_packages(config: TrainConfig | SftConfig) -> None:
    """Raise ConfigurationError for a package that the configuration needs and that is not installed."""
    if isinstance(config, TrainConfig) and config.rollout.engine == "vllm" and find_spec("vllm") is None:
        raise missing_vllm("rollout.engine vllm: this environment")
    for asker, packages, cure in _needed(config):
        if not any(map(_installed, packages)):
            raise ConfigurationError(f"{asker} needs the package {packages[0]}: pip install {cure}")


def _needed(config: TrainConfig | SftConfig) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Who needs which package, or another one in its place, and what installs it."""
    for name in config.run.trackers:
        packages = ("tensorboard", "tensorboardX") if name == "tensorboard" else (name,)
        yield f"run.trackers {name}", packages, "'gpg-vl[track]'"
    if config.model.lora_rank:
        yield "model.lora_rank", ("peft",), "'gpg-vl[lora]'"
    if config.optim.kind == "adamw8bit":
        yield "optim.kind adamw8bit", ("bitsandbytes",), "'gpg-vl[bitsandbytes]'"
    if config.model.frozen_precision == "nf4":
        yield "model.frozen_precision nf4", ("bitsandbytes",), "'gpg-vl[bitsandbytes]'"
    if config.model.vision_attention == "flash_attention_2":
        # transformers fetches the kernels of the second from the hub
        yield "model.vision_attention flash_attention_2", ("flash_attn", "kernels"), "flash-attn"


def _installed(package: str) -> bool:
    """As accelerate asks: a folder of that name, such as W&B's own `wandb/`, is no package."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return find_spec(package) is not None


def check_launch(config: TrainConfig | SftConfig) -> None:
    """Raise ConfigurationError for a launcher's variables that are incomplete or ask for what is not here.

    Or for what the configuration asks of the optimizer and DeepSpeed does itself.
    """
    here = place()
    for name in _UNSUPPORTED:
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            raise ConfigurationError(
                f"ACCELERATE_USE_{name} is set; supported launches: DDP (MULTI_GPU) and DEEPSPEED"
            )
    if not deepspeed_settings.asked_for():
        return
    if here is None:
        raise ConfigurationError(
            "ACCELERATE_USE_DEEPSPEED asks for DeepSpeed, but nothing launched this process: start it with "
            "--accelerate, torchrun or `accelerate launch`, or unset the variable"
        )
    check_deepspeed_package()
    deepspeed_settings.check_asked()
    check_state(config)


def check_state(config: TrainConfig | SftConfig) -> None:
    """Raise ConfigurationError for weights and moments that DeepSpeed would hold otherwise than asked."""
    model, optim = config.model, config.optim
    zero = "and ZeRO spreads them over the processes: leave it out, or launch with ddp"
    if model.trained_precision != "fp32":
        raise ConfigurationError(
            f"model.trained_precision {model.trained_precision}: DeepSpeed keeps weights in fp32, {zero}"
        )
    if model.frozen_precision == "nf4":
        raise ConfigurationError(
            "model.frozen_precision nf4: DeepSpeed does not know packed weights, and has little to spread "
            "where adapters are trained: launch with ddp"
        )
    if optim.kind != "adamw":
        raise ConfigurationError(f"optim.kind {optim.kind}: DeepSpeed keeps moments in fp32, {zero}")
    if optim.offload:
        raise ConfigurationError(
            "optim.offload: DeepSpeed moves the moments itself: leave it out, and launch with zero3_offload, "
            "or with offload_optimizer_device: cpu in a file of your own"
        )


def check_deepspeed_package() -> None:
    """Raise ConfigurationError where DeepSpeed is not installed; on Linux it comes with this package."""
    if not _installed("deepspeed"):
        raise ConfigurationError("ZeRO needs the package deepspeed: pip install deepspeed; ddp does without")
