"""Builds what the loop works with, from a configuration and perhaps a checkpoint."""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gpg_vl.config import DataConfig, EvalConfig, ModelConfig, RolloutConfig, SftConfig, TrainConfig
from gpg_vl.data.by_difficulty import Choice
from gpg_vl.data.curriculum import arrangement
from gpg_vl.data.overlap import overlap_warning
from gpg_vl.data.prepared import PreparedDataset, Sampler
from gpg_vl.errors import ConfigurationError
from gpg_vl.evaluation.benchmarks import protocol_of
from gpg_vl.evaluation.grading import check_rewards
from gpg_vl.model.adapt import check_adapters, choose_weights
from gpg_vl.model.frontend import Frontend
from gpg_vl.model.holding import Holding
from gpg_vl.model.loading import computes_in_bf16, load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.card import asking_card, asking_note
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.rollout.answering import Answerer, build_encoder, check_room
from gpg_vl.rollout.engine import Engine
from gpg_vl.rollout.own import decode_options
from gpg_vl.rollout.sparing import SparingEngine
from gpg_vl.rollout.vllm.asking import Asking
from gpg_vl.rollout.vllm.in_process import VllmEngine
from gpg_vl.rollout.vllm.server import ServerEngine
from gpg_vl.runs.checkpoint import (
    find_checkpoint,
    load_random_states,
    load_state,
    restore_random_states,
)
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.settings import check_branch
from gpg_vl.runs.states import check_shards
from gpg_vl.runtime.memory import Fit, agree, ended, let_go
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.training.accelerator import world_of
from gpg_vl.training.ahead import QuestionReader, own_rows, worker_count
from gpg_vl.training.chosen import choose_rows
from gpg_vl.training.deepspeed_ops import announced
from gpg_vl.training.learner import Learner
from gpg_vl.training.metrics import followed_tasks
from gpg_vl.training.optim import build_optimizer, restore_moments, settings_of


@dataclass
class Session:
    """What the reinforcement-learning loop works with."""

    config: TrainConfig
    learner: Learner
    reader: QuestionReader
    answerer: Answerer
    scorer: Scorer
    reference: Policy | None
    """The frozen first model of a KL term; GPG has none."""
    validation: PreparedDataset | None
    tasks: tuple[str, ...] = ()
    """Those with metrics of their own."""


