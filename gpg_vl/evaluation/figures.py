"""From items to figures: totals and tasks with their intervals, and the Markdown table."""

from collections.abc import Mapping, Sequence
from typing import Any

from gpg_vl.evaluation.benchmarks import BENCHMARKS, PREPARED, TITLES, Benchmark
from gpg_vl.evaluation.grading import FORMAT, LENIENT
from gpg_vl.runs.files import Evaluation, Item, score
from gpg_vl.stats import Interval, estimate, pass_at_k, weighted_sum

Figures = dict[str, Any]


def summarize(items: Sequence[Item], benchmark: Benchmark) -> Figures:
    """`totals`, `tasks`, the `chance` level, and how many answers are `ungraded`."""
    tasks = sorted({item["task"] for item in items})
    totals = _figures(items, benchmark)
    if official := official_score(items, benchmark.source_weights):
        totals["official"] = vars(official)
    return {
        "chance": totals["chance"],
        "ungraded": sum(not item["graded"] for item in items),
        "totals": totals,
        "tasks": {
            task: _figures([item for item in items if item["task"] == task], benchmark) for task in tasks
        },
    }


def _figures(items: Sequence[Item], benchmark: Benchmark) -> Figures:
    """Accuracy (mean@k of several answers), format rate, the benchmark's measures and pass@k."""
    clusters = [item["cluster"] for item in items]
    figures: Figures = {
        "accuracy": vars(estimate([item["correct"] for item in items], clusters)),
        "chance": _chance(items),
    }
    for name, measure in {"format": FORMAT, **benchmark.measures}.items():
        known = [item for item in items if item["scores"][measure.reward] is not None]
        if known:
            values = [item["scores"][measure.reward] for item in known]
            figures[name] = vars(estimate(values, [item["cluster"] for item in known]))
    if benchmark.lenient:
        figures[LENIENT] = vars(estimate([item["scores"][LENIENT] or 0.0 for item in items], clusters))
    for k, values in _pass_at(items).items():
        figures[f"pass@{k}"] = vars(estimate(values, clusters))
    return figures


def _pass_at(items: Sequence[Item]) -> dict[int, list[float]]:
    """Each question's pass@k for k = 2, 4, … and all answers; none unless answers are right or wrong."""
    answers = [[sample["correct"] for sample in item.get("samples", ())] for item in items]
    count = len(answers[0])
    if count < 2 or not {correct for each in answers for correct in each} <= {0.0, 1.0}:
        return {}
    ks = [*(2**power for power in range(1, count.bit_length()) if 2**power < count), count]
    return {k: [pass_at_k(count, int(sum(each)), k) for each in answers] for k in ks}


def official_score(items: Sequence[Item], weights: Mapping[str, float]) -> Interval | None:
    """Σ weight · accuracy by the questions' source; None if one has no questions, or there are no weights.

    CV-Bench: ½·((ADE20K + COCO)/2 + Omni3D). Source: Cambrian-1, arXiv 2406.16860.
    """
    by_source = {name: [item for item in items if item["source"] == name] for name in weights}
    if not weights or not all(by_source.values()):
        return None
    parts = {
        name: estimate([item["correct"] for item in own], [item["cluster"] for item in own])
        for name, own in by_source.items()
    }
    return weighted_sum([(weights[name], part) for name, part in parts.items()])


def _chance(items: Sequence[Item]) -> float | None:
    """Expected accuracy of guessing; None unless every question has choices."""
    if not items or not all(item["choices"] for item in items):
        return None
    return float(sum(1 / len(item["choices"]) for item in items) / len(items))


def evaluation_table(evaluation: Evaluation) -> str:
    """The benchmark's figures by task and in total, with 95 % intervals, as Markdown."""
    totals = evaluation["totals"]
    extra = [name for name in totals if name not in ("accuracy", "chance", "format", "official")]
    titles = [_accuracy_title(evaluation), *(TITLES.get(name, name) for name in extra), "format"]
    lines = [
        f"| task | questions | chance | {titles[0]} | 95 % interval | {' | '.join(titles[1:])} |",
        f"|---|---:|---:|---:|---:|{'---:|' * len(titles[1:])}",
    ]
    for task, figures in [*evaluation["tasks"].items(), ("total", totals)]:
        accuracy, chance = figures["accuracy"], figures["chance"]
        cells = [
            task,
            str(accuracy["count"]),
            _percent(chance),
            _percent(accuracy["mean"]),
            _span(accuracy),
            *(_cell(score(figures, name)) for name in extra),
            _percent(figures["format"]["mean"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_notes(evaluation)])


def _accuracy_title(evaluation: Evaluation) -> str:
    if evaluation["samples"] > 1:
        return f"mean@{evaluation['samples']}"
    return BENCHMARKS.get(evaluation["benchmark"], PREPARED).accuracy


def _notes(evaluation: Evaluation) -> list[str]:
    """What stands below the table."""
    notes = []
    if official := score(evaluation["totals"], "official"):
        sources = ", ".join(BENCHMARKS[evaluation["benchmark"]].source_weights)
        notes.append(f"official score ({sources}): {_cell(official)}")
    if evaluation["ungraded"]:
        notes.append(
            f"{evaluation['ungraded']} questions whose gold answer no reward can read count as wrong"
        )
    return ["", *notes] if notes else []


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _span(figure: Mapping[str, Any]) -> str:
    return f"{figure['low']:.1%} to {figure['high']:.1%}"


def _cell(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval.mean:.1%} ({_span(vars(interval))})"


def in_words(evaluation: Evaluation) -> str:
    """Accuracy and format rate in half a line."""
    accuracy, form = evaluation["totals"]["accuracy"], evaluation["totals"]["format"]
    return f"accuracy {accuracy['mean']:.1%} on {accuracy['count']} questions, format {form['mean']:.1%}"
