"""Greedy evaluation of a policy on prepared data, item by item."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gpg_vl.answering import Answered, Answerer
from gpg_vl.config import ModelConfig, RolloutConfig
from gpg_vl.data import PreparedDataset
from gpg_vl.encode import PromptEncoder
from gpg_vl.policy import load_policy, read_card
from gpg_vl.prompts import Prompt, TemplateName
from gpg_vl.rollout import RolloutEngine
from gpg_vl.runfolder import environment
from gpg_vl.sampling import Sampling
from gpg_vl.scoring import Scorer
from gpg_vl.stats import estimate
from gpg_vl.tracking import ProgressBar

_CHUNK = 256  # questions whose images are in memory at a time


def evaluate(
    answerer: Answerer,
    data: PreparedDataset,
    *,
    max_new_tokens: int,
    stop: Sequence[str],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Answer every question greedily and grade it.

    An item's correctness is graded by the reward named like its answer type (`choice`, `number`), and is 0
    where that cannot grade it.
    Returns totals and per-task figures with 95 % intervals, the chance level where all questions are
    multiple-choice, and every item.
    """
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=0.0, stop=tuple(stop))
    scorers: dict[str, Scorer] = {}
    items: list[dict[str, Any]] = []
    for start in range(0, len(data), _CHUNK):
        samples = [data[i] for i in range(start, min(start + _CHUNK, len(data)))]
        for answered in answerer.answer(samples, 1, sampling):
            kind = answered.sample.answer_type
            if kind not in scorers:
                scorers[kind] = Scorer({kind: 1.0, "format": 1.0})
            items.append(_item(answered, scorers[kind]))
        progress(len(items))
    tasks = sorted({item["task"] for item in items})
    return {
        "data": list(data.folders),
        "left_out": data.left_out,
        "prompt": answerer.encoder.prompt.to_dict(),
        "chance": _chance(items),
        "totals": _figures(items),
        "tasks": {task: _figures([i for i in items if i["task"] == task]) for task in tasks},
        "items": items,
        "environment": environment(),
    }


def _item(answered: Answered, scorer: Scorer) -> dict[str, Any]:
    sample, answer, completion = answered.sample, answered.answers[0], answered.completions[0]
    scores = scorer.score(sample, [completion])
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
    return {"accuracy": vars(accuracy), "format": vars(formats)}


def _chance(items: Sequence[dict[str, Any]]) -> float | None:
    """Expected accuracy of guessing; None unless every question has choices."""
    if not items or not all(item["choices"] for item in items):
        return None
    return float(sum(1 / len(item["choices"]) for item in items) / len(items))


def write_evaluation(path: Path, evaluation: dict[str, Any]) -> None:
    """Write as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(evaluation, indent=1, ensure_ascii=False))
    os.replace(temporary, path)


def evaluate_model(
    path: str, data: str, *, template: TemplateName | None, limit: int, max_new_tokens: int
) -> dict[str, Any]:
    """Evaluate a model folder or hub id on a prepared set.

    A checkpoint brings its own prompt and pixel limits (`gpg_vl.json`); a foreign model gets the defaults.
    `template` overrides the checkpoint's.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy = load_policy(path, device=device)
    card = read_card(path) or {}
    prompt = Prompt(template) if template else Prompt.from_dict(card.get("prompt", {}))
    limits = ModelConfig()
    encoder = PromptEncoder(
        policy.processor,
        prompt,
        min_pixels=card.get("min_pixels", limits.min_pixels),
        max_pixels=card.get("max_pixels", limits.max_pixels),
    )
    rows = PreparedDataset.open([data]).head(limit)
    engine = RolloutEngine(policy, max_concurrent=RolloutConfig().max_concurrent)
    with ProgressBar("evaluate", len(rows)) as bar:
        evaluation = evaluate(
            Answerer(encoder, engine),
            rows,
            max_new_tokens=max_new_tokens,
            stop=RolloutConfig().stop,
            progress=bar.advance,
        )
    return {"model": path, **evaluation}


def evaluation_table(evaluation: Mapping[str, Any]) -> str:
    """Accuracy and format rate by task and in total, with 95 % intervals, as a Markdown table."""
    lines = ["| task | questions | accuracy | 95 % interval | format |", "|---|---:|---:|---:|---:|"]
    for task, figures in [*evaluation["tasks"].items(), ("total", evaluation["totals"])]:
        accuracy, form = figures["accuracy"], figures["format"]
        lines.append(
            f"| {task} | {accuracy['count']} | {accuracy['mean']:.1%} "
            f"| {accuracy['low']:.1%} to {accuracy['high']:.1%} | {form['mean']:.1%} |"
        )
    if evaluation["chance"] is not None:
        lines.append(f"\nchance: {evaluation['chance']:.1%}")
    return "\n".join(lines)
