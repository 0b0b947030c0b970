"""Supervised fine-tuning on answer tokens: the warm start, and the paper's "+SFT" comparison row."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from gpg_vl.checkpoint import find_checkpoint, save_checkpoint
from gpg_vl.config import SftConfig
from gpg_vl.encode import PromptEncoder
from gpg_vl.metrics import Clock, Metrics
from gpg_vl.optim import learning_rate, set_learning_rate
from gpg_vl.packing import Row, collate, cut
from gpg_vl.run_files import read_metrics
from gpg_vl.runfolder import RunFolder
from gpg_vl.session import Learner, build_learner, model_card
from gpg_vl.shutdown import Stopped, StopRequest
from gpg_vl.tracking import MetricsFile, ProgressBar
from gpg_vl.types import Sample

_WINDOW = 20  # steps whose mean loss is compared with the target


def sft(config: SftConfig, *, resume: str | None = None) -> Path:
    """Fine-tune on gold answers; returns the last checkpoint's model folder.

    Same prompts, data and run folder as `train`. SIGINT and SIGTERM save and raise Stopped.
    """
    with RunFolder.open(config, resume=resume is not None) as folder, StopRequest() as stop:
        learner = build_learner(config, find_checkpoint(folder.checkpoints, resume))
        metrics_file = MetricsFile(folder.metrics, learner.step)
        losses = [float(line["loss"]) for line in read_metrics(folder.path)]
        steps = config.run.steps
        with ProgressBar("sft", steps, learner.step) as bar:
            while learner.step < steps and not _reached(config.target_loss, losses):
                metrics = sft_step(learner, config)
                learner.step += 1
                metrics_file.write(learner.step, metrics)
                losses.append(float(metrics["loss"]))
                bar.advance(learner.step, [f"loss {metrics['loss']:.3f}"])
                done = learner.step == steps or _reached(config.target_loss, losses)
                due = config.run.save_every and learner.step % config.run.save_every == 0
                if due or done or stop.asked:
                    _save(learner, config, folder)
                if stop.asked and not done:
                    raise Stopped(f"stopped after step {learner.step}; go on with --resume auto")
        return folder.checkpoints / f"step_{learner.step:06d}" / "model"


def _reached(target: float, losses: Sequence[float]) -> bool:
    """Whether the mean of the last 20 losses is below the target."""
    window = losses[-_WINDOW:]
    return len(window) == _WINDOW and sum(window) / _WINDOW < target


def _save(learner: Learner, config: SftConfig, folder: RunFolder) -> None:
    card = model_card(config.prompt, config.model)
    save_checkpoint(
        folder.checkpoints,
        learner.state(),
        lambda path: learner.policy.save(path, card),
        keep_last=config.run.keep_last,
    )


def sft_step(learner: Learner, config: SftConfig) -> Metrics:
    """One optimizer step: mean negative log-likelihood of the batch's answer tokens."""
    clock = Clock()
    samples = [learner.data[i] for i in learner.sampler.draw(config.batch_size)]
    rows = supervised_rows(samples, learner.encoder, learner.policy.eos_token_ids[0])
    tokens = sum(len(row.answers[0]) for row in rows)
    rate = learning_rate(learner.step + 1, config.optim, config.run.steps)
    set_learning_rate(learner.optimizer, rate)
    learner.model.train()
    accelerator, total = learner.accelerator, 0.0
    micro_batches = cut(rows, config.run.micro_batch_tokens)
    for index, micro in enumerate(micro_batches):
        last = index == len(micro_batches) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(learner.model):
            logprobs, _ = learner.model(collate(micro).to(accelerator.device), 1.0)  # (M,)
            loss = -logprobs.sum() / tokens
            accelerator.backward(loss)
        total += float(loss.detach())
    limit = config.optim.max_grad_norm or float("inf")
    norm = accelerator.clip_grad_norm_(learner.model.parameters(), limit)
    learner.optimizer.step()
    learner.optimizer.zero_grad()
    figures: Metrics = {"loss": total, "grad_norm": float(norm), "learning_rate": rate}
    return figures | clock.metrics(tokens)


def supervised_rows(samples: list[Sample], encoder: PromptEncoder, eos: int) -> list[Row]:
    """Prompts with their gold answers behind them, in the tags that rewards ask for.

    The reasoning is the sample's `meta["think"]`, empty where the source has none.
    """
    tokenizer = encoder.processor.tokenizer
    rows = []
    for index, (sample, prompt) in enumerate(zip(samples, encoder.encode(samples), strict=True)):
        target = encoder.prompt.completion_target(sample.answer, str(sample.meta.get("think", "")))
        ids = tokenizer(target, add_special_tokens=False)["input_ids"]
        rows.append(Row(prompt, ((*ids, eos),), (index,)))
    return rows
