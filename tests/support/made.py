"""What the browser is shown: a model that was taught one hostile answer, and a run that holds it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpg_vl.model.loading import load_policy
from gpg_vl.model.packing import Row, Segment, collate
from gpg_vl.stats import wilson
from gpg_vl.training.records import MetricsFile
from gpg_vl.types import Sample
from tests.support.inputs import encoder_of, noise
from tests.support.runs import BAD, RIGHT, WRONG, sampled_group, write_step

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
"""Opens a dialog if any part of it is ever taken for HTML."""
ANSWER = "[[10, 20, 60, 80]]"
TAUGHT = f"<think>{HOSTILE}</think><answer>{ANSWER}</answer>"
BOXED = Sample(
    "boxed", "boxes/Where", "Where is it?", "[[8, 16, 64, 96]]", "boxes", images=(noise(112, 112),)
)
OUTCOMES = {"Fixed": (0, 1), "Broken": (1, 0), "Both right": (1, 1), "Still wrong": (0, 0)}


def teach(tiny: Path, out: Path, samples: Sequence[Sample]) -> None:
    """Save the tiny model once it greedily answers TAUGHT to each sample."""
    torch.manual_seed(0)
    policy = load_policy(str(tiny))
    encoder = encoder_of(policy)
    ids = (*policy.tokenizer(TAUGHT, add_special_tokens=False)["input_ids"], policy.eos_token_ids[0])
    batch = collate([Row((Segment(prompt, (ids,), (0,)),)) for prompt in encoder.encode(samples)])
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    loss = torch.tensor(torch.inf)
    while loss > 0.01:
        loss = -policy(batch, 1.0)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.save(out, {"prompt": encoder.prompt.to_dict()})


def make_run(run: Path, samples: Sequence[Sample]) -> None:
    """Two evaluations of the samples, two steps of rollouts, and the metrics of the run and another."""
    (run / "eval").mkdir(parents=True)
    for place in (0, 1):
        (run / f"eval/step_00000{place}.json").write_text(json.dumps(_evaluation(place, samples)))
    first, second, *_ = (sample for sample in samples if sample.answer == "(A)")
    write_step(run / "rollouts/step_000001.parquet", [sampled_group(first, [RIGHT, WRONG])])
    groups = [sampled_group(first, [RIGHT] * 3), sampled_group(second, [WRONG, BAD + HOSTILE, RIGHT])]
    write_step(run / "rollouts/step_000002.parquet", groups)
    for name in (run.name, "other"):
        (run.parent / name).mkdir(exist_ok=True)
        metrics = MetricsFile(run.parent / name / "metrics.jsonl", 0)
        for step in range(1, 6):
            metrics.write(step, {"reward/mean": 0.1 * step, "accuracy": 0.05 * step, "grad_norm": 1.0})


def _evaluation(place: int, samples: Sequence[Sample]) -> dict[str, Any]:
    pairs = zip(samples, OUTCOMES.values(), strict=False)
    items = [_item(sample, float(outcome[place]), place) for sample, outcome in pairs]
    table = {"accuracy": vars(wilson(2, 4)), "chance": 0.5}
    return {"step": place, "totals": table, "tasks": {item["task"]: table for item in items}, "items": items}


def _item(sample: Sample, correct: float, place: int) -> dict[str, Any]:
    """A stored answer; wrong ones are hostile."""
    answer = sample.answer if correct else HOSTILE
    question = {"id": sample.id, "task": sample.task, "question": sample.question, "gold": sample.answer}
    figures = {"scores": {"choice": correct}, "correct": correct, "token_count": 7, "finish_reason": "eos"}
    output = f"<think>stored {place}</think><answer>{answer}</answer>"
    return {
        **question,
        "choices": sample.choices,
        "output": output,
        "answer": answer,
        "prompt": "P",
        **figures,
    }
