"""The loop: sample groups, score them, follow the policy gradient."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gpg_vl.batch import Knobs, StepBatch, sampled_logprobs, step_batch
from gpg_vl.checkpoint import find_checkpoint, save_checkpoint
from gpg_vl.collect import Collection, Group, collect
from gpg_vl.config import TrainConfig
from gpg_vl.evaluate import evaluate, write_evaluation
from gpg_vl.losses import LOSSES
from gpg_vl.metrics import Clock, Metrics, UpdateFigures, collection_metrics, collection_tokens
from gpg_vl.optim import learning_rate, set_learning_rate
from gpg_vl.packing import PackedBatch, collate, cut
from gpg_vl.runfolder import RunFolder
from gpg_vl.sampling import Sampling
from gpg_vl.session import Session, build_session, model_card
from gpg_vl.shutdown import Stopped, StopRequest
from gpg_vl.tracking import MetricsFile, ProgressBar, Trackers, write_rollouts
from gpg_vl.types import Sample


def train_step(session: Session, step: int) -> tuple[Collection, Tensor, Metrics]:
    """One step: the paper's algorithm box.

    Returns every sampled group, their advantages (B, G) and the step's metrics. Without a valid group the
    weights stay as they are.
    """
    config, algorithm, learner = session.config, session.config.algorithm, session.learner
    clock = Clock()
    collection = collect(
        lambda count: [learner.data[i] for i in learner.sampler.draw(count)],
        lambda samples, round: sample_groups(session, samples, step, round, clock),
        questions_per_step=algorithm.questions_per_step,
        min_valid_fraction=algorithm.min_valid_fraction,
        max_rounds=algorithm.max_rounds,
    )
    batch, advantages = step_batch(
        collection,
        Knobs.of(algorithm, config.rollout.max_new_tokens),
        packing=config.run.packing,
        max_tokens=config.run.micro_batch_tokens,
        token_cost=learner.policy.token_cost,
    )
    metrics = collection_metrics(collection, advantages.alpha)
    if batch is not None:
        with clock("update"):
            metrics |= update(session, batch, step)
    metrics |= clock.metrics(collection_tokens(collection)) | {"skipped": int(batch is None)}
    return collection, advantages.values, metrics


def sample_groups(
    session: Session, samples: Sequence[Sample], step: int, round: int, clock: Clock
) -> list[Group]:
    """Answer and score one round of questions."""
    rollout = session.config.rollout
    sampling = Sampling(rollout.max_new_tokens, rollout.temperature, stop=tuple(rollout.stop))
    # Told apart by index, not by id alone: one question may be drawn twice in a step.
    ids = [f"{sample.id}/{round}/{index}" for index, sample in enumerate(samples)]
    with clock("rollout"):
        answered = session.answerer.answer(samples, rollout.group_size, sampling, step=step, ids=ids)
    with clock("rewards"):
        return [Group(one, session.scorer.score(one.sample, one.completions), round) for one in answered]


def update(session: Session, batch: StepBatch, step: int) -> Metrics:
    """Follow the gradient of one batch, `updates_per_rollout` times."""
    config, learner = session.config, session.learner
    accelerator, model, optimizer = learner.accelerator, learner.model, learner.optimizer
    loss_fn = LOSSES[config.algorithm.preset]
    rate = learning_rate(step, config.optim, config.run.steps)
    set_learning_rate(optimizer, rate)
    micro_batches = cut(batch.rows, config.run.micro_batch_tokens)
    old: list[Tensor | None] = [None] * len(micro_batches)
    figures = UpdateFigures()
    model.train()
    for _ in range(config.algorithm.updates_per_rollout):
        for index, rows in enumerate(micro_batches):
            micro = collate(rows).to(accelerator.device)
            last = index == len(micro_batches) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(model):
                logprobs, entropies = model(micro, config.rollout.temperature)  # (M,), (M,)
                loss, parts = loss_fn(
                    logprobs,
                    **batch.per_token(micro.answer_index),
                    old_logprobs=old[index],
                    clip=config.algorithm.clip,
                    reference_logprobs=reference_logprobs(session, micro),
                    kl_beta=config.algorithm.kl_beta,
                )
                accelerator.backward(loss)
            if old[index] is None:
                old[index] = logprobs.detach()
                figures.add_tokens(logprobs.detach(), entropies, sampled_logprobs(rows, batch))
            figures.add_loss(loss, parts)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        figures.add_norm(float(norm))
    return figures.metrics() | {"learning_rate": rate}


@torch.no_grad()
def reference_logprobs(session: Session, micro: PackedBatch) -> Tensor | None:
    """Log-probabilities under the frozen reference, (M,); None without a KL term."""
    if session.reference is None:
        return None
    logprobs: Tensor = session.reference(micro, session.config.rollout.temperature)[0]
    return logprobs


def train(config: TrainConfig, *, resume: str | None = None) -> Path:
    """Train as configured; returns the last checkpoint's model folder.

    `resume` is None, "auto" (go on where the run folder stopped, if it did) or a checkpoint folder.
    SIGINT and SIGTERM finish the step, save, and raise Stopped.
    """
    with RunFolder.open(config, resume=resume is not None) as folder, StopRequest() as stop:
        session = build_session(config, find_checkpoint(folder.checkpoints, resume))
        learner, steps = session.learner, config.run.steps
        metrics_file = MetricsFile(folder.metrics, learner.step)
        trackers = Trackers(learner.accelerator, config)
        if learner.step in (0, steps) or _due(learner.step, config.eval.every):
            evaluate_at(session, folder, learner.step)
        with ProgressBar("train", steps, learner.step) as bar:
            while learner.step < steps:
                step = learner.step + 1
                collection, advantages, metrics = train_step(session, step)
                learner.step = step
                write_rollouts(folder.rollouts / f"step_{step:06d}.parquet", collection, advantages)
                metrics_file.write(step, metrics)
                trackers.log(step, metrics)
                bar.advance(step, _shown(metrics))
                if _due(step, config.run.save_every) or step == steps or stop.asked:
                    save(session, folder)
                if stop.asked and step < steps:
                    raise Stopped(f"stopped after step {step}; go on with --resume auto")
                if _due(step, config.eval.every) or step == steps:
                    evaluate_at(session, folder, step)
        trackers.close()
        return folder.checkpoints / f"step_{steps:06d}" / "model"


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def save(session: Session, folder: RunFolder) -> None:
    """Write a checkpoint of the current step."""
    config, learner = session.config, session.learner
    card = model_card(config.prompt, config.model) | {"rewards": dict(config.rewards)}
    save_checkpoint(
        folder.checkpoints,
        learner.state(),
        lambda path: learner.policy.save(path, card),
        keep_last=config.run.keep_last,
    )


def evaluate_at(session: Session, folder: RunFolder, step: int) -> None:
    """Evaluate on the validation set, unless a resumed run did so at this step already."""
    path = folder.evaluations / f"step_{step:06d}.json"
    if session.validation is None or path.exists():
        return
    with ProgressBar("evaluate", len(session.validation)) as bar:
        evaluation = evaluate(
            session.answerer,
            session.validation,
            max_new_tokens=session.config.rollout.max_new_tokens,
            stop=session.config.rollout.stop,
            progress=bar.advance,
        )
    write_evaluation(path, {"step": step, "model": session.config.model.path, **evaluation})


def _shown(metrics: Metrics) -> list[str]:
    shown = {
        "reward": "reward/mean",
        "accuracy": "accuracy",
        "α": "alpha",
        "tok/s": "tokens_per_second",
    }
    return [f"{label} {metrics[name]:.3g}" for label, name in shown.items() if name in metrics]
