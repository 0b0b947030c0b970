"""The report's numbers: the summary on top, and the table of accuracies per task."""

from collections.abc import Iterator, Mapping
from html import escape

from gpg_vl.evaluation.benchmarks import PREPARED
from gpg_vl.evaluation.compare import TOTAL, change, pairs_by_task
from gpg_vl.evaluation.figures import score_name
from gpg_vl.runs.files import Evaluation, RunRecord, paired_items, score
from gpg_vl.stats import Interval

NONE = "–"
"""What stands where a number is missing."""


def summary(record: RunRecord, total: Interval | None) -> str:
    """Title, one paragraph and the tiles; says so if there is no evaluation.

    total: the paired change over all questions, None where there is nothing to compare.
    """
    title = f'<p class="kicker">gpg-vl training report</p>\n<h1>{escape(record.name)}</h1>'
    if not record.evaluations:
        return f'{title}\n<p class="lead">{len(record.metrics)} training steps, not evaluated.</p>'
    last = record.evaluations[-1]
    sentences = [*_accuracy_sentences(record.evaluations, total), *_chance_sentence(last)]
    text = " ".join(sentences).replace(" %", "&nbsp;%")
    return f'{title}\n<p class="lead">{text}</p>\n{_tiles(record, total)}'


def evaluation_trail(evaluations: list[Evaluation]) -> str:
    """One line with the accuracy at every evaluation, where there are more than two."""
    if len(evaluations) < 3:
        return ""
    scores = [(item["step"], score(item["totals"], "accuracy")) for item in evaluations]
    steps = ", ".join(f"step {step}: {_percent(interval)} %" for step, interval in scores)
    return f'<p class="hint">{score_title(evaluations[-1])} while training: {steps}.</p>'


def score_title(evaluation: Evaluation) -> str:
    """`score_name` as it begins a title."""
    name = score_name(evaluation)
    return name[:1].upper() + name[1:]


