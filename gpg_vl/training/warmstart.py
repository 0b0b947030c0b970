"""Supervised fine-tuning on answer tokens: the warm start, and the paper's "+SFT" comparison row."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gpg_vl.config import RolloutConfig, SftConfig
from gpg_vl.model.packing import Row, Segment, join
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.runs.files import read_metrics
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runtime.shutdown import StopRequest
from gpg_vl.training.accelerator import build_accelerator, world_of
from gpg_vl.training.callbacks import NO_CALLBACKS, Callbacks
from gpg_vl.training.learner import Learner
from gpg_vl.training.metrics import Clock
from gpg_vl.training.micro_batches import MicroBatch
from gpg_vl.training.optim import learning_rate
from gpg_vl.training.run import open_run
from gpg_vl.training.session import (
    build_learner,
    open_validation,
    own_answerer,
    resumed_checkpoint,
)
from gpg_vl.types import Metrics, Sample

_WINDOW = 20
"""Steps whose mean loss is compared with the target."""


def sft(config: SftConfig, *, resume: str | None = None, callbacks: Callbacks = NO_CALLBACKS) -> Path:
    """Fine-tune on gold answers; returns the last checkpoint's model folder.

    Same prompts, data, run folder, evaluation and callbacks as `train`. SIGINT and SIGTERM save and raise
    Stopped.
    """
    accelerator = build_accelerator(config)
    world = world_of(accelerator)
    with RunFolder.open(config, resume=resume is not None, world=world) as folder, StopRequest() as stop:
        learner = build_learner(config, accelerator, resumed_checkpoint(config, folder, resume))
        validation = open_validation(config.data, config.eval, learner)
        rollout = RolloutConfig()
        answerer = own_answerer(learner, rollout)
        with open_run("sft", learner, config, folder, stop, callbacks) as run:
            losses = [float(line["loss"]) for line in read_metrics(folder.path)]
            done = learner.step >= config.run.steps or _reached(config.target_loss, losses)
            run.evaluate(answerer, validation, rollout.stop, last=done)
            while not done:
                with run.profiler.step():
                    metrics = sft_step(learner, config)
                learner.step += 1
                losses.append(float(metrics["loss"]))
                done = learner.step == config.run.steps or _reached(config.target_loss, losses)
                shown = [f"loss {metrics['loss']:.3f}", f"{metrics['tokens_per_second']:,.0f} tok/s"]
                done |= run.log(metrics, shown)
                run.save(last=done)
                run.evaluate(answerer, validation, rollout.stop, last=done)
        return folder.checkpoints / f"step_{learner.step:06d}" / "model"


def _reached(target: float, losses: Sequence[float]) -> bool:
    """Whether the mean of the last losses is below the target."""
    window = losses[-_WINDOW:]
    return len(window) == _WINDOW and sum(window) / _WINDOW < target


def sft_step(learner: Learner, config: SftConfig) -> Metrics:
    """One optimizer step: mean negative log-likelihood of the batch's answer tokens."""
    clock = Clock()
    own = learner.world.own(learner.sampler.draw(config.batch_size))
    samples, eos = [learner.data[i] for i in own], learner.policy.eos_token_ids[0]
    rows = supervised_rows(samples, learner.encoder, eos, reasoning=config.reasoning)
    tokens = sum(learner.world.gather([sum(row.targets for row in rows)]))
    rate = learning_rate(learner.step + 1, config.optim, config.run.steps)
    learner.model.train()
    losses = learner.gradient(rows, partial(supervised_pass, learner, tokens))
    total = sum(learner.world.gather([sum(torch.stack(losses).tolist()) if losses else 0.0]))
    norm = learner.optimizer_step(rate, config.optim.max_grad_norm)
    nonfinite = int(not math.isfinite(norm))
    figures: Metrics = {"loss": total, "grad_norm": norm, "learning_rate": rate, "nonfinite": nonfinite}
    return figures | learner.shortages() | clock.metrics(tokens)


def supervised_pass(learner: Learner, tokens: int, micros: Iterable[MicroBatch]) -> list[Tensor]:
    """Add the gradient of each micro-batch; returns their parts of the mean loss over `tokens`."""
    losses = []
    for micro in micros:
        real = learner.send((micro.answer_index >= 0).float())  # (M,), 0 for dummies
        logprobs, _ = learner.model(micro.packed, 1.0, -real)  # (M,)
        loss = -(logprobs * real).sum() / tokens
        learner.backward(loss, micro)
        losses.append(loss.detach())
    return losses


def supervised_rows(
    samples: Sequence[Sample], encoder: PromptEncoder, eos: int, *, reasoning: bool = True
) -> list[Row]:
    """Prompts with their gold answers behind them, in the tags that rewards ask for, packed.

    reasoning: whether that of the samples is written too. Short ones share a sequence as long as the longest.
    """
    tokenizer = encoder.tokenizer
    rows = []
    for index, (sample, prompt) in enumerate(zip(samples, encoder.encode(samples), strict=True)):
        ids = tokenizer(encoder.target(sample, reasoning=reasoning), add_special_tokens=False)["input_ids"]
        rows.append(Row((Segment(prompt, ((*ids, eos),), (index,)),)))
    return join(rows, max((row.length for row in rows), default=0))
