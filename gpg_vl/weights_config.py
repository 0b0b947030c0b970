"""Configuration of weights: which model, how it is held in memory, and what updates it."""

from dataclasses import dataclass, field
from typing import Literal

from gpg_vl.checks import require, tidy


@dataclass(frozen=True)
class ModelConfig:
    """Which model, and how it is held in memory."""

    path: str = ""
    """Folder or hub id of a model with its processor, of a family that `gpg-vl families` lists."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of forward and backward. auto: bf16 on a GPU, fp32 on a CPU."""
    frozen_precision: Literal["auto", "fp32", "bf16", "nf4"] = "auto"
    """What matrices that are not trained are held in. auto: as the arithmetic. bf16 halves them, and changes
    nothing in bf16 arithmetic; nf4 is QLoRA's 4-bit base, for LoRA, by bitsandbytes."""
    trained_precision: Literal["fp32", "bf16"] = "fp32"
    """What trained matrices and their gradients are held in. bf16 halves both; needs optim.kind adamw8bit,
    which rounds as optim.rounding says, so that small steps are not lost."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    compile: bool = False
    """torch.compile for the language model's layers in the gradient pass; rollouts are not compiled. Warm-up:
    half a minute in the first step, and less once more when a new kind of batch comes."""
    attention: Literal["sdpa", "flex"] = "sdpa"
    """Attention of the language model in packed rows. flex: torch's FlexAttention, which leaves out the work
    between answers and has no mask in memory; it needs a GPU and triton, and compiles in the first step."""
    vision_attention: Literal["sdpa", "flash_attention_2"] = "sdpa"
    """Attention of the vision tower; flash_attention_2 needs a GPU and the flash-attn package. The language
    model's packed rows have tree masks, which it does not take: `attention` is theirs."""
    lora_rank: int = 0
    """Rank of LoRA adapters on the language model's linear layers; 0 trains full weights."""
    lora_alpha: int = 0
    """LoRA's scale (alpha / rank multiplies the adapters); 0 takes twice the rank."""
    lora_rslora: bool = False
    """Rank-stabilised LoRA: the scale is alpha / sqrt(rank) (arXiv 2312.03732)."""
    lora_vision: bool = False
    """Adapters on the vision tower's linear layers too."""
    lora_targets: list[str] = field(default_factory=list)
    """Layers that get adapters, such as q_proj: regular expressions for the ends of their names; empty: every
    linear layer of the language model, and of the vision tower with lora_vision."""
    freeze_vision: bool = False
    """Leave the vision tower as it is."""
    freeze_language: bool = False
    """Leave the language model as it is, and train the vision tower alone."""
    min_pixels: int = 3136
    """Smallest image area in pixels; smaller images are enlarged. Qwen2-VL's own default. Families that cut
    images into tiles take no notice of either limit."""
    max_pixels: int = 401408
    """Largest image area in pixels; larger images are shrunk. The paper's value for CV-Bench."""

    @property
    def pixels(self) -> dict[str, int]:
        """`min_pixels` and `max_pixels` by name."""
        return {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}

    def __post_init__(self) -> None:
        tidy(self, "model.", paths=("path",))
        require(
            0 < self.min_pixels <= self.max_pixels,
            f"model.min_pixels must be positive and at most model.max_pixels; "
            f"got {self.min_pixels} and {self.max_pixels}",
        )
        require(self.lora_rank >= 0 and self.lora_alpha >= 0, "model.lora_rank and lora_alpha: 0 or more")
        require(
            bool(self.lora_rank) or not (self.lora_rslora or self.lora_vision or self.lora_targets),
            "model.lora_rslora, lora_vision and lora_targets need model.lora_rank",
        )
        require(
            not (self.lora_vision and self.freeze_vision),
            "model.lora_vision adds adapters to the vision tower, which model.freeze_vision freezes",
        )
        require(
            self.frozen_precision != "nf4" or bool(self.lora_rank),
            "model.frozen_precision nf4 is a base for adapters: set model.lora_rank",
        )
        require(
            self.precision != "fp32" or self.frozen_precision in ("auto", "fp32"),
            f"model.frozen_precision {self.frozen_precision} needs bf16 arithmetic: model.precision bf16",
        )
        require(
            self.precision != "fp32" or self.trained_precision == "fp32",
            "model.trained_precision bf16 needs bf16 arithmetic: model.precision bf16",
        )
        require(
            not (self.lora_rank and self.trained_precision == "bf16"),
            "model.trained_precision bf16 is for full weights: LoRA's adapters are small, and stay fp32",
        )
        require(
            not (self.lora_rank and self.freeze_language),
            "model.lora_rank adds adapters to the language model, which model.freeze_language freezes",
        )


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule."""

    kind: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit holds the moments in 8 bits (arXiv 2110.02861), by bitsandbytes: 2 bytes a weight instead
    of 8."""
    rounding: Literal["stochastic", "kahan"] = "stochastic"
    """How model.trained_precision bf16 keeps what a step adds below bf16's precision. stochastic: on average,
    at no cost; kahan: in 2 more bytes a weight, which the next step adds."""
    offload: bool = False
    """On a GPU, keep the moments in the machine's pinned memory but for the optimizer's step."""
    learning_rate: float = 1e-6
    """Peak learning rate. The paper's value for 2B to 7B models."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moments."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.0
    """Decoupled weight decay, on matrices only."""
    warmup_steps: int = 0
    """Steps of linear warm-up, as run.steps counts them: the optimizer steps of one rollout share a rate."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Course of the learning rate after the warm-up."""
    final_lr_ratio: float = 0.0
    """Where `cosine` and `linear` lead, as a share of the peak: the rate of a step behind the last, as in
    transformers, so that the last one still trains."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 switches clipping off."""

    def __post_init__(self) -> None:
        tidy(self, "optim.")
        require(self.learning_rate > 0, "optim.learning_rate must be positive")
        require(
            all(0 <= beta < 1 for beta in self.betas),
            f"optim.betas must lie from 0 to below 1, got {list(self.betas)}",
        )
        require(self.eps > 0, f"optim.eps must be positive, got {self.eps}")
        require(self.weight_decay >= 0, "optim.weight_decay must not be negative")
        require(self.warmup_steps >= 0, "optim.warmup_steps must not be negative")
        require(0 <= self.final_lr_ratio <= 1, "optim.final_lr_ratio is a share from 0 to 1")
        require(self.max_grad_norm >= 0, "optim.max_grad_norm must not be negative")


def check_weights(model: ModelConfig, optim: OptimConfig) -> None:
    """Raise ConfigurationError for weights that the optimizer cannot update."""
    require(
        model.trained_precision == "fp32" or optim.kind == "adamw8bit",
        "model.trained_precision bf16 needs optim.kind adamw8bit: plain AdamW would round small steps away",
    )
