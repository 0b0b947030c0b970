"""From items to figures: totals and tasks with their intervals, and the Markdown table."""

from collections.abc import Mapping, Sequence
from typing import Any

from gpg_vl.evaluation.benchmarks import BENCHMARKS, DEFAULT_GRADERS, PREPARED, TITLES, Benchmark
from gpg_vl.evaluation.grading import FORMAT, LENIENT
from gpg_vl.evaluation.own_rewards import PREFIX, SUM, own_score, reward_names, reward_title
from gpg_vl.runs.files import Evaluation, Item, answers_of, score
from gpg_vl.scoring.counters import counts_text
from gpg_vl.stats import Interval, estimate, mean_interval, pass_at_k, weighted_sum
from gpg_vl.tables import markdown_table, short_number

Figures = dict[str, Any]
EVALUATED = "eval/"
"""Before the names of an evaluation's figures among a run's metrics."""


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
    return figures | _reward_figures(items)


def _reward_figures(items: Sequence[Item]) -> Figures:
    """`reward`, the mean weighted sum, and `reward/NAME` of each of the run's own rewards.

    Over the questions that each could grade; `ungraded` counts the answers that it could not, of the sum
    those that no reward could. Where that is all of them the mean is None.
    """
    rewarded = [item for item in items if item.get("rewards")]
    names = dict.fromkeys(name for item in rewarded for name in item["rewards"])
    by_name = {PREFIX + name: [item for item in rewarded if name in item["rewards"]] for name in names}
    asked = {SUM: rewarded, **by_name} if names else {}
    return {figure: _reward_figure(own, figure) for figure, own in asked.items()}


def _reward_figure(items: Sequence[Item], name: str) -> Figures:
    scores = [(own_score(item, name), item["cluster"]) for item in items]
    known = [(value, cluster) for value, cluster in scores if value is not None]
    answers = [answer for item in items for answer in answers_of(item)]
    ungraded = sum(own_score(answer, name) is None for answer in answers)
    if not known:
        return {"mean": None, "low": None, "high": None, "count": 0, "ungraded": ungraded}
    values, clusters = zip(*known, strict=True)
    return {**vars(mean_interval(values, clusters)), "ungraded": ungraded}


def _pass_at(items: Sequence[Item]) -> dict[int, list[float]]:
    """Each question's pass@k for k = 2, 4, … and all answers; none unless answers are right or wrong."""
    answers = [[sample["correct"] for sample in answers_of(item)] for item in items]
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
    shown_elsewhere = ("accuracy", "chance", "format", "official", *reward_names(totals))
    extra = [name for name in totals if name not in shown_elsewhere]
    titles = [score_name(evaluation), *(TITLES.get(name, name) for name in extra), "format"]
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
    return "\n".join([*lines, *_reward_lines(totals), *_notes(evaluation)])


def _reward_lines(totals: Figures) -> list[str]:
    """The run's own rewards over all questions, as a table of their own: they need not lie in [0, 1]."""
    header = ("reward", "questions", "mean", "95 % interval", "answers not graded")
    rows = [
        (reward_title(name), *_number_cells(score(totals, name)), str(totals[name]["ungraded"]))
        for name in reward_names(totals)
    ]
    return ["", markdown_table(header, rows)] if rows else []


def _number_cells(interval: Interval | None) -> tuple[str, str, str]:
    """Count, mean and interval of scores that are no shares."""
    if interval is None:
        return "0", "–", "–"
    ends = f"{short_number(interval.low)} to {short_number(interval.high)}"
    return str(interval.count), short_number(interval.mean), ends


def score_name(evaluation: Evaluation) -> str:
    """What an evaluation's figure `accuracy`, the mean of its items' `correct`, is called.

    `accuracy`, the benchmark's own name for it, `mean@8` of 8 answers a question, or, where a score is the
    overlap of boxes, `mean IoU`; `mean score` of boxes among other questions.
    """
    protocol = BENCHMARKS.get(evaluation.get("benchmark", ""), PREPARED)
    answers = [answer for item in evaluation.get("items", ()) for answer in answers_of(item)]
    boxes = sum("boxes" in answer for answer in answers)
    if boxes and protocol.grader("boxes") == DEFAULT_GRADERS["boxes"]:
        return "mean IoU" if boxes == len(answers) else "mean score"
    if evaluation.get("samples", 1) > 1:
        return f"mean@{evaluation['samples']}"
    return protocol.accuracy


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
    if counts := evaluation.get("counts"):
        notes.append(counts_text(counts))
    return ["", *notes] if notes else []


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _span(figure: Mapping[str, Any]) -> str:
    return f"{figure['low']:.1%} to {figure['high']:.1%}"


def _cell(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval.mean:.1%} ({_span(vars(interval))})"


def evaluation_metrics(evaluation: Evaluation) -> dict[str, float]:
    """What trackers and curves get of an evaluation: accuracy, format and the run's own rewards."""
    totals = evaluation["totals"]
    figures = {name: score(totals, name) for name in ("accuracy", "format", *reward_names(totals))}
    return {f"{EVALUATED}{name}": figure.mean for name, figure in figures.items() if figure is not None}


def in_words(evaluation: Evaluation) -> str:
    """Accuracy, format rate and the run's own rewards in a line."""
    totals = evaluation["totals"]
    accuracy, form = totals["accuracy"], totals["format"]
    words = f"{score_name(evaluation)} {accuracy['mean']:.1%} on {accuracy['count']} questions"
    words += f", format {form['mean']:.1%}"
    total, *parts = [_reward_words(totals, name) for name in reward_names(totals)] or [""]
    return f"{words}, {total} ({', '.join(parts)})" if total else words


def _reward_words(totals: Figures, name: str) -> str:
    figure, ungraded = score(totals, name), totals[name]["ungraded"]
    mean = "–" if figure is None else short_number(figure.mean)
    title = SUM if name == SUM else reward_title(name)
    return f"{title} {mean}" + (f" with {ungraded} not graded" if ungraded else "")
