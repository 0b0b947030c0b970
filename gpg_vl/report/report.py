"""The report of a run: one HTML file that explains what training changed, readable anywhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from gpg_vl import __version__
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import ConfigurationError
from gpg_vl.evaluation.compare import TOTAL
from gpg_vl.report.plots import evaluation_rows, panels_with_values, task_bars, training_curves
from gpg_vl.report.results import changes, evaluation_trail, results_table, score_title, summary
from gpg_vl.report.rewards import rewards_section
from gpg_vl.report.samples import card, choose, data_url, find_examples, tally
from gpg_vl.report.style import PAGE, STYLE
from gpg_vl.runs.files import (
    Evaluation,
    RunRecord,
    paired_items,
    read_run,
    score,
)
from gpg_vl.runtime.files import write_whole, writing
from gpg_vl.stats import Interval
from gpg_vl.tables import time_words
from gpg_vl.theme import DARK, LIGHT, Theme
from gpg_vl.yaml_file import read_yaml

__all__ = ["write_report", "write_run_report"]

_CAPTION = "Over the training steps. Faint: each step; strong: moving average over a tenth of them."
_MEANINGS = {
    "groups/valid_fraction": "Groups with a signal: the share of groups whose answers do not all earn the "
    "same reward.",
    "eval/accuracy": "Validation: greedy answers to held-out questions.",
}
"""What a caption says of panels, by the key of one of them."""
_THEMES: Mapping[str, Theme] = {"": LIGHT, "_dark": DARK}
"""By the suffix of the file's name."""


def write_report(
    run: Path,
    *,
    others: Mapping[str, Path] | None = None,
    images: Callable[[str], Sequence[Image.Image]] | None = None,
) -> Path:
    """Write `run/plots/*.png` and `run/report.html`, and return the page's path.

    others: further run folders by the name to show, each compared by its last evaluation. images:
    the images of a question by its id; without it the sample answers have none. What a run lacks
    (evaluations, metrics, settings) the page says; raises DataError if a run has neither metrics
    nor evaluations, and ConfigurationError if a name in `others` is taken.
    """
    record = read_run(run)
    rivals = {name: read_run(path) for name, path in (others or {}).items()}
    _check_names(record, rivals)
    with writing(run / "plots"):
        (run / "plots").mkdir(exist_ok=True)
    models, change = _models(record, rivals), changes(record.evaluations)
    sections = [
        summary(record, change.get(TOTAL)),
        *(f'<p class="note">{escape(note)}</p>' for note in _notes(run, record, rivals)),
        _results(run, record, models, change),
        rewards_section(models, record.evaluations),
        _curves(run, record, rivals),
        _samples(record, images),
        _settings(run),
    ]
    title = f"{escape(record.name)}: gpg-vl training report"
    page = PAGE.substitute(
        title=title, style=STYLE, body="\n".join(filter(None, sections)), version=__version__
    )
    path = run / "report.html"
    write_whole(path, page, errors="replace")  # models can write half a character
    return path


def write_run_report(run: Path, others: Mapping[str, Path]) -> Path:
    """`write_report` with the images of the run's own validation set, where that is still there."""
    file = run / "config.yaml"
    settings = read_yaml(file) if file.is_file() else {}
    folders = settings.get("data", {}).get("validation", [])
    if not folders or not all(Path(folder).is_dir() for folder in folders):
        return write_report(run, others=others)
    data = PreparedDataset.open(folders)
    index = {id: i for i, id in enumerate(data.column("id"))}
    return write_report(run, others=others, images=lambda id: data[index[id]].images if id in index else ())


def _check_names(record: RunRecord, rivals: Mapping[str, RunRecord]) -> None:
    for name in rivals:
        if name in ("Base", "Trained", record.name):
            raise ConfigurationError(f"another run cannot be called {name!r}: that name is taken")


def _models(record: RunRecord, rivals: Mapping[str, RunRecord]) -> dict[str, Evaluation]:
    """The evaluations to compare, by column."""
    models = {}
    if record.evaluations:
        if len(record.evaluations) > 1 or record.evaluations[0]["step"] == 0:
            models["Base"] = record.evaluations[0]
        if record.evaluations[-1]["step"] > 0:
            models["Trained"] = record.evaluations[-1]
    rated = {name: rival for name, rival in rivals.items() if rival.evaluations}
    return models | {name: rival.evaluations[-1] for name, rival in rated.items()}


def _notes(run: Path, record: RunRecord, rivals: Mapping[str, RunRecord]) -> Iterator[str]:
    """What the reader would miss or misread otherwise."""
    if not record.evaluations:
        yield "There is no evaluation in eval/: accuracies and sample answers are missing."
    if len(record.evaluations) == 1:
        yield "There is one evaluation only, so there is nothing to compare it with."
    if len(record.evaluations) > 1:
        yield from _unpaired(record.evaluations[0], record.evaluations[-1])
    if not panels_with_values({record.name: record.metrics}):
        yield "There are no metrics to draw in metrics.jsonl: the training curves are missing."
    if record.cut_lines:
        yield "The last line of metrics.jsonl is cut off (a killed run leaves that): skipped."
    if not (run / "config.yaml").is_file():
        yield "There is no config.yaml: the run's settings are missing."
    for name, rival in rivals.items():
        if not rival.evaluations:
            yield f"{name} has no evaluation and is in the curves only."
        elif record.evaluations and _ids(rival.evaluations[-1]) != _ids(record.evaluations[-1]):
            yield f"{name} was evaluated on other questions: its column does not compare."


