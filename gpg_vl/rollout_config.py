"""Configuration of rollouts: how answers are sampled, and which engine does it."""

from dataclasses import dataclass, field
from typing import Literal

from gpg_vl.checks import require, tidy


@dataclass(frozen=True)
class ServerConfig:
    """vLLM servers, which `gpg-vl serve` starts."""

    url: str | list[str] = ""
    """Address, such as http://10.0.0.2:8000, or a list of several, which share the questions."""
    connections: int = 64
    """Questions that each process asks a server at the same time; stands for rollout.max_concurrent."""
    patience: float = 600.0
    """Seconds to wait for a server that is not up yet, or gone, until the run gives up."""
    sync: Literal["auto", "nccl", "gloo", "file"] = "auto"
    """How weights get there: a process group over NCCL or gloo, or safetensors files. auto: NCCL where the
    trainer is on a GPU, and so are its servers, on others than it; else gloo."""
    folder: str = ""
    """For sync `file`: a folder that trainer and servers see under this path."""

    def __post_init__(self) -> None:
        tidy(self, "rollout.server.", paths=("folder",))
        require(self.connections > 0, "rollout.server.connections must be positive")
        require(self.patience >= 0, "rollout.server.patience must not be negative")
        require(
            (self.sync == "file") == bool(self.folder),
            "rollout.server.folder and rollout.server.sync file belong together: files need a folder that "
            "trainer and servers share",
        )
        for url in self.urls:
            require(
                url.startswith(("http://", "https://")),
                f"rollout.server.url {url!r} is no address such as http://10.0.0.2:8000",
            )

    @property
    def urls(self) -> list[str]:
        """The addresses."""
        return list(filter(None, [self.url] if isinstance(self.url, str) else self.url))


@dataclass(frozen=True)
class VllmConfig:
    """vLLM in the trainer's own processes; most names are vLLM's."""

    tensor_parallel_size: int = 1
    """Processes that share one copy of the model; divides their number."""
    gpu_memory_utilization: float = 0.45
    """Share of a GPU's memory for its weights and caches; freed while the trainer steps."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """What it computes in; auto: as model.precision."""
    max_model_len: int = 0
    """Longest prompt and answer in tokens; 0: as long as the run needs."""
    limit_images: int = 2
    """Images a question, at most."""

    def __post_init__(self) -> None:
        tidy(self, "rollout.vllm.")
        require(self.tensor_parallel_size > 0, "rollout.vllm.tensor_parallel_size must be positive")
        require(
            0 < self.gpu_memory_utilization <= 1,
            f"rollout.vllm.gpu_memory_utilization is a share above 0, got {self.gpu_memory_utilization}",
        )
        for name in ("max_model_len", "limit_images"):
            require(getattr(self, name) >= 0, f"rollout.vllm.{name} must not be negative")


@dataclass(frozen=True)
class RolloutConfig:
    """How groups of answers are sampled."""

    group_size: int = 8
    """G, answers per question; at least 2. The paper's value."""
    temperature: float = 1.0
    """Sampling temperature, above 0. Training log-probabilities use the same one."""
    max_new_tokens: int = 700
    """Longest answer in tokens. The paper's value for CV-Bench."""
    stop: list[str] = field(default_factory=lambda: ["</answer>"])
    """Texts that end an answer; kept in the text, matched on text, not on tokens."""
    max_concurrent: int = 256
    """Answers decoded at the same time; bounds the memory of their caches. Complete ones make room for
    questions that wait."""
    cuda_graphs: bool = True
    """On a GPU, repeat decoding steps as CUDA graphs: one launch a token instead of hundreds."""
    fused_attention: bool = True
    """On a GPU with Triton, read prompt and answer in two kernels a layer, with scores in fp32."""
    engine: Literal["own", "server", "vllm"] = "own"
    """What samples. own: the policy itself, exactly; server: vLLM behind rollout.server.url; vllm: vLLM in
    the trainer's processes. The latter two get the weights before each step: docs/rollout_engines.md."""
    server: ServerConfig = field(default_factory=ServerConfig)
    vllm: VllmConfig = field(default_factory=VllmConfig)
    gap_warning: float = 0.02
    """Mean distance (nats) between the sampler's log-probabilities and the trainer's above which a run says
    so once; 0: never. fp32 stays below 1e-5, bf16 below 0.01."""

    def __post_init__(self) -> None:
        tidy(self, "rollout.")
        require(
            self.group_size >= 2,
            f"rollout.group_size must be at least 2, got {self.group_size}: "
            "the advantage of an only answer is always 0",
        )
        require(self.temperature > 0, f"rollout.temperature must be above 0, got {self.temperature}")
        require(
            self.engine == "own" or 0.01 <= self.temperature <= 2,
            f"rollout.temperature is from 0.01 to 2 on vLLM, got {self.temperature}",
        )
        require(self.max_new_tokens > 0, "rollout.max_new_tokens must be positive")
        require(
            self.max_concurrent >= self.group_size,
            f"rollout.max_concurrent must be at least rollout.group_size, got {self.max_concurrent}",
        )
        require(all(self.stop), "rollout.stop holds an empty text")
        require(self.gap_warning >= 0, "rollout.gap_warning must not be negative")
        require(
            self.engine != "server" or bool(self.server.urls),
            "rollout.engine server needs rollout.server.url, the address that `gpg-vl serve` prints",
        )
