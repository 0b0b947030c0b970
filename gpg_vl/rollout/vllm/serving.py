"""How `vllm serve` is started, so that trainers and evaluations can ask it; imports no torch."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpg_vl.checks import require, tidy
from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError

WORKER = Path(__file__).parent / "worker"
"""The folder that vLLM's processes need on their path; it stands alone."""
LEAST_PIXELS = 784
"""What vLLM may enlarge images to: never, since they come in the size that the trainer gave them."""
_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCH_COMPILE_DISABLE": "1",
}
"""What vLLM is told on a CPU, unless the user says otherwise: GiB of its cache, else a share of the machine;
no threads tied to cores; no half a minute of compiling."""
_PROBE = (
    "import importlib.metadata as m, json, torch; "
    "names = [d for d in ('vllm', 'vllm-cpu') if any(True for _ in m.distributions(name=d))]; "
    "print(json.dumps([names, torch.cuda.is_available()]))"
)


@dataclass(frozen=True)
class ServeSettings:
    """Serve a model with vLLM to trainers, evaluations and the app. Options behind `--` are vLLM's own."""

    model: str
    """Folder or hub id; a trainer sends it its own weights before each step."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for other machines. Whoever reaches it can replace the weights: keep it
    inside a network that you trust."""
    port: int = 8000
    """Port to listen at."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What it computes in; auto: bf16 on a GPU, fp32 on a CPU."""
    tensor_parallel_size: int = 1
    """GPUs that share one copy of the model; divides the attention heads of vision tower and text model."""
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory for weights and caches."""
    max_model_len: int = 0
    """Longest prompt and answer in tokens; 0 is the model's own, whose cache must fit."""
    max_num_seqs: int = 256
    """Answers that grow at the same time."""
    max_pixels: int = ModelConfig.max_pixels
    """Largest image (pixels) of families with such a limit; at least the trainer's model.max_pixels."""
    images: int = 2
    """Images a question, at most."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """What vLLM's flags are for; auto: a GPU if this machine has one, with --print that it has."""
    python: str = ""
    """Interpreter of the environment where vLLM is installed; empty: this one."""

    def __post_init__(self) -> None:
        tidy(self, "--", paths=("model", "python"))
        require(0 < self.port < 65536, f"--port is from 1 to 65535, got {self.port}")
        for name in ("tensor_parallel_size", "max_num_seqs", "max_pixels"):
            require(getattr(self, name) > 0, f"--{name} must be positive")
        require(self.max_model_len >= 0 and self.images >= 0, "--max_model_len and --images: 0 or more")
        require(0 < self.gpu_memory_utilization <= 1, "--gpu_memory_utilization is a share above 0")

    @property
    def url(self) -> str:
        """Where it is asked from this machine."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"


@dataclass(frozen=True)
class Installed:
    """vLLM in the environment of an interpreter."""

    python: str
    package: str
    """`vllm`, or `vllm-cpu`, whose own command does not start."""
    gpu: bool

    @classmethod
    def elsewhere(cls, settings: ServeSettings) -> "Installed":
        """On a machine that is not this one, whose `python` has vLLM, and which has GPUs unless told."""
        return cls(settings.python or "python", "vllm", settings.device != "cpu")

    @classmethod
    def of(cls, python: str) -> "Installed":
        """Raises ConfigurationError where there is none."""
        python = python or sys.executable
        try:
            done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=120)
            names, gpu = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
            raise ConfigurationError(
                f"--python {python!r} is no interpreter with vLLM and torch: {error}"
            ) from error
        if not names:
            raise missing_vllm(repr(python))
        return cls(python, names[0], gpu)


@dataclass(frozen=True)
class Kind:
    """What vLLM is told of a model's family."""

    limits: bool
    """Whether images have limits of pixels."""
    recurrent: bool
    """Whether some of its layers carry a state."""
    takes_images: bool


def vllm_command(settings: ServeSettings, installed: Installed, kind: Kind, more: Sequence[str]) -> list[str]:
    """`vllm serve` with every flag that asking it needs."""
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and installed.gpu)
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "max_num_seqs": settings.max_num_seqs,
        "enable_scale_out": True,
        "disable_uvicorn_access_log": True,  # a line for each question
        **engine_options(
            kind, gpu=installed.gpu, bf16=bf16, images=settings.images, max_pixels=settings.max_pixels
        ),
    }
    if settings.max_model_len:
        options["max_model_len"] = settings.max_model_len
    if installed.gpu:
        options["gpu_memory_utilization"] = settings.gpu_memory_utilization
    return [*_entry(installed), "serve", settings.model, *_flags(options), *more]


def engine_options(kind: Kind, *, gpu: bool, bf16: bool, images: int, max_pixels: int) -> dict[str, Any]:
    """vLLM's own options, by its names, that make what it says that of the distribution which it samples
    from, leave our images as they are, and let it take a trainer's weights."""
    options: dict[str, Any] = {
        "dtype": "bfloat16" if bf16 else "float32",
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": -1,
        "generation_config": "vllm",
        "worker_extension_cls": "gpg_vl_worker.Worker",
        "weight_transfer_config": {"backend": "gpg_vl"},
    }
    if kind.takes_images:
        options["limit_mm_per_prompt"] = {"image": images, "video": 0}
    if kind.limits:
        options["mm_processor_kwargs"] = {"min_pixels": LEAST_PIXELS, "max_pixels": max_pixels}
    if not gpu:
        options["enforce_eager"] = True
        options["enable_chunked_prefill"] = False  # seeds crash with it
        if kind.recurrent:
            options["enable_prefix_caching"] = False  # of states, which wants chunks
    return options


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield f"--{flag}"
            yield json.dumps(value) if isinstance(value, Mapping) else str(value)


def _entry(installed: Installed) -> list[str]:
    if installed.package == "vllm":
        return [installed.python, "-m", "vllm.entrypoints.cli.main"]
    return [installed.python, str(WORKER / "gpg_vl_vllm.py")]


def missing_vllm(where: str) -> ConfigurationError:
    """That there is no vLLM, and how to come by one."""
    return ConfigurationError(
        f"{where} has no vLLM: pip install vllm. Where its pins do not fit, it takes an environment of its "
        "own, and `gpg-vl serve --python INTERPRETER` (docs/rollout_engines.md)"
    )


def vllm_environment(gpu: bool) -> dict[str, str]:
    """Variables that the command needs: ours on the path, the endpoints for weights, nothing sent home."""
    return {"PYTHONPATH": str(WORKER), "VLLM_SERVER_DEV_MODE": "1", **vllm_variables(gpu)}


def vllm_variables(gpu: bool) -> dict[str, str]:
    """Variables that vLLM needs wherever it runs."""
    private = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return private if gpu else private | {name: os.environ.get(name, value) for name, value in _CPU.items()}


def as_shell(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The command as it can be pasted into a shell, also one on another machine."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*variables, shlex.join(command)])


def log_file(port: int) -> Path:
    """Where `gpg-vl serve` keeps what vLLM at a port of this machine writes."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gpg_vl" / f"serve-{port}.log"
