"""The tour with several seeds, and what they say together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gpg_vl.quickstart.parts import accuracy
from gpg_vl.quickstart.reasoning import WAYS
from gpg_vl.quickstart.run import run_tour
from gpg_vl.quickstart.tour import Tour
from gpg_vl.report.plots import task_bars
from gpg_vl.runtime.files import write_whole
from gpg_vl.stats import Interval, over_seeds
from gpg_vl.tables import markdown_table

NAMES = {"base": "warm start", "trained": "GPG", "grpo": "GRPO"}
"""Of what a summary has, in the order of the tables."""
Summary = Mapping[str, Any]
_HALVES = [(way, stage) for way in WAYS for stage in ("base", "trained")]


def run_seeds(out: str, tours: Sequence[Tour]) -> None:
    """Run whatever of the tours is not done yet; print their table, and keep it in `out`.

    `seeds.md` is what is printed, `seeds.json` the same figures; `seeds.png` shows those of two or more.
    """
    summaries: dict[int, Summary] = {}
    for tour in tours:
        print(f"{tour.out}: scenes, a small Qwen2-VL, the warm start, GPG and the report of seed {tour.seed}")
        summaries[tour.seed] = run_tour(tour).summary
    words = tables(summaries)
    write_whole(Path(out) / "seeds.md", words + "\n")
    write_whole(Path(out) / "seeds.json", json.dumps(figures(summaries), indent=2))
    print(f"\n{words}\n\ntables     {Path(out) / 'seeds.md'}")
    if len(summaries) > 1:
        print(f"picture    {picture(summaries, Path(out) / 'seeds.png')}")


def picture(summaries: Mapping[int, Summary], path: Path) -> Path:
    """Write a PNG of `intervals` and `chances`, and return its path."""
    return task_bars(intervals(summaries), path, chance=chances(summaries), baseline=NAMES["base"])


def chances(summaries: Mapping[int, Summary]) -> dict[str, float]:
    """Accuracy of guessing by task, in the mean over seeds."""
    bases = [summary["base"] for summary in summaries.values()]
    by_task = {task: fmean(base["tasks"][task]["chance"] for base in bases) for task in bases[0]["tasks"]}
    return {**by_task, "all": fmean(base["total"]["chance"] for base in bases)}


def intervals(summaries: Mapping[int, Summary]) -> dict[str, dict[str, Interval]]:
    """Mean accuracy by model and task, with its 95 % interval over two seeds or more."""
    tasks = next(iter(summaries.values()))["base"]["tasks"]
    named = {**{task: task for task in tasks}, "all": None}
    return {
        NAMES[name]: {
            title: _bounded(over_seeds(_accuracies(summaries, name, task))) for title, task in named.items()
        }
        for name in _names(summaries)
    }


def _bounded(interval: Interval) -> Interval:
    """Within [0, 1], where every accuracy is."""
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def figures(summaries: Mapping[int, Summary]) -> dict[str, Any]:
    """Accuracies by seed, and of two seeds or more the differences of all pairs of models over seeds."""
    accuracies = {name: _accuracies(summaries, name) for name in _names(summaries)}
    found: dict[str, Any] = {"seeds": list(summaries), "accuracy": accuracies}
    if len(summaries) > 1:
        pairs = _pairs(list(accuracies))
        found["differences"] = {
            f"{late} - {early}": asdict(over_seeds(_changes(accuracies[early], accuracies[late])))
            for early, late in pairs
        }
    if _with_reasoning(summaries):
        found["reasoning"] = {f"{way} {stage}": _answered(summaries, way, stage) for way, stage in _HALVES}
    return found


def tables(summaries: Mapping[int, Summary]) -> str:
    """Accuracy (%) of each seed and in the mean, and the mean of every task."""
    more = [_by_reasoning(summaries)] if _with_reasoning(summaries) else []
    return "\n\n".join([_by_seed(summaries), _by_task(summaries), *more])


def _by_seed(summaries: Mapping[int, Summary]) -> str:
    accuracies = {name: _accuracies(summaries, name) for name in _names(summaries)}
    pairs = _pairs(list(accuracies))
    changes = [_changes(accuracies[early], accuracies[late]) for early, late in pairs]
    header = ["seed", *(NAMES[name] for name in accuracies), *(_pair(*pair) for pair in pairs)]
    rows = [
        [
            str(seed),
            *(f"{100 * one[place]:.1f}" for one in accuracies.values()),
            *(f"{100 * one[place]:+.1f}" for one in changes),
        ]
        for place, seed in enumerate(summaries)
    ]
    rows += _mean_row(list(accuracies.values()), changes)
    asked = next(iter(summaries.values()))["base"]["total"]["accuracy"]["count"]
    title = f"Greedy accuracy (%) on {asked} held-out questions of each seed"
    return f"{title}\n\n{markdown_table(header, rows)}"


def _mean_row(accuracies: Sequence[Sequence[float]], changes: Sequence[Sequence[float]]) -> list[list[str]]:
    """The last row of a table of seeds, from its columns (seeds,); none of a single seed."""
    if len(accuracies[0]) < 2:
        return []
    means = [f"{100 * fmean(one):.1f}" for one in accuracies]
    return [["mean (95 % over seeds)", *means, *(_interval_cell(over_seeds(one)) for one in changes)]]


def _by_task(summaries: Mapping[int, Summary]) -> str:
    tasks = list(next(iter(summaries.values()))["base"]["tasks"])
    rows = []
    for name in _names(summaries):
        means = [fmean(_accuracies(summaries, name, task)) for task in (*tasks, None)]
        rows.append([NAMES[name], *(f"{100 * mean:.1f}" for mean in means)])
    return f"Its mean over seeds, by task\n\n{markdown_table(['', *tasks, 'all'], rows)}"


def _with_reasoning(summaries: Mapping[int, Summary]) -> bool:
    return all("reasoning" in summary for summary in summaries.values())


def _by_reasoning(summaries: Mapping[int, Summary]) -> str:
    header = ["seed", *(f"{way}, {NAMES[stage]}" for way, stage in _HALVES), "GPG, with - without"]
    accuracies = [_answered(summaries, *half) for half in _HALVES]
    gaps = _changes(accuracies[3], accuracies[1])
    rows = []
    for place, (seed, summary) in enumerate(summaries.items()):
        tokens = [summary["reasoning"][way][stage]["tokens"] for way, stage in _HALVES]
        found = [
            f"{100 * one[place]:.1f} ({count:.0f})" for one, count in zip(accuracies, tokens, strict=True)
        ]
        rows.append([str(seed), *found, f"{100 * gaps[place]:+.1f}"])
    rows += _mean_row(accuracies, [gaps])
    title = "Questions of several steps, with and without thinking: accuracy (%), and tokens of an answer"
    return f"{title}\n\n{markdown_table(header, rows)}"


def _answered(summaries: Mapping[int, Summary], way: str, stage: str) -> list[float]:
    """Accuracies of each seed on questions of several steps."""
    return [accuracy(summary["reasoning"][way][stage]) for summary in summaries.values()]


def _names(summaries: Mapping[int, Summary]) -> list[str]:
    return [name for name in NAMES if all(name in summary for summary in summaries.values())]


def _accuracies(summaries: Mapping[int, Summary], name: str, task: str | None = None) -> list[float]:
    """Of each seed, in [0, 1]; of all tasks together where none is named."""
    return [accuracy(summary[name], task) for summary in summaries.values()]


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared: training with the warm start, and GPG with its rival."""
    rivals = [("grpo", "trained")] if "grpo" in names else []
    return [("base", "trained"), *rivals]


def _pair(early: str, late: str) -> str:
    return f"{NAMES[late]} - {NAMES[early]}"


def _changes(early: Sequence[float], late: Sequence[float]) -> list[float]:
    """Of the same seeds."""
    return [after - before for before, after in zip(early, late, strict=True)]


def _interval_cell(interval: Interval) -> str:
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.mean:+.1f} ({low:+.1f} to {high:+.1f})"
