"""Builds what the loop works with, from a configuration and perhaps a checkpoint."""

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gpg_vl.answering import Answerer
from gpg_vl.benchmarks import protocol_of
from gpg_vl.checkpoint import (
    TrainState,
    load_state,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from gpg_vl.config import DataConfig, EvalConfig, ModelConfig, SftConfig, TrainConfig
from gpg_vl.data import PreparedDataset, Sampler
from gpg_vl.encode import PromptEncoder
from gpg_vl.errors import ConfigurationError
from gpg_vl.grading import check_rewards
from gpg_vl.optim import build_optimizer, set_learning_rate
from gpg_vl.overlap import overlap_warning
from gpg_vl.packing import PackedBatch, Row, collate, cut
from gpg_vl.policy import Policy, load_policy
from gpg_vl.prompts import Prompt
from gpg_vl.rollout import RolloutEngine
from gpg_vl.runfolder import RunFolder
from gpg_vl.scoring import Scorer


@dataclass
class Learner:
    """A model being trained on prepared data; what `train` and `sft` have in common."""

    accelerator: Accelerator
    policy: Policy
    model: Any
    """The policy as `accelerator.prepare` wrapped it; the gradient pass calls nothing else."""
    optimizer: Any
    encoder: PromptEncoder
    data: PreparedDataset
    sampler: Sampler
    step: int
    """Optimizer steps done."""

    def micro_batches(self, rows: Sequence[Row], max_tokens: int) -> Iterator[tuple[list[Row], PackedBatch]]:
        """Rows cut by tokens and moved to the device; gradients synchronise on the last one only."""
        parts = cut(rows, max_tokens)
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                yield part, collate(part).to(self.accelerator.device)

    def optimizer_step(self, rate: float, max_grad_norm: float) -> float:
        """Clip, step and clear; returns the gradient norm before clipping.

        A gradient that is not finite is dropped: one such step would destroy the weights.
        """
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), max_grad_norm or math.inf))
        if math.isfinite(norm):
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def save(self, folder: RunFolder, card: Mapping[str, Any], keep_last: int) -> None:
        """Write a checkpoint of the current step."""
        state = TrainState(self.step, self.sampler.consumed, self.optimizer.state_dict(), random_states())
        save_checkpoint(
            folder.checkpoints, state, lambda path: self.policy.save(path, card), keep_last=keep_last
        )


@dataclass
class Session:
    """What the reinforcement-learning loop works with."""

    config: TrainConfig
    learner: Learner
    answerer: Answerer
    scorer: Scorer
    reference: Policy | None
    """The frozen first model of a KL term; GPG has none."""
    validation: PreparedDataset | None


def build_learner(config: TrainConfig | SftConfig, checkpoint: Path | None) -> Learner:
    """Load model and data, and continue from `checkpoint` if there is one.

    Raises ModelError, DataError, CheckpointError or ConfigurationError for what the user can mend.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    accelerator = Accelerator(
        mixed_precision="no",  # the policy does its own autocast
        log_with=list(config.run.trackers) or None,
        project_dir=config.out,
    )
    if accelerator.num_processes > 1:
        raise ConfigurationError(f"this version trains in one process, got {accelerator.num_processes}")
    torch.manual_seed(config.run.seed)
    data = PreparedDataset.open(config.data.train)
    policy = _load(str(checkpoint / "model") if checkpoint else config.model.path, config.model, accelerator)
    encoder = build_encoder(policy, config.prompt, config.model)
    data = _within(data, config.data, encoder)
    optimizer = build_optimizer(policy, config.optim)
    model, optimizer = accelerator.prepare(policy, optimizer)
    sampler = Sampler(len(data), config.run.seed, shuffle=config.data.shuffle)
    learner = Learner(accelerator, policy, model, optimizer, encoder, data, sampler, step=0)
    if checkpoint is not None:
        state = load_state(checkpoint)
        learner.step = state.step
        sampler.consumed = state.consumed
        optimizer.load_state_dict(state.optimizer)
        restore_random_states(state.random)
    return learner


def build_session(config: TrainConfig, checkpoint: Path | None) -> Session:
    """A learner with its rollout engine, rewards, validation data and, for a KL term, the reference."""
    scorer = Scorer(config.rewards)
    learner = build_learner(config, checkpoint)
    for task in sorted(set(learner.data.rows["task"])):
        scorer.route(task)  # a task without rewards is better found now than hours later
    reference = None
    if config.algorithm.kl_beta > 0:
        reference = _load(config.model.path, config.model, learner.accelerator).eval().requires_grad_(False)
    answerer = build_answerer(learner, config.rollout.max_concurrent)
    validation = open_validation(config.data, config.eval, learner.encoder)
    if validation is not None and (text := overlap_warning(config.data.train, config.data.validation)):
        learner.accelerator.print(text, file=sys.stderr)
    return Session(config, learner, answerer, scorer, reference, validation)


def build_answerer(learner: Learner, max_concurrent: int) -> Answerer:
    """A rollout engine on the learner's weights."""
    engine = RolloutEngine(learner.policy, max_concurrent=max_concurrent, seed=learner.sampler.seed)
    return Answerer(learner.encoder, engine)


def open_validation(data: DataConfig, limits: EvalConfig, encoder: PromptEncoder) -> PreparedDataset | None:
    """The validation set, graded by rewards that exist; None where none is configured."""
    if not data.validation:
        return None
    rows = _within(PreparedDataset.open(data.validation).head(limits.limit), data, encoder)
    check_rewards(protocol_of(data.validation), rows.rows["answer_type"])
    return rows


def build_encoder(policy: Policy, prompt: Prompt, model: ModelConfig) -> PromptEncoder:
    """The encoder of a policy's prompts."""
    return PromptEncoder(
        policy.processor,
        prompt,
        family=policy.family,
        min_pixels=model.min_pixels,
        max_pixels=model.max_pixels,
    )


def model_card(config: TrainConfig | SftConfig) -> dict[str, Any]:
    """What a checkpoint says of how it is to be asked, and what it was rewarded for: `gpg_vl.json`."""
    card = {
        "prompt": config.prompt.to_dict(),
        "min_pixels": config.model.min_pixels,
        "max_pixels": config.model.max_pixels,
    }
    if isinstance(config, TrainConfig):
        card |= {"stop": list(config.rollout.stop), "rewards": dict(config.rewards)}
    return card


def _load(path: str, model: ModelConfig, accelerator: Accelerator) -> Policy:
    return load_policy(
        path,
        precision=model.precision,
        gradient_checkpointing=model.gradient_checkpointing,
        device=accelerator.device,
    )


def _within(data: PreparedDataset, limits: DataConfig, encoder: PromptEncoder) -> PreparedDataset:
    return data.within(limits.max_prompt_tokens, encoder.prompt_length)
