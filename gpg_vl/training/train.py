"""The loop: sample groups, score them, follow the policy gradient."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpg_vl.algorithm.batch import Knobs, StepBatch, sampled_logprobs, step_batch
from gpg_vl.algorithm.collect import Collection, Group, collect
from gpg_vl.algorithm.losses import LOSSES
from gpg_vl.config import TrainConfig
from gpg_vl.model.importance import Importance
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.resume import newest_checkpoint
from gpg_vl.runtime.shutdown import StopRequest
from gpg_vl.scoring.scorer import check_graded
from gpg_vl.training.accelerator import build_accelerator, world_of
from gpg_vl.training.ahead import ScoringAhead
from gpg_vl.training.callbacks import NO_CALLBACKS, Callbacks, Step
from gpg_vl.training.metrics import Clock, UpdateFigures, collection_metrics, collection_tokens, count_metrics
from gpg_vl.training.micro_batches import MicroBatch, deal
from gpg_vl.training.optim import learning_rate
from gpg_vl.training.records import write_rollouts
from gpg_vl.training.run import open_run
from gpg_vl.training.session import (
    Session,
    build_session,
    resumed_checkpoint,
    sampling_alike,
)
from gpg_vl.types import Metrics


def train_step(session: Session, step: int) -> tuple[Collection, Tensor, Metrics]:
    """One step: the paper's algorithm box.

    Returns every sampled group, their advantages (B, G) and the step's metrics. Without a valid group, or
    with log-probabilities that are not finite, the weights stay as they are.
    """
    config, algorithm, learner = session.config, session.config.algorithm, session.learner
    clock, engine = Clock(learner.world.rank, config.run.phase_limit), session.answerer.engine
    learner.bring_weights(engine, config.run.phase_limit)
    with learner.whole_weights() if engine.own else nullcontext():
        collection = collect(
            learner.sampler.draw,
            lambda rows, number: sample_groups(session, rows, step, number, clock),
            questions_per_step=algorithm.questions_per_step,
            min_valid_fraction=algorithm.min_valid_fraction,
            max_rounds=algorithm.max_rounds,
        )
    engine.rest()
    batch, advantages = step_batch(
        collection,
        Knobs.of(algorithm, config.rollout.max_new_tokens),
        packing=config.run.packing,
        max_tokens=config.run.micro_batch_tokens,
        token_cost=learner.policy.token_cost,
    )
    metrics = collection_metrics(collection, advantages.alpha, session.tasks)
    if not collection.finite:
        metrics["nonfinite"] = 1
    elif batch is not None:
        with clock("update"):
            metrics |= update(session, batch, step)
    metrics |= count_metrics(learner.world)
    metrics |= learner.shortages() | learner.syncs() | {"skipped": int(batch is None)}
    metrics |= clock.metrics(collection_tokens(collection))
    return collection, advantages.values, metrics


def sample_groups(session: Session, rows: Sequence[int], step: int, number: int, clock: Clock) -> list[Group]:
    """Answer and score round `number` of a step's questions, each on one of the processes."""
    rollout, learner = session.config.rollout, session.learner
    sampling = Sampling(rollout.max_new_tokens, rollout.temperature, stop=tuple(rollout.stop))
    own = learner.world.own(list(enumerate(rows)))
    with clock("questions"):
        questions = session.reader.take([row for _, row in own])
    # Told apart by index, not by id alone: one question may be drawn twice in a step.
    ids = [f"{one.sample.id}/{number}/{index}" for one, (index, _) in zip(questions, own, strict=True)]
    with sampling_alike(learner, session.answerer), ScoringAhead(session.scorer) as scoring:
        with clock("rollout"):
            answered = session.answerer.sample(
                questions, rollout.group_size, sampling, step=step, ids=ids, done=scoring.submit
            )
        with clock("rewards"):
            scores = scoring.results()
    per_reward = session.config.algorithm.per_reward
    groups = [
        Group(one, s, number, row, per_reward) for one, s, (_, row) in zip(answered, scores, own, strict=True)
    ]
    return learner.world.gather(
        [group if learner.world.size == 1 else group.without_images() for group in groups]
    )