def build_learner(
    config: TrainConfig | SftConfig, accelerator: Accelerator, checkpoint: Path | None
) -> Learner:
    """Load model and data, and continue from `checkpoint` if there is one.

    Raises ModelError, DataError, CheckpointError or ConfigurationError for what the user can mend.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed)
    path = str(checkpoint / "model") if checkpoint else config.model.path
    check_adapters(path, config.model)
    world = world_of(accelerator)
    choice = choose_rows(config.data, checkpoint, world)
    data = PreparedDataset.open(config.data.train) if choice is None else choice.data
    if choice is not None:
        accelerator.print(f"data.difficulty: {choice.note()}", file=sys.stderr)
    if checkpoint is None and (note := asking_note(path, config.prompt, config.model.pixels)):
        accelerator.print(note, file=sys.stderr)
    policy = _load(path, config.model, accelerator)
    choose_weights(policy, config.model)
    encoder = build_encoder(policy, config.prompt, config.model)
    data = _usable(data, config, policy, encoder)
    if note := data.left_out_note():
        accelerator.print(note, file=sys.stderr)
    optimizer = build_optimizer(policy, config.optim)
    sampler, tokens = _sampler(data, choice, config), config.run.micro_batch_tokens
    learner = Learner(accelerator, world, policy, policy, optimizer, encoder, data, sampler, 0, tokens)
    learner.choice = choice
    if accelerator.state.deepspeed_plugin is not None:
        with announced(accelerator):
            learner.model, learner.optimizer = accelerator.prepare(policy, optimizer)
    else:
        world.share(weight.detach() for weight in policy.parameters() if weight.requires_grad)
    if checkpoint is not None:
        _restore(learner, checkpoint, config.optim.kind)
        elsewhere = checkpoint.resolve().parents[1] != Path(config.out).resolve()
        if elsewhere and learner.step >= config.run.steps:
            raise ConfigurationError(
                f"{str(checkpoint)!r} is of step {learner.step}: run.steps {config.run.steps} leaves nothing "
                "to train; it counts from the first step of all"
            )
    return learner


def _sampler(data: PreparedDataset, choice: Choice | None, config: TrainConfig | SftConfig) -> Sampler:
    """The order of the rows that are left of those chosen."""
    rates = [None if choice is None else choice.rates[number] for number in data.row_numbers]
    arrange = arrangement(config.data.curriculum, rates)
    return Sampler(len(data), config.run.seed, shuffle=config.data.shuffle, arrange=arrange)


def resumed_checkpoint(config: TrainConfig | SftConfig, folder: RunFolder, resume: str | None) -> Path | None:
    """The checkpoint to go on from. Raises CheckpointError or ConfigurationError where that cannot be."""
    checkpoint = find_checkpoint(folder.checkpoints, resume)
    if checkpoint is not None and checkpoint.resolve().parent != folder.checkpoints.resolve():
        check_branch(checkpoint, config)
    return checkpoint


def _usable(
    data: PreparedDataset, config: TrainConfig | SftConfig, policy: Policy, encoder: PromptEncoder
) -> PreparedDataset:
    """The rows that can be trained on. Raises DataError or ConfigurationError if there are none."""
    length = encoder.prompt_length
    if isinstance(config, SftConfig):
        supervised = encoder.supervised_prompt_length
        length = partial(supervised, context=policy.context, reasoning=config.reasoning)
    data = data.within(config.data.max_prompt_tokens, length)
    if config.model.freeze_language and not any(data.peek(i).images for i in range(len(data))):
        raise ConfigurationError("model.freeze_language: no row has an image, so nothing would be trained")
    return data


def _restore(learner: Learner, checkpoint: Path, kind: str) -> None:
    """Continue where the checkpoint was written; its weights are loaded already."""
    world = learner.world
    state = world.together(lambda: load_state(checkpoint, learner.layout))
    randoms = world.together(lambda: load_random_states(checkpoint, world.rank))
    learner.step = state.step
    learner.sampler.consumed = state.consumed
    if learner.engine is None:
        restore_moments(learner.optimizer, state.optimizer, kind)
    else:
        settings = settings_of(learner.optimizer)
        check_shards(checkpoint / "state" / "deepspeed", world)
        learner.engine.load_checkpoint(str(checkpoint / "state" / "deepspeed"), tag="state")
        for group, own in zip(learner.optimizer.param_groups, settings, strict=True):
            group.update(own)
    restore_random_states(randoms)


def build_session(config: TrainConfig, accelerator: Accelerator, checkpoint: Path | None) -> Session:
    """A learner with its rollout engine, rewards, validation data and, for a KL term, the reference."""
    scorer = Scorer(config.rewards)
    learner = build_learner(config, accelerator, checkpoint)
    tasks = Counter(learner.data.column("task"))
    # A task without rewards is better found now than hours later.
    for note in scorer.notes(tasks):
        learner.accelerator.print(note, file=sys.stderr)
    reference = None
    if config.algorithm.kl_beta > 0:
        reference = _load(config.model.path, config.model, learner.accelerator, trained=False)
        reference.eval().requires_grad_(False)
    rows = own_rows(learner.sampler, learner.world, config.algorithm.questions_per_step)
    reader = QuestionReader(learner.data, learner.encoder, rows, worker_count(config.data.workers))
    validation = open_validation(config.data, config.eval, learner)
    check_room(
        learner.policy.context, learner.data.longest, config.rollout.max_new_tokens, "rollout.max_new_tokens"
    )
    if validation is not None and (text := overlap_warning(config.data.train, config.data.validation)):
        learner.accelerator.print(text, file=sys.stderr)
    answerer = build_answerer(learner, config, validation)  # last: it may wait for a server
    return Session(config, learner, reader, answerer, scorer, reference, validation, followed_tasks(tasks))


def own_answerer(learner: Learner, rollout: RolloutConfig) -> Answerer:
    """The policy itself."""
    policy = learner.policy
    options = decode_options(policy.device, graphs=rollout.cuda_graphs, fused=rollout.fused_attention)
    engine = SparingEngine(
        policy, max_concurrent=rollout.max_concurrent, seed=learner.sampler.seed, options=options
    )
    return Answerer(learner.encoder, engine)


def build_answerer(learner: Learner, config: TrainConfig, validation: PreparedDataset | None) -> Answerer:
    """The engine that is configured, on the learner's weights.

    Raises EngineError where it is not there, ConfigurationError where its sequences are too short.
    """
    rollout, policy = config.rollout, learner.policy
    if rollout.engine == "own":
        return own_answerer(learner, rollout)
    longest = learner.data.longest + rollout.max_new_tokens
    if validation is not None:
        longest = max(longest, validation.longest + config.eval.max_new_tokens)
    asking = Asking(Frontend.of(policy), learner.sampler.seed)
    weights = partial(learner.published, torch.bfloat16 if policy.bf16 else None)
    shared: Any = {"max_concurrent": rollout.max_concurrent, "world": learner.world, "weights": weights}
    if rollout.engine == "server":
        engine: Engine = ServerEngine(rollout.server, asking, device=policy.device, max_len=longest, **shared)
        return Answerer(learner.encoder, engine)
    limit = rollout.vllm.max_model_len or longest
    if limit < longest:
        raise ConfigurationError(
            f"rollout.vllm.max_model_len {limit}: prompt and answer have up to {longest} tokens here"
        )
    engine = VllmEngine(rollout.vllm, config.model, asking, bf16=policy.bf16, max_len=limit, **shared)
    return Answerer(learner.encoder, engine)


@contextlib.contextmanager
def sampling_alike(learner: Learner, answerer: Answerer) -> Iterator[None]:
    """Around what each process samples by itself: behind it they agree on the memory that it took.

    Raises OutOfMemoryError on all of them where one ran out with a group alone. Engines beside the policy
    have memory of their own.
    """
    if not isinstance(answerer.engine, SparingEngine):
        yield
        return
    failure: torch.OutOfMemoryError | None = None
    try:
        yield
    except torch.OutOfMemoryError as error:
        let_go(error)
        failure = error
    agree_on_sampling(learner, answerer, failure)


def agree_on_sampling(
    learner: Learner, answerer: Answerer, failure: torch.OutOfMemoryError | None = None
) -> None:
    """Go on with the least `max_concurrent` of all processes, which all call it; see `sampling_alike`."""
    engine = answerer.engine
    if not isinstance(engine, SparingEngine):
        return
    fit = Fit(engine.max_concurrent, engine.tries, ended(failure))
    engine.tries = 0
    engine.max_concurrent, tries = agree(learner.world, fit, "rollout.max_concurrent", failure)
    learner.out_of_memory += tries


def open_validation(data: DataConfig, limits: EvalConfig, learner: Learner) -> PreparedDataset | None:
    """The validation set, graded by rewards that exist; None where none is configured."""
    if not data.validation:
        return None
    rows = PreparedDataset.open(data.validation).head(limits.limit)
    rows = rows.within(data.max_prompt_tokens, learner.encoder.prompt_length)
    if note := rows.left_out_note():
        learner.accelerator.print(note, file=sys.stderr)
    check_room(learner.policy.context, rows.longest, limits.max_new_tokens, "eval.max_new_tokens")
    check_rewards(protocol_of(data.validation), rows.column("answer_type"))
    return rows


def model_card(config: TrainConfig | SftConfig) -> dict[str, Any]:
    """What a checkpoint says of how it is to be asked, and what it was rewarded for: `gpg_vl.json`."""
    if isinstance(config, SftConfig):
        return asking_card(config.prompt, config.model.pixels)
    card = asking_card(config.prompt, config.model.pixels, config.rollout.stop)
    return card | {"rewards": dict(config.rewards)}


def _load(path: str, model: ModelConfig, accelerator: Accelerator, *, trained: bool = True) -> Policy:
    bf16 = computes_in_bf16(model.precision, accelerator.device)
    return load_policy(
        path,
        precision=model.precision,
        gradient_checkpointing=model.gradient_checkpointing,
        compiled=model.compile,
        attention=model.attention,
        vision_attention=model.vision_attention,
        device=accelerator.device,
        holding=Holding.of(model, bf16=bf16) if trained else Holding.untrained(bf16=bf16),
    )
