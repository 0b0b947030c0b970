"""What `gpg-vl eval` is told; imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpg_vl.checks import expand, seed_in_range, tidy
from gpg_vl.errors import ConfigurationError
from gpg_vl.evaluation.benchmarks import SAMPLED
from gpg_vl.prompting.prompts import TemplateName
from gpg_vl.rollout_config import ServerConfig, VllmConfig

if TYPE_CHECKING:
    from gpg_vl.rollout.sampling import Sampling


@dataclass(frozen=True)
class EvalSettings:
    """Evaluate a model on a benchmark by its protocol; every item is kept."""

    model: str
    """Folder or hub id; a checkpoint brings its own prompt."""
    benchmark: str
    """A benchmark's name, or a folder written by `gpg-vl prepare`, whose manifest picks the protocol."""
    data: str | None = None
    """Prepared folder of the benchmark that is given by name; None is data/NAME."""
    out: str | None = None
    """JSON file with every item; must not exist. A killed run goes on from FILE.partial.jsonl beside it."""
    prompt: TemplateName | None = None
    """Template, overriding the checkpoint's."""
    rewards: dict[str, Any] | str = "on"
    """A run's own rewards, scored beside the benchmark's grading: on takes those of the checkpoint, off none;
    or a table of rewards with weights, or a YAML file that holds one, such as a run's config.yaml."""
    samples: int = 1
    """Answers a question; more than one gives mean@k and pass@k."""
    limit: int = 0
    """Questions; 0 takes all."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; None is the benchmark's, or what the model's context leaves."""
    temperature: float | None = None
    """Sampling temperature, 0 is greedy; None is 0, and 0.6 for several answers."""
    top_p: float | None = None
    """Keep the likeliest tokens of this total probability; None is 1, and 0.95 for several answers."""
    top_k: int = 0
    """Keep this many tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens of this share of the likeliest's probability."""
    seed: int = 0
    """Seed of sampled answers."""
    max_concurrent: int = 256
    """Answers decoded at the same time."""
    engine: Literal["own", "server", "vllm"] = "own"
    """What answers: this package, a vLLM server that `gpg-vl serve` started with the model, or vLLM in
    this process."""
    server: ServerConfig = field(default_factory=ServerConfig)
    vllm: VllmConfig = field(default_factory=lambda: VllmConfig(gpu_memory_utilization=0.9))

    def __post_init__(self) -> None:
        tidy(self, "--", paths=("model", "benchmark", "data", "out"))
        seed_in_range(self.seed, "--seed")
        if isinstance(self.rewards, str):
            object.__setattr__(self, "rewards", expand(self.rewards))
        if self.out and Path(self.out).exists():
            raise ConfigurationError(f"{self.out!r} exists already; remove it or choose another --out")
        if self.limit < 0 or self.max_concurrent < 1 or self.samples < 1:
            raise ConfigurationError(
                "--limit must not be negative, and --max_concurrent and --samples at least 1; got "
                f"{self.limit}, {self.max_concurrent} and {self.samples}"
            )
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigurationError(f"--max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.engine != "own" and 0 < (self.temperature or 0.0) < 0.01:
            raise ConfigurationError(f"--temperature is 0 or at least 0.01 on vLLM, got {self.temperature}")
        if self.engine == "server" and not self.server.urls:
            raise ConfigurationError("--engine server needs --server.url, which `gpg-vl serve` prints")
        self._check_filters()
        if self.samples > 1 and self.temperature == 0:
            raise ConfigurationError(
                f"--samples {self.samples} would be the same answer {self.samples} times at --temperature 0; "
                f"leave it out for {SAMPLED['temperature']}"
            )

    def _check_filters(self) -> None:
        if self.temperature is not None and self.temperature < 0:
            raise ConfigurationError(f"--temperature must not be negative, got {self.temperature}")
        if not (self.top_p is None or 0 < self.top_p <= 1) or not 0 <= self.min_p <= 1 or self.top_k < 0:
            raise ConfigurationError(
                "--top_p is above 0 and at most 1, --min_p from 0 to 1, --top_k 0 or more; got "
                f"{self.top_p}, {self.min_p} and {self.top_k}"
            )

    def sampling(self, max_new_tokens: int, stop: tuple[str, ...]) -> "Sampling":
        """Greedy for one answer, the protocol's sampling for several, unless set."""
        from gpg_vl.rollout.sampling import Sampling  # imports torch

        temperature, top_p = chosen_filters(self.samples, self.temperature, self.top_p)
        return Sampling(max_new_tokens, temperature, top_p, self.top_k, self.min_p, stop)


def chosen_filters(samples: int, temperature: float | None, top_p: float | None) -> tuple[float, float]:
    """Temperature and top_p, where None is greedy for one answer and the protocol's sampling for several."""
    default = SAMPLED if samples > 1 else {"temperature": 0.0, "top_p": 1.0}
    return (
        default["temperature"] if temperature is None else temperature,
        default["top_p"] if top_p is None else top_p,
    )