def results_table(models: Mapping[str, Evaluation], change: Mapping[str, Interval]) -> str:
    """Accuracy, or what `score_name` says, and format rate of every model, per task and in total.

    models: in column order, base and trained first. change: what `changes` returns; empty without
    a base model to compare with.
    """
    tasks = list(dict.fromkeys(task for model in models.values() for task in model["tasks"]))
    tables = {task: {m: e["tasks"].get(task, {}) for m, e in models.items()} for task in tasks}
    has_change, title = bool(change), score_title(next(iter(models.values())))
    rows = [_row(task, table, change.get(task), has_change) for task, table in tables.items()]
    totals = {name: model["totals"] for name, model in models.items()}
    rows.append(_row("All questions", totals, change.get(TOTAL), has_change, kind="total"))
    return (
        f'<div class="box scroll" tabindex="0" role="region" aria-label="{title} per task">'
        f"<table>{_head(list(models), has_change, title)}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def changes(evaluations: list[Evaluation]) -> dict[str, Interval]:
    """Paired change in accuracy from the first to the last evaluation, by task and for TOTAL."""
    if len(evaluations) < 2:
        return {}
    pairs = paired_items(evaluations[0], evaluations[-1])
    return {task: change(group) for task, group in pairs_by_task(pairs).items() if group}


def _accuracy_sentences(evaluations: list[Evaluation], total: Interval | None) -> Iterator[str]:
    first, last = evaluations[0], evaluations[-1]
    accuracy, base = score(last["totals"], "accuracy"), score(first["totals"], "accuracy")
    count = NONE if accuracy is None else f"{accuracy.count:,}"
    name = score_name(last)
    if len(evaluations) == 1:
        share = f"{_percent(accuracy)} %"
        means = f"the model answers {share} of {count} questions right"
        if name != PREPARED.accuracy:
            means = f"the {name} on {count} questions is {share}"
        yield f"At step {last['step']:,} {means}."
        return
    yield (
        f"In {last['step'] - first['step']:,} steps, {name} on {count} questions went from "
        f"{_percent(base)} % to <strong>{_percent(accuracy)} %</strong>"
    )
    if total is None:
        yield "(on different questions, so the two do not compare)."
        return
    yield f"({_points(total.mean)} points, 95 % interval {_span(total, signed=True)})."
    if total.low <= 0 <= total.high:
        yield "The interval includes zero: the change may be luck."


def _chance_sentence(last: Evaluation) -> Iterator[str]:
    if last.get("chance") is not None:
        yield f"Guessing would get {100 * last['chance']:.1f} %."


def _tiles(record: RunRecord, total: Interval | None) -> str:
    first, last = record.evaluations[0], record.evaluations[-1]
    tiles, name = [], score_name(last)
    if first is not last:
        tiles.append((_share(first, "accuracy"), f"{name} before (step {first['step']})"))
    tiles.append((_share(last, "accuracy"), f"{name} at step {last['step']}"))
    if total is not None:
        tiles.append((_points(total.mean), "change in points"))
    tiles.append((_share(last, "format"), "answers in the asked-for format"))
    cells = (f'<div class="box tile"><b>{big}</b><span>{small}</span></div>' for big, small in tiles)
    return f'<div class="tiles">{"".join(cells)}</div>'


def _head(names: list[str], has_change: bool, title: str) -> str:
    """Two rows: what is measured, and of which model."""
    accuracy = [escape(name) for name in names]
    if has_change:
        accuracy.insert(2, "Change")
    width, rates = len(accuracy), [escape(name) for name in names]
    groups = (
        f'<th rowspan="2" scope="col">Task</th><th rowspan="2" scope="col">Questions</th>'
        f'<th class="group first" colspan="{width}" scope="colgroup">{title}, %</th>'
        f'<th class="group first" colspan="{len(rates)}" scope="colgroup">Format followed, %</th>'
    )
    return f"<thead><tr>{groups}</tr><tr>{row_cells(accuracy, 'th')}{row_cells(rates, 'th')}</tr></thead>"


def _row(
    task: str,
    scores: Mapping[str, Mapping[str, object]],
    change: Interval | None,
    has_change: bool,
    kind: str = "",
) -> str:
    """One task; scores: tables of scores by the model's name."""
    accuracies = [score(table, "accuracy") for table in scores.values()]
    cells = [_cell(interval) for interval in accuracies]
    if has_change:
        cells.insert(2, _change_cell(change))
    rates = [_percent(score(table, "format")) for table in scores.values()]
    counts = [interval.count for interval in accuracies if interval is not None]
    count = f"{counts[0]:,}" if counts else NONE  # the run's own; a note says where another's differ
    return (
        f'<tr class="{kind}"><th scope="row">{escape(task)}</th><td>{count}</td>'
        f"{row_cells(cells, 'td')}{row_cells(rates, 'td')}</tr>"
    )


def row_cells(contents: list[str], tag: str) -> str:
    """Cells with a rule before the first."""
    scope = ' scope="col"' if tag == "th" else ""
    first, *others = contents
    rest = "".join(f"<{tag}{scope}>{content}</{tag}>" for content in others)
    return f'<{tag} class="first"{scope}>{first}</{tag}>{rest}'


def _cell(interval: Interval | None) -> str:
    return NONE if interval is None else f"{_percent(interval)}<small>{_span(interval)}</small>"


def _change_cell(change: Interval | None) -> str:
    if change is None:
        return NONE
    points = f'<span class="{trend(change)}">{_points(change.mean)}</span>'
    return f"{points}<small>{_span(change, signed=True)}</small>"


def trend(change: Interval) -> str:
    """The class of a change: coloured only where the interval leaves zero out."""
    return "up" if change.low > 0 else "down" if change.high < 0 else ""


def _share(evaluation: Evaluation, name: str) -> str:
    interval = score(evaluation["totals"], name)
    return NONE if interval is None else f"{_percent(interval)} %"


def _percent(interval: Interval | None) -> str:
    return NONE if interval is None else f"{100 * interval.mean:.1f}"


def _points(difference: float) -> str:
    return minus(f"{100 * difference:+.1f}")


def _span(interval: Interval, signed: bool = False) -> str:
    """The ends in per cent: "53.7–62.4", or signed "+20.8 to +29.6"."""
    low, high = 100 * interval.low, 100 * interval.high
    return minus(f"{low:+.1f} to {high:+.1f}") if signed else f"{low:.1f}–{high:.1f}"


def minus(number: str) -> str:
    """A number with a true minus sign."""
    return number.replace("-", "−")