def _ids(evaluation: Evaluation) -> set[str]:
    return {item["id"] for item in evaluation["items"]}


def _unpaired(first: Evaluation, last: Evaluation) -> Iterator[str]:
    both, most = len(paired_items(first, last)), max(len(first["items"]), len(last["items"]))
    if both < most:
        yield (
            f"Only {both:,} of {most:,} questions are in both the first and the last evaluation; "
            "changes are computed on those."
        )


def _results(
    run: Path,
    record: RunRecord,
    models: Mapping[str, Evaluation],
    change: Mapping[str, Interval],
) -> str:
    """Table and bars of the accuracies."""
    if not models:
        return ""
    title = score_title(next(iter(models.values())))
    about = " The change is paired: measured question by question." if change else ""
    parts = [
        f"<h2>{title} per task</h2>",
        f'<p class="hint">Greedy answers. Small print: 95 % intervals.{about}</p>',
        results_table(models, change),
        evaluation_trail(record.evaluations),
    ]
    intervals = {name: _accuracies(evaluation) for name, evaluation in models.items()}
    if any(intervals.values()):
        tasks = next(iter(models.values()))["tasks"]
        chance = {task: scores["chance"] for task, scores in tasks.items() if scores.get("chance")}
        drawn = {
            suffix: task_bars(intervals, run / "plots" / f"tasks{suffix}.png", chance=chance, theme=theme)
            for suffix, theme in _THEMES.items()
        }
        parts.append(_figure(drawn, f"{title} per task", f"{title} with 95 % intervals.", ""))
    return "\n".join(filter(None, parts))


def _accuracies(evaluation: Evaluation) -> dict[str, Interval]:
    """By task, without those that have no accuracy."""
    found = {task: score(scores, "accuracy") for task, scores in evaluation["tasks"].items()}
    return {task: interval for task, interval in found.items() if interval is not None}


def _curves(run: Path, record: RunRecord, rivals: Mapping[str, RunRecord]) -> str:
    """Curves of this run and of the others that have metrics."""
    records = {record.name: record, **rivals}
    runs = {name: [*one.metrics, *evaluation_rows(one.evaluations)] for name, one in records.items()}
    runs = {name: rows for name, rows in runs.items() if rows}
    if not panels_with_values(runs):
        return ""
    drawn = {
        suffix: training_curves(runs, run / "plots" / f"curves{suffix}.png", theme=theme)
        for suffix, theme in _THEMES.items()
    }
    drawn_keys = {panel.key for panel in panels_with_values(runs)}
    caption = " ".join([_CAPTION, *(text for key, text in _MEANINGS.items() if key in drawn_keys)])
    figure = _figure(drawn, "Training curves", caption, "wide")
    facts = "\n".join(map(_training_facts, (record, *rivals.values())))
    return f"<h2>Training</h2>\n{facts}\n{figure}"


def _training_facts(record: RunRecord) -> str:
    """Steps, sampled groups, skipped steps and time in one line: runs of unequal steps may compare."""
    if not record.metrics:
        return ""
    facts = [f"{escape(record.name)}: {len(record.metrics):,} steps"]
    sampled = sum(row.get("groups/sampled", 0) for row in record.metrics)
    if sampled:
        facts.append(f"{sampled:,} groups of answers sampled")
    seconds = [row["seconds/step"] for row in record.metrics if row.get("seconds/step")]
    if seconds:
        facts.append(f"{time_words(sum(seconds))}, {np.median(seconds):.1f} s a step")
    skipped = sum("loss" not in row for row in record.metrics)
    if skipped:
        facts.append(f"{skipped:,} without an update, as no group had a signal")
    return f'<p class="hint">{"; ".join(facts)}.</p>'


def _figure(drawn: Mapping[str, Path], alt: str, caption: str, kind: str) -> str:
    """A figure in the reader's colour scheme; drawn: files by the suffix of `_THEMES`."""
    light, dark = (data_url(drawn[suffix].read_bytes(), "image/png") for suffix in ("", "_dark"))
    return (
        f'<figure class="box {kind}"><div class="scroll" tabindex="0"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{alt}"></picture></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _samples(record: RunRecord, images: Callable[[str], Sequence[Image.Image]] | None) -> str:
    examples = find_examples(record.evaluations)
    if not examples:
        return ""
    cards = "".join(card(example, images) for example in choose(examples))
    return (
        f"<h2>Sample answers</h2>\n{tally(examples)}\n"
        '<p class="hint">Chosen by rule, not by hand: a few of each outcome, the tasks in turn, '
        f'questions in the order of the data.</p>\n<div class="cards">{cards}</div>'
    )


def _settings(run: Path) -> str:
    """What was run, and where, folded away."""
    parts = []
    titles = {"config.yaml": "Settings (config.yaml)", "environment.json": "Environment"}
    for name, title in titles.items():
        if (run / name).is_file():
            text = (run / name).read_text(encoding="utf-8", errors="replace")
            parts.append(_folded(title, text))
    return "\n".join(["<h2>How it was run</h2>", *parts]) if parts else ""


def _folded(title: str, text: str) -> str:
    return f'<details class="box"><summary>{title}</summary><pre>{escape(text)}</pre></details>'