def update(session: Session, batch: StepBatch, step: int) -> Metrics:
    """Follow the gradient of each of a batch's mini-batches, `updates_per_rollout` times.

    Waits for a GPU once per optimizer step, for the gradient's norm.
    """
    config, learner = session.config, session.learner
    rate = learning_rate(step, config.optim, config.run.steps)
    figures = UpdateFigures()
    learner.model.train()
    mini_batches = [
        learner.with_images(deal(rows, learner.world), batch.sources) for rows in batch.mini_batches
    ]
    old: list[dict[int, Tensor]] = [{} for _ in mini_batches]
    for number, rows in enumerate(mini_batches[1:], start=1):  # before the first's step changes the weights
        found, old[number] = learner.passes(rows, partial(logprob_pass, session, batch))
        figures.join(found)
    for _ in range(config.algorithm.updates_per_rollout):
        for number, rows in enumerate(mini_batches):
            found, logprobs = learner.gradient(rows, partial(gradient_pass, session, batch, old[number]))
            figures.join(found)
            old[number] = old[number] or logprobs
            figures.add_norm(learner.optimizer_step(rate, config.optim.max_grad_norm))
    return figures.metrics(learner.world) | {"learning_rate": rate}


def logprob_pass(
    session: Session, batch: StepBatch, micros: Iterable[MicroBatch]
) -> tuple[UpdateFigures, dict[int, Tensor]]:
    """As `gradient_pass` at a rollout's first step, but without a gradient.

    By the same kernels, so that a ratio is that of weights alone: compiled ones are those of gradient passes.
    """
    learner, temperature = session.learner, session.config.rollout.temperature
    cap = importance_cap(session)
    figures, found = UpdateFigures(), dict[int, Tensor]()
    for micro in micros:
        sampled = learner.send(sampled_logprobs(micro.rows, batch, len(micro.answer_index)))  # (M,)
        with torch.set_grad_enabled(session.config.model.compile):
            logprobs, entropies = learner.model(micro.packed, temperature)  # (M,), (M,)
        found |= micro.by_answer(logprobs.detach())
        figures.add_sampled(logprobs, entropies, sampled, micro.tokens, cap)
    return figures, found


def gradient_pass(
    session: Session, batch: StepBatch, old: Mapping[int, Tensor], micros: Iterable[MicroBatch]
) -> tuple[UpdateFigures, dict[int, Tensor]]:
    """Add the gradient of each micro-batch; returns their figures, and log-probabilities by answer.

    `old` are those of the weights that sampled, empty where these are still the same.
    """
    config, learner = session.config, session.learner
    loss_fn = LOSSES[config.algorithm.preset]
    temperature = config.rollout.temperature
    cap = importance_cap(session)
    figures, found, first = UpdateFigures(), dict[int, Tensor](), not old
    for micro in micros:
        packed = micro.packed
        advantages = learner.send(batch.per_token(batch.advantages, micro.answer_index))  # (M,)
        weights = learner.send(batch.per_token(batch.weights, micro.answer_index))  # (M,)
        sampled = learner.send(sampled_logprobs(micro.rows, batch, len(micro.answer_index)))  # (M,)
        importance = Importance(sampled, cap) if cap else None
        # The ratio is 1 in the first step: without a KL term, every loss has GPG's slopes.
        slopes = -advantages * weights if first and session.reference is None else None
        logprobs, entropies = learner.model(packed, temperature, slopes, importance)  # (M,), (M,)
        before = None if first else old_logprobs(old, micro, logprobs)
        if importance is not None:  # of the weights that sampled: the ratio says what came since
            weights = weights * importance.weights(logprobs if before is None else before)
        loss, sums = loss_fn(logprobs, advantages, weights, **ratio_inputs(session, batch, micro, before))
        learner.backward(loss, micro)
        figures.add(loss, sums, tokens=micro.tokens)
        if first:
            found |= micro.by_answer(logprobs.detach())
            figures.add_sampled(logprobs, entropies, sampled, micro.tokens, cap)
    return figures, found


