"""Two evaluations of the same questions: paired differences, and the items that flipped."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from gpg_vl.errors import DataError
from gpg_vl.evaluation.benchmarks import PREPARED
from gpg_vl.evaluation.compare_rewards import compare_rewards, rewards_notes, rewards_table
from gpg_vl.evaluation.figures import score_name
from gpg_vl.evaluation.grading import LENIENT
from gpg_vl.runs.files import Evaluation, Item, is_right, paired_items, score
from gpg_vl.stats import Interval, mcnemar, paired_difference

TOTAL = ""
"""The key of all questions among those of the tasks."""
Pair = tuple[Item, Item]
_SHOWN = 5
"""Ids named in a message or in the table's notes."""
_SETTINGS = ("benchmark", "prompt", "sampling", "samples", "pixels")
_SAME = {"question": "another wording", "choices": "other choices", "gold": "another gold answer"}
"""What makes two items of one id the same question, and how it is called where it differs."""


def pairs_by_task(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """All pairs under TOTAL, then those of each task; a task is what the second item says."""
    by_task = {TOTAL: list(pairs)}
    for pair in pairs:
        by_task.setdefault(pair[1]["task"], []).append(pair)
    return by_task


def change(pairs: Sequence[Pair], score: Callable[[Item], float] = itemgetter("correct")) -> Interval:
    """Paired change in accuracy, or in another score, with its 95 % interval."""
    before, after = zip(*pairs, strict=True)
    return paired_difference(
        [score(item) for item in before],
        [score(item) for item in after],
        [item.get("cluster") for item in after],
    )


def compare(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """`total` and `tasks`, each with the paired difference in accuracy, McNemar's test and the flips.

    `score` is what the accuracy is called, which of boxes is an overlap. `lenient` is the total's difference
    where answers outside the tags count too; `rewards` are those of the run's own rewards that both
    evaluations have, with `other_rewards` that were configured otherwise.

    Raises DataError, naming what differs, if the two are not over the same questions, choices and gold
    answers.
    """
    check_same_questions(before, after)
    pairs = paired_items(before, after)
    by_task = pairs_by_task(pairs)
    total = _comparison(by_task.pop(TOTAL))
    rewards, other = compare_rewards(before, after, pairs)
    return {
        "score": score_name(after),
        "models": [before.get("model"), after.get("model")],
        "differ": [name for name in _SETTINGS if before.get(name) != after.get(name)],
        "clustered": _clustered(after["items"]),
        "total": total,
        "lenient": _lenient(pairs),
        "rewards": rewards,
        "other_rewards": other,
        "tasks": {task: _comparison(pairs) for task, pairs in sorted(by_task.items())},
    }


def check_same_questions(before: Evaluation, after: Evaluation) -> None:
    """Raise DataError unless ids are unique, and the same in both with question, choices and gold answer."""
    first, second = _by_id(before), _by_id(after)
    parts = []
    for name, own, other in (("A", first, second), ("B", second, first)):
        if missing := [id for id in other if id not in own]:
            parts.append(f"{name} lacks {len(missing)} questions of the other ({_some(missing)})")
    for field, instead in _SAME.items():
        if changed := [id for id in first if id in second and first[id][field] != second[id][field]]:
            parts.append(f"{len(changed)} questions have {instead} ({_some(changed)})")
    if parts:
        raise DataError(
            f"the two evaluations are not over the same questions: {'; '.join(parts)}. "
            "Evaluate both on one prepared folder, with the same --limit"
        )


def _by_id(evaluation: Evaluation) -> dict[str, Item]:
    items = {item["id"]: item for item in evaluation["items"]}
    if not items or len(items) < len(evaluation["items"]):
        raise DataError(
            f"an evaluation of {evaluation.get('data')} holds no questions, or several of one id; "
            "questions are paired by their ids"
        )
    return items


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")


def _comparison(pairs: Sequence[Pair]) -> dict[str, Any]:
    fixed = [after["id"] for before, after in pairs if is_right(after) and not is_right(before)]
    broken = [after["id"] for before, after in pairs if is_right(before) and not is_right(after)]
    graded = any(item["correct"] not in (0, 1) for pair in pairs for item in pair)
    return {
        "count": len(pairs),
        "before": sum(before["correct"] for before, _ in pairs) / len(pairs),
        "after": sum(after["correct"] for _, after in pairs) / len(pairs),
        "difference": vars(change(pairs)),
        # A share of several answers, or an overlap of boxes, is no right or wrong to count.
        "mcnemar_p": None if graded else mcnemar(len(fixed), len(broken)),
        "fixed": fixed,
        "broken": broken,
    }


def _lenient(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """The same for answers that may stand outside the tags; None unless both evaluations graded them so."""
    if not all(LENIENT in item.get("scores", {}) for pair in pairs for item in pair):
        return None
    return {
        "before": sum(_lenient_score(before) for before, _ in pairs) / len(pairs),
        "after": sum(_lenient_score(after) for _, after in pairs) / len(pairs),
        "difference": vars(change(pairs, _lenient_score)),
    }


def _lenient_score(item: Item) -> float:
    return item["scores"][LENIENT] or 0.0


def _clustered(items: Sequence[Item]) -> bool:
    """Whether questions share a statement or an image."""
    clusters = [item["cluster"] for item in items if item.get("cluster") is not None]
    return len(set(clusters)) < len(clusters)


COLUMNS = (
    *("task", "questions", "A", "B", "difference", "95 % interval"),
    *("fixed", "broken", "McNemar p"),
)
"""Of `comparison_rows`."""


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Per task and in total as Markdown, then what it means."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in comparison_rows(comparison)]
    return "\n".join([*lines, *rewards_table(comparison), "", *comparison_notes(comparison)])


def comparison_rows(comparison: Mapping[str, Any]) -> list[list[str]]:
    """The cells under COLUMNS: a row for each task, then the total."""
    rows = [_row(task, row) for task, row in comparison["tasks"].items()]
    return [*rows, _row("total", comparison["total"])]


def _row(task: str, row: Mapping[str, Any]) -> list[str]:
    difference, p = row["difference"], row["mcnemar_p"]
    return [
        task,
        str(row["count"]),
        f"{row['before']:.1%}",
        f"{row['after']:.1%}",
        f"{100 * difference['mean']:+.1f}",
        f"{100 * difference['low']:+.1f} to {100 * difference['high']:+.1f}",
        str(len(row["fixed"])),
        str(len(row["broken"])),
        "–" if p is None else f"{p:.2g}",
    ]


def comparison_notes(comparison: Mapping[str, Any], *, ids: bool = True) -> list[str]:
    """What the figures mean, and what limits them. ids: name some of the questions that flipped."""
    total = comparison["total"]
    difference = score(total, "difference")
    assert difference is not None
    zero = difference.low <= 0 <= difference.high
    if difference.mean == difference.low == difference.high == 0:
        notes = [f"no question's {comparison['score']} differs"]
    elif zero:
        notes = ["the total's interval includes 0: the difference may be luck"]
    else:
        notes = ["the total's interval leaves out 0: chance alone does not explain the difference"]
    if comparison["score"] != PREPARED.accuracy:
        notes.append(f"A and B are {comparison['score']}")
    for kind in ("fixed", "broken"):
        if ids and total[kind]:
            notes.append(f"{kind}: {_some(total[kind])}")
    if lenient := comparison["lenient"]:
        by = lenient["difference"]
        notes.append(
            f"lenient accuracy, answers outside the tags included: {lenient['before']:.1%} and "
            f"{lenient['after']:.1%}, {100 * by['mean']:+.1f} "
            f"({100 * by['low']:+.1f} to {100 * by['high']:+.1f})"
        )
    if comparison["clustered"]:
        notes.append("questions share statements or images: the intervals know, McNemar's test does not")
    if comparison["differ"]:
        notes.append(f"A and B were not asked alike: they differ in {', '.join(comparison['differ'])}")
    return [*notes, *rewards_notes(comparison)]
