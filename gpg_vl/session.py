"""Builds what the loop works with, from a configuration and perhaps a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gpg_vl.answering import Answerer
from gpg_vl.checkpoint import TrainState, load_state, random_states, restore_random_states
from gpg_vl.config import DataConfig, ModelConfig, SftConfig, TrainConfig
from gpg_vl.data import PreparedDataset, Sampler
from gpg_vl.encode import PromptEncoder
from gpg_vl.errors import ConfigurationError
from gpg_vl.optim import build_optimizer
from gpg_vl.policy import Policy, load_policy
from gpg_vl.prompts import Prompt
from gpg_vl.rollout import RolloutEngine
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

    def state(self) -> TrainState:
        """What a checkpoint holds beside the weights."""
        return TrainState(self.step, self.sampler.consumed, self.optimizer.state_dict(), random_states())


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
    engine = RolloutEngine(learner.policy, max_concurrent=config.rollout.max_concurrent, seed=config.run.seed)
    reference = None
    if config.algorithm.kl_beta > 0:
        reference = _load(config.model.path, config.model, learner.accelerator).eval().requires_grad_(False)
    validation = None
    if config.data.validation:
        whole = PreparedDataset.open(config.data.validation).head(config.eval.limit)
        validation = _within(whole, config.data, learner.encoder)
    return Session(config, learner, Answerer(learner.encoder, engine), scorer, reference, validation)


def build_encoder(policy: Policy, prompt: Prompt, model: ModelConfig) -> PromptEncoder:
    """The encoder of a policy's prompts."""
    return PromptEncoder(policy.processor, prompt, min_pixels=model.min_pixels, max_pixels=model.max_pixels)


def model_card(prompt: Prompt, model: ModelConfig) -> dict[str, Any]:
    """What a checkpoint says of how it is to be asked: `gpg_vl.json`."""
    return {
        "prompt": prompt.to_dict(),
        "min_pixels": model.min_pixels,
        "max_pixels": model.max_pixels,
    }


def _load(path: str, model: ModelConfig, accelerator: Accelerator) -> Policy:
    return load_policy(
        path,
        precision=model.precision,
        gradient_checkpointing=model.gradient_checkpointing,
        device=accelerator.device,
    )


def _within(data: PreparedDataset, limits: DataConfig, encoder: PromptEncoder) -> PreparedDataset:
    return data.within(limits.max_prompt_tokens, encoder.prompt_length)
