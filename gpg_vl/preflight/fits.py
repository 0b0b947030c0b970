"""Preflight's memory forecast: does it fit the card, and what to change if it does not."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from gpg_vl.config import ModelConfig, TrainConfig
from gpg_vl.model.adapt import choose_weights
from gpg_vl.model.families import family_of
from gpg_vl.model.holding import Holding
from gpg_vl.model.loading import read_config
from gpg_vl.model.sizes import ModelSizes, sizes_of, skeleton
from gpg_vl.preflight.data import Lengths
from gpg_vl.preflight.findings import Finding, Level, Report
from gpg_vl.preflight.memory import GIB, OPTIMIZER_STEP, Forecast, Load, forecast
from gpg_vl.preflight.states import Cards, Updater

_ROOM = 0.9
"""Share of a card that a forecast may fill: the CUDA context and gaps between tensors take the rest."""
_SHOWN = 0.02
"""Share of the peak from which a part is named."""
_LORA_RANK = 64
_LEAST_GAIN = 0.98
"""A change is named only if it leaves at most this share of the peak."""


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

    def bf16(self, precision: str) -> bool:
        """Whether arithmetic is bf16 there, by `model.precision`."""
        return precision == "bf16" or (precision == "auto" and self.gpu)

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
        )

    def with_section(self, section: str, **values: Any) -> "Plan":
        """The plan with other values in a section of the configuration."""
        changed = replace(getattr(self.config, section), **values)
        return replace(self, config=replace(self.config, **{section: changed}))

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


def check_memory(report: Report, plan: Plan) -> None:
    """One line per phase; the fullest one says what to change where it does not fit."""
    found, tokens = plan.forecast()
    machine, kind = plan.machine, "bf16" if plan.bf16 else "fp32"
    stage = f", ZeRO-{machine.zero}" if machine.zero else ""
    cards = f"{machine.processes} card{'s' if machine.processes > 1 else ''}{stage}, {kind}"
    for phase in found.phases:
        level, cure = _level(plan, found.total(phase)), ""
        if phase == found.fullest:
            cure = _cure(plan, found)
        words = "1 token" if tokens[phase] == 1 else f"{tokens[phase]} tokens"
        length = "" if phase == OPTIMIZER_STEP else f", answers of {words}"
        text = f"{gib(found.total(phase))} GiB a card ({cards}{length}): {_parts(found, phase)}"
        report.add([Finding(f"memory, {phase}", level, text, cure)])
    phases = {phase: {"total": found.total(phase), **found.phases[phase]} for phase in found.phases}
    report.figures["memory"] = {"peak": found.peak, "always": dict(found.states), "phases": phases}


def gib(size: float) -> str:
    """Bytes in GiB, with the digits that matter."""
    return f"{size / GIB:.1f}" if size >= GIB else f"{size / GIB:.2g}"


def _parts(found: Forecast, phase: str) -> str:
    parts = {**found.states, **found.phases[phase]}
    named = {name: size for name, size in parts.items() if size >= _SHOWN * found.total(phase)}
    return ", ".join(f"{name} {gib(size)}" for name, size in named.items())


def _level(plan: Plan, size: float) -> Level:
    """Whether so many bytes fit a card."""
    capacity = plan.machine.capacity
    if capacity is None or size <= _ROOM * capacity:
        return "ok"
    return "fail" if size > capacity else "warn"


def _cure(plan: Plan, found: Forecast) -> str:
    """What to change so that the fullest phase fits."""
    capacity = plan.machine.capacity
    if capacity is None:
        return "--card_gib N compares this with a card"
    if found.peak <= _ROOM * capacity:
        return ""
    peaks = ((words, changed.forecast()[0].peak) for words, changed in _changes(plan))
    return f"a card has {gib(capacity)} GiB; {remedies(peaks, found.peak, capacity)}"


def remedies(changes: Iterable[tuple[str, float]], peak: float, capacity: float) -> str:
    """Changes in words, one upon the other until the peak (bytes) fits, each with the peak that it leaves.

    Those that leave nearly as much are passed over.
    """
    steps = []
    for words, left in changes:
        if left > _LEAST_GAIN * peak:
            continue
        steps.append(f"{words}: {gib(left)}")
        peak = left
        if peak <= _ROOM * capacity:
            return "; then ".join(steps)
    steps.append("that is not enough: larger cards, or more of them with --accelerate zero3")
    return "; then ".join(steps)


def _changes(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """The plan after each change, in the order of what they cost, each on top of those before."""
    if not plan.config.model.gradient_checkpointing:
        plan = plan.with_section("model", gradient_checkpointing=True)
        yield "model.gradient_checkpointing true", plan
    least = plan.lengths.prompt + plan.config.rollout.max_new_tokens
    while (tokens := plan.config.run.micro_batch_tokens // 2) >= least:
        plan = plan.with_section("run", micro_batch_tokens=tokens)
        yield f"run.micro_batch_tokens {tokens}", plan
    while (answers := plan.config.rollout.max_concurrent // 2) >= plan.config.rollout.group_size:
        plan = plan.with_section("rollout", max_concurrent=answers)
        yield f"rollout.max_concurrent {answers}", plan
    for zero in range(plan.machine.zero + 1, 4) if plan.machine.processes > 1 else ():
        plan = replace(plan, machine=replace(plan.machine, zero=zero))
        yield f"ZeRO-{zero}", plan
    model = plan.config.model
    if not model.lora_rank and not model.freeze_language and find_spec("peft"):  # an extra of the package
        plan = plan.with_section("model", lora_rank=_LORA_RANK)
        plan = replace(plan, sizes=model_sizes(plan.config.model, download=False))
        yield f"model.lora_rank {_LORA_RANK}", plan
