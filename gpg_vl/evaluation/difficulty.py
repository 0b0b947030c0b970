"""How hard a prepared set is for a model: asked several times, and counted per question."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpg_vl.data.difficulty import PassRate, Record, record_file, write_record
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.evaluation.evaluate_model import evaluate_model
from gpg_vl.evaluation.settings import EvalSettings
from gpg_vl.runs.files import RIGHT, Item, answers_of
from gpg_vl.runs.pass_rates import model_step
from gpg_vl.tables import markdown_table

_ASKED = ("benchmark", "prompt", "sampling", "samples", "pixels", "seed", "engine")
"""What a record keeps of how the model was asked."""
_BINS = ("0", "(0, .25]", "(.25, .5]", "(.5, .75]", "(.75, 1)", "1", "no record")
_ALWAYS, _UNRECORDED = 5, 6


def measure_difficulty(settings: EvalSettings, name: str, reward: str | None, **asked: Any) -> Record | None:
    """Ask every question `settings.samples` times and record the pass rates beside `settings.benchmark`.

    reward: what says which answers are right, from 0.5 on; None is the benchmark's own grading. asked: `card`
    and `max_prompt_tokens` of `evaluate_model`. A killed one goes on where it was. All processes of a launch
    call it; the first gets the record. Raises as `evaluate_model` and `write_record` do.
    """
    file = record_file(settings.benchmark, name)
    settings = replace(settings, rewards={reward: 1.0} if reward else "off")
    evaluation = evaluate_model(settings, kept=file.with_name(f".{name}.partial.jsonl"), **asked)
    if evaluation is None:
        return None
    about = {key: evaluation[key] for key in _ASKED} | {"model": settings.model, "reward": reward}
    rates = pass_rates(evaluation["items"], reward, model_step(settings.model))
    return write_record(settings.benchmark, name, rates, about)


def pass_rates(items: Sequence[Item], reward: str | None = None, step: int = 0) -> dict[str, PassRate]:
    """Right answers by question id, of those that could be graded; questions without any are left out."""
    rates = {}
    for item in items:
        scores = [score for answer in answers_of(item) if (score := _score(answer, reward)) is not None]
        if scores:
            rates[item["id"]] = PassRate(sum(score >= RIGHT for score in scores), len(scores), step)
    return rates


def _score(answer: Mapping[str, Any], reward: str | None) -> float | None:
    if reward is not None:
        return answer["rewards"][reward]
    return answer["correct"] if answer["graded"] else None


def difficulty_table(folder: str, record: Record) -> str:
    """Questions by pass rate and task, with the bounds that never and always right have apart."""
    data = PreparedDataset.open([folder])
    counts: dict[str, Counter[int]] = {}
    for id, task in zip(data.column("id"), data.column("task"), strict=True):
        rate = record.rates.get(id)
        counts.setdefault(task, Counter())[_UNRECORDED if rate is None else _bin(rate)] += 1
    rows = sorted(counts.items())
    if len(rows) > 1:
        rows.append(("total", sum(counts.values(), Counter())))
    body = [
        [task, str(found.total()), *(str(found[place]) for place in range(len(_BINS)))]
        for task, found in rows
    ]
    return markdown_table(["task", "rows", *_BINS], body)


def _bin(rate: PassRate) -> int:
    """The place in _BINS: exact, as it is one of whole numbers."""
    if rate.right == rate.samples:
        return _ALWAYS
    return math.ceil(4 * rate.right / rate.samples)
