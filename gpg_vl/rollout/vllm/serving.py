"""How `vllm serve` is started, so that trainers and evaluations can ask it; imports no torch."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
            raise ConfigurationError(
                f"{python!r} has no vLLM: pip install vllm, into an environment of its own if its pins do "
                "not fit (--python names its interpreter); docs/rollout_engines.md"
            )
        return cls(python, names[0], gpu)


def vllm_command(
    settings: ServeSettings, installed: Installed, *, limits: bool, recurrent: bool, more: Sequence[str]
) -> list[str]:
    """`vllm serve` with every flag that asking it needs.

    limits: the family has pixel limits. recurrent: some of its layers carry a state.
    """
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and installed.gpu)
    command = [
        *_entry(installed),
        "serve",
        settings.model,
        *("--host", settings.host, "--port", str(settings.port)),
        *("--dtype", "bfloat16" if bf16 else "float32"),
        *("--tensor-parallel-size", str(settings.tensor_parallel_size)),
        *("--max-num-seqs", str(settings.max_num_seqs)),
        *engine_flags(settings.images, settings.max_pixels, limits=limits),
        "--enable-scale-out",
        "--disable-uvicorn-access-log",  # a line for each question
        *("--worker-extension-cls", "gpg_vl_worker.Worker"),
        *("--weight-transfer-config", json.dumps({"backend": "gpg_vl"})),
    ]
    if settings.max_model_len:
        command += ["--max-model-len", str(settings.max_model_len)]
    if installed.gpu:
        command += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    else:
        command += ["--enforce-eager", "--no-enable-chunked-prefill"]  # seeds with the latter crash there
        if recurrent:
            command.append("--no-enable-prefix-caching")  # of states, which wants chunks
    return [*command, *more]


def engine_flags(images: int, max_pixels: int, *, limits: bool) -> list[str]:
    """What makes its log-probabilities those of the distribution that it samples from, on our images."""
    flags = [
        *("--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"),
        *("--generation-config", "vllm"),
        *("--limit-mm-per-prompt", json.dumps({"image": images, "video": 0})),
    ]
    if limits:
        pixels = {"min_pixels": LEAST_PIXELS, "max_pixels": max_pixels}
        flags += ["--mm-processor-kwargs", json.dumps(pixels)]
    return flags


def _entry(installed: Installed) -> list[str]:
    if installed.package == "vllm":
        return [installed.python, "-m", "vllm.entrypoints.cli.main"]
    return [installed.python, str(WORKER / "gpg_vl_vllm.py")]


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