def importance_cap(session: Session) -> float | None:
    """None where the trainer itself sampled."""
    return None if session.answerer.engine.own else session.config.algorithm.importance_cap


def old_logprobs(old: Mapping[int, Tensor], micro: MicroBatch, logprobs: Tensor) -> Tensor:
    """(M,) of the weights that sampled, whatever the cut was; a dummy, of weight 0, keeps its own."""
    return torch.cat([*(old[index] for index, _ in micro.answers), logprobs[micro.tokens :].detach()])


def ratio_inputs(session: Session, batch: StepBatch, micro: MicroBatch, old: Tensor | None) -> dict[str, Any]:
    """What the clipped losses take beside GPG's three tensors; nothing for GPG."""
    algorithm = session.config.algorithm
    if algorithm.preset == "gpg":
        return {}
    inputs: dict[str, Any] = {"old_logprobs": old, "clip": algorithm.clip, "clip_high": algorithm.clip_high}
    if algorithm.ratio == "sequence":
        inputs["answers"] = session.learner.send(micro.answer_index)
    if session.reference is not None:
        with torch.no_grad():
            reference, _ = session.reference(micro.packed, session.config.rollout.temperature)
        kl_weights = session.learner.send(batch.per_token(batch.kl_weights, micro.answer_index))
        inputs |= {"reference_logprobs": reference, "kl_weights": kl_weights, "kl_beta": algorithm.kl_beta}
    return inputs


def train(config: TrainConfig, *, resume: str | None = None, callbacks: Callbacks = NO_CALLBACKS) -> Path:
    """Train as configured; returns the last checkpoint's model folder. See `steps`."""
    for _ in steps(config, resume=resume, callbacks=callbacks):
        pass
    last = newest_checkpoint(Path(config.out) / "checkpoints")
    assert last is not None  # the last step is always saved
    return last / "model"


def steps(
    config: TrainConfig, *, resume: str | None = None, callbacks: Callbacks = NO_CALLBACKS
) -> Iterator[Step]:
    """The loop, a step at a time: each is written down, and evaluated and saved if it is due, when it comes.

    `resume` is None, "auto" (go on where the run folder stopped, if it did) or a checkpoint folder.
    SIGINT and SIGTERM finish the step, save, and raise Stopped. Who leaves the loop early has the
    checkpoints that were due until then.
    """
    accelerator = build_accelerator(config)
    world = world_of(accelerator)
    with RunFolder.open(config, resume=resume is not None, world=world) as folder, StopRequest() as stop:
        session = build_session(config, accelerator, resumed_checkpoint(config, folder, resume))
        learner = session.learner
        with (
            session.reader,
            open_run("train", learner, config, folder, stop, callbacks) as run,
            closing(session.answerer.engine),  # before the trackers end, and the processes' group with them
        ):
            evaluate = partial(
                run.evaluate,
                session.answerer,
                session.validation,
                config.rollout.stop,
                scorer=session.scorer if config.eval.rewards else None,
            )
            evaluate(last=learner.step >= config.run.steps)
            while learner.step < config.run.steps:
                with run.profiler.step():
                    collection, advantages, metrics = train_step(session, learner.step + 1)
                learner.step += 1
                if world.main:
                    record = folder.rollouts / f"step_{learner.step:06d}.parquet"
                    write_rollouts(record, collection, advantages)
                    run.callbacks.call("on_groups", learner.step, collection.groups)
                run.log_groups(collection, advantages)
                ended = run.log(metrics, _shown(metrics, age=config.algorithm.age))
                if learner.step == 1:
                    check_graded(group.scores for group in collection.groups)
                last = ended or learner.step == config.run.steps
                run.save(last=last)
                evaluate(last=last)
                yield Step(learner.step, collection.groups, advantages, metrics)
                if ended:
                    return


def _shown(metrics: Metrics, *, age: bool) -> list[str]:
    shown = {"reward": "reward/mean", "acc": "accuracy"} | ({"α": "alpha"} if age else {})
    figures = [f"{label} {metrics[name]:.2f}" for label, name in shown.items() if name in metrics]
    return [*figures, f"{metrics['tokens_per_second']:,.0f} tok/s"]
