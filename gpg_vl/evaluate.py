"""Evaluation of a policy on prepared data, item by item."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from gpg_vl.answering import Answered, Answerer
from gpg_vl.config import ModelConfig, RolloutConfig
from gpg_vl.data import PreparedDataset
from gpg_vl.encode import PromptEncoder
from gpg_vl.files import write_whole
from gpg_vl.policy import load_policy, read_card
from gpg_vl.prompts import Prompt, TemplateName
from gpg_vl.rollout import RolloutEngine
from gpg_vl.runfolder import environment
from gpg_vl.sampling import Sampling
from gpg_vl.scoring import Scorer
from gpg_vl.stats import estimate
from gpg_vl.tracking import ProgressBar
from gpg_vl.types import AnswerType

_CHUNK = 128  # questions whose images are in memory at a time


def evaluate(
    answerer: Answerer,
    data: PreparedDataset,
    sampling: Sampling,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Answer every question once and grade it.

    An item's correctness is graded by the reward named like its answer type (`choice`, `number`), and is 0
    where that cannot grade it. `progress` is called with the questions done so far; what it raises ends
    the evaluation. Returns totals and per-task figures with 95 % intervals, the chance level where all
    questions are multiple-choice, and every item.
    """
    items: list[dict[str, Any]] = []
    for start in range(0, len(data), _CHUNK):
        samples = [data[i] for i in range(start, min(start + _CHUNK, len(data)))]
        items += [_item(answered) for answered in answerer.answer(samples, 1, sampling)]
        progress(len(items))
    tasks = sorted({item["task"] for item in items})
    return {
        "data": list(data.folders),
        "left_out": data.left_out,
        "prompt": answerer.encoder.prompt.to_dict(),
        "sampling": asdict(sampling),
        "chance": _chance(items),
        "totals": _figures(items),
        "tasks": {task: _figures([i for i in items if i["task"] == task]) for task in tasks},
        "items": items,
        "environment": environment(),
    }


@cache
def grader(answer_type: AnswerType) -> Scorer:
    """Correctness by the reward named like the answer type, and format.

    Raises UnknownNameError for an answer type that no installed reward grades.
    """
    return Scorer({answer_type: 1.0, "format": 1.0})


def _item(answered: Answered) -> dict[str, Any]:
    sample, answer, completion = answered.sample, answered.answers[0], answered.completions[0]
    scores = grader(sample.answer_type).score(sample, [completion])
    return {
        "id": sample.id,
        "task": sample.task,
        "cluster": sample.meta.get("cluster"),
        "question": sample.question,
        "choices": list(sample.choices),
        "gold": sample.answer,
        "output": answer.text,
        "answer": completion.answer,
        "scores": {name: values[0] for name, values in scores.by_reward.items()},
        "correct": scores.correctness[0] if scores.correctness else 0.0,
        "finish_reason": answer.finish_reason,
        "token_count": len(answer.token_ids),
    }


def _figures(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy and format rate with their intervals; clustered where items share one."""
    clusters = [item["cluster"] for item in items]
    accuracy = estimate([item["correct"] for item in items], clusters)
    formats = estimate([item["scores"]["format"] for item in items], clusters)
    return {"accuracy": vars(accuracy), "format": vars(formats), "chance": _chance(items)}


def _chance(items: Sequence[dict[str, Any]]) -> float | None:
    """Expected accuracy of guessing; None unless every question has choices."""
    if not items or not all(item["choices"] for item in items):
        return None
    return float(sum(1 / len(item["choices"]) for item in items) / len(items))


def write_evaluation(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Write as JSON, whole or not at all."""
    write_whole(path, json.dumps(evaluation, indent=1, ensure_ascii=False))


def evaluate_model(
    path: str,
    data: str,
    sampling: Callable[[tuple[str, ...]], Sampling],
    *,
    template: TemplateName | None,
    limit: int,
    max_concurrent: int,
    seed: int,
) -> dict[str, Any]:
    """Evaluate a model folder or hub id on a prepared set.

    A checkpoint brings its own prompt, pixel limits and stop texts (`gpg_vl.json`); a foreign model gets
    the defaults. `template` overrides the checkpoint's; `sampling` makes the settings from the stop texts.
    """
    policy = load_policy(path, device="cuda" if torch.cuda.is_available() else "cpu")
    card = read_card(path) or {}
    prompt = Prompt(template) if template else Prompt.from_dict(card.get("prompt", {}))
    limits = ModelConfig()
    encoder = PromptEncoder(
        policy.processor,
        prompt,
        family=policy.family,
        min_pixels=card.get("min_pixels", limits.min_pixels),
        max_pixels=card.get("max_pixels", limits.max_pixels),
    )
    rows = PreparedDataset.open([data]).head(limit)
    answerer = Answerer(encoder, RolloutEngine(policy, max_concurrent=max_concurrent, seed=seed))
    stop = tuple(card.get("stop", RolloutConfig().stop))
    with ProgressBar("evaluate", len(rows)) as bar:
        evaluation = evaluate(answerer, rows, sampling(stop), progress=bar.advance)
    return {"step": 0, "model": path, **evaluation}


def evaluation_table(evaluation: Mapping[str, Any]) -> str:
    """Accuracy and format rate by task and in total, with 95 % intervals, as a Markdown table."""
    lines = [
        "| task | questions | chance | accuracy | 95 % interval | format |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for task, figures in [*evaluation["tasks"].items(), ("total", evaluation["totals"])]:
        accuracy, form, chance = figures["accuracy"], figures["format"], figures["chance"]
        lines.append(
            f"| {task} | {accuracy['count']} | {'–' if chance is None else f'{chance:.1%}'} "
            f"| {accuracy['mean']:.1%} | {accuracy['low']:.1%} to {accuracy['high']:.1%} "
            f"| {form['mean']:.1%} |"
        )
    return "\n".join(lines)


def in_words(evaluation: Mapping[str, Any]) -> str:
    """Accuracy and format rate in half a line."""
    accuracy, form = evaluation["totals"]["accuracy"], evaluation["totals"]["format"]
    return f"accuracy {accuracy['mean']:.1%} on {accuracy['count']} questions, format {form['mean']:.1%}"
