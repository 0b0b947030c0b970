"""What a memory forecast is made of: a configuration, a model's sizes, lengths and a machine."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from gpg_vl.config import ModelConfig, TrainConfig
from gpg_vl.model.adapt import choose_weights
from gpg_vl.model.families import family_of
from gpg_vl.model.holding import Holding
from gpg_vl.model.loading import computes_in_bf16, read_config
from gpg_vl.model.sizes import ModelSizes, sizes_of, skeleton
from gpg_vl.preflight.data import Lengths
from gpg_vl.preflight.memory import GIB, Forecast, Load, forecast
from gpg_vl.preflight.states import Cards, Updater

ROOM = 0.9
"""Share of a card that a forecast may fill: the CUDA context and gaps between tensors take the rest."""


@dataclass(frozen=True)
class Machine:
    """What the run is meant for."""

    processes: int = 1
    zero: int = 0
    offload: bool = False
    card_gib: float = 0.0
    """0 means the GPU that is here, or none to compare with."""

    @property
    def cards(self) -> Cards:
        return Cards(self.processes, self.zero, self.offload, cuda=self.gpu)

    @property
    def gpu(self) -> bool:
        """Whether the forecast is about GPUs."""
        return self.card_gib > 0 or torch.cuda.is_available()

    def bf16(self, precision: Literal["auto", "fp32", "bf16"]) -> bool:
        """Whether arithmetic is bf16 there, by `model.precision`."""
        return computes_in_bf16(precision, torch.device(self.cards.device))

    @property
    def capacity(self) -> float | None:
        """Bytes of a card."""
        if self.card_gib > 0:
            return self.card_gib * GIB
        return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def model_sizes(model: ModelConfig, *, download: bool, bf16: bool = False) -> ModelSizes:
    """Sizes from config.json alone, where the arithmetic is `bf16` or not.

    Raises ModelError, or ConfigurationError for what cannot be trained.
    """
    config = read_config(model.path, download=download)
    holding = Holding.of(model, bf16=bf16)
    policy = skeleton(config, family_of(model.path, config), holding)
    choose_weights(policy, model)
    return sizes_of(policy, four_bit=holding.four_bit)


@dataclass(frozen=True)
class Plan:
    """All that a forecast is made of."""

    config: TrainConfig
    sizes: ModelSizes
    lengths: Lengths
    machine: Machine

    @property
    def bf16(self) -> bool:
        """Whether arithmetic will be bf16."""
        return self.machine.bf16(self.config.model.precision)

    def load(self, answer_tokens: int) -> Load:
        """What one card works on, with answers of that many tokens."""
        algorithm, rollout = self.config.algorithm, self.config.rollout
        return Load(
            prompt_tokens=self.lengths.prompt,
            image_tokens=self.lengths.images,
            answer_tokens=answer_tokens,
            group_size=rollout.group_size,
            questions=math.ceil(algorithm.questions_per_step / self.machine.processes),
            groups=math.ceil(algorithm.questions_per_step * algorithm.max_rounds / self.machine.processes),
            max_concurrent=rollout.max_concurrent,
            micro_batch_tokens=self.config.run.micro_batch_tokens,
            packing=self.config.run.packing,
            bf16=self.bf16,
            checkpointing=self.config.model.gradient_checkpointing,
            flex=self.config.model.attention == "flex",
            reference=algorithm.kl_beta > 0,
            updater=Updater.of(self.config.optim),
            vllm=self._vllm(),
        )

    def _vllm(self) -> float | None:
        """Bytes that vLLM takes of a card; a machine without one is taken to have the room."""
        rollout = self.config.rollout
        if rollout.engine == "own":
            return None
        beside = rollout.engine == "vllm"
        return beside * rollout.vllm.gpu_memory_utilization * (self.machine.capacity or 0)

    def with_section(self, section: str, **values: Any) -> "Plan":
        """The plan with other values in a section of the configuration."""
        changed = replace(getattr(self.config, section), **values)
        return replace(self, config=replace(self.config, **{section: changed}))

    def resized(self) -> "Plan":
        """With the sizes of what the configuration now trains and holds; raises as `model_sizes`."""
        return replace(self, sizes=model_sizes(self.config.model, download=False, bf16=self.bf16))

    def forecast(self) -> tuple[Forecast, dict[str, int]]:
        """Each phase at its worst, and the answers' length there: all at their limit, or one token long.

        Short answers leave room in a micro-batch for more prompts, and so for more images.
        """
        by_length = {
            tokens: forecast(self.sizes, self.load(tokens), self.machine.cards)
            for tokens in (self.config.rollout.max_new_tokens, 1)
        }
        longest = by_length[self.config.rollout.max_new_tokens]
        tokens = {
            phase: max(by_length, key=lambda one, phase=phase: by_length[one].total(phase))  # type: ignore[misc]
            for phase in longest.phases
        }
        phases = {phase: by_length[length].phases[phase] for phase, length in tokens.items()}
        return Forecast(longest.states, phases), tokens
