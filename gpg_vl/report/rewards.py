"""The report's table of a run's own rewards, which need not lie in [0, 1]."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gpg_vl.evaluation.compare_rewards import compare_rewards
from gpg_vl.evaluation.own_rewards import reward_names, reward_title
from gpg_vl.report.results import NONE, minus, row_cells, trend
from gpg_vl.runs.files import Evaluation, paired_items, score
from gpg_vl.stats import Interval
from gpg_vl.tables import short_number


def rewards_section(models: Mapping[str, Evaluation], evaluations: Sequence[Evaluation]) -> str:
    """Mean of every reward and of the weighted sum, by model; empty if none was evaluated.

    models: in column order, base and trained first. evaluations: of the run itself, by step.
    """
    names = list(dict.fromkeys(name for one in models.values() for name in reward_names(one["totals"])))
    if not names:
        return ""
    changes = reward_changes(evaluations)
    titles = [escape(name) for name in models]
    head = ["Questions", *titles[:2], *(["Change"] if changes else []), *titles[2:]]
    rows = [_row(name, models, changes) for name in names]
    return (
        '<h2>Rewards</h2>\n<p class="hint">Means of unweighted scores of the same answers, over the '
        "questions that could be graded. Small print: 95 % intervals.</p>\n"
        '<div class="box scroll" tabindex="0" role="region" aria-label="Rewards">'
        f'<table><thead><tr><th scope="col">Reward</th>{row_cells(head, "th")}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n{_ungraded(models)}"
    )


def reward_changes(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """What `compare_rewards` says of the first evaluation and the last; empty where there is only one."""
    if len(evaluations) < 2:
        return {}
    first, last = evaluations[0], evaluations[-1]
    return compare_rewards(first, last, paired_items(first, last))[0]


def _row(name: str, models: Mapping[str, Evaluation], changes: Mapping[str, Any]) -> str:
    scores = [score(one["totals"], name) for one in models.values()]
    contents = [_cell(interval) for interval in scores]
    if changes:
        contents.insert(2, _change(score(changes.get(name, {}), "difference")))
    counts = [f"{interval.count:,}" for interval in scores if interval is not None]
    return (
        f'<tr><th scope="row">{escape(reward_title(name))}</th>'
        f"{row_cells([next(iter(counts), NONE), *contents], 'td')}</tr>"
    )


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    mean, low, high = (minus(short_number(value)) for value in (interval.mean, interval.low, interval.high))
    return f"{mean}<small>{low} to {high}</small>"


def _change(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    mean, low, high = (minus(f"{value:+.3g}") for value in (interval.mean, interval.low, interval.high))
    return f'<span class="{trend(interval)}">{mean}</span><small>{low} to {high}</small>'


def _ungraded(models: Mapping[str, Evaluation]) -> str:
    """Answers that a reward could not grade, by model."""
    found = [
        f"{escape(model)}, {escape(reward_title(name))}: {one['totals'][name]['ungraded']:,}"
        for model, one in models.items()
        for name in reward_names(one["totals"])
        if one["totals"][name]["ungraded"]
    ]
    return f'<p class="hint">Answers that could not be graded: {"; ".join(found)}.</p>' if found else ""
