"""What the Rollouts tab shows of a group and of a whole step, as HTML."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from gpg_vl.errors import RewardError, UserError
from gpg_vl.types import Box, Sample

from ..service.answer_boxes import answer_boxes, best_overlap
from ..service.layers import Layer, with_gold
from ..service.records import Record
from ..service.rescoring import Other, StepScores, is_valid, rescore, verdict_on
from ..service.run_questions import RunQuestions
from ..service.samples import ALL_TASKS
from .markup import Shown, answer_card, facts, grid, hint, note, question_card, table, tiles
from .picture import picture_with_boxes
from .titles import TITLES
from .words import figures

_GOES_ON = "…"
_BARS = 10
"""Of a histogram whose values are many."""
Boxes = Sequence[Sequence[Box]]
"""Of each answer; empty where none are asked for, or where they cannot be had."""
_TITLES = {**TITLES, "trained": "Answers"}


def group_view(
    questions: RunQuestions, answers: Sequence[Record], other: Other | None
) -> tuple[str, str, str]:
    """The question, what another reward makes of the group, and its answers; a note for what is not there.

    other: None for none.
    """
    sample, problems = _sample(questions, answers)
    boxes, problem = _boxes(questions, sample, answers)
    sentence, again = _again(questions, answers, other)
    name = f"{other.title} (again)" if other else ""
    opened, unread = _opens_think(questions)
    notes = "".join(map(note, dict.fromkeys(filter(None, (problems, problem, unread)))))
    cards = [
        answer_card(shown_answer(record, {name: again[n]} if again else {}, opened, overlap))
        for n, (record, overlap) in enumerate(zip(answers, _overlaps(boxes, sample, answers), strict=True))
    ]
    return notes + _question(sample, answers, boxes), sentence, grid(cards)


def _sample(questions: RunQuestions, answers: Sequence[Record]) -> tuple[Sample | None, str]:
    try:
        return questions.find(answers[0]["prompt_id"]), ""
    except UserError as error:
        return None, str(error)


def _opens_think(questions: RunQuestions) -> tuple[bool, str]:
    try:
        return questions.prompt.opens_think, ""
    except UserError as error:
        return False, str(error)


def _boxes(questions: RunQuestions, sample: Sample | None, answers: Sequence[Record]) -> tuple[Boxes, str]:
    if sample is None:
        return [], ""
    try:
        return answer_boxes(questions, sample, answers), ""
    except UserError as error:
        return [], f"The boxes cannot be drawn: {error!s}"


def _overlaps(boxes: Boxes, sample: Sample | None, answers: Sequence[Record]) -> list[float | None]:
    if sample is None or not boxes:
        return [None] * len(answers)
    return [best_overlap(found, sample) for found in boxes]


def _again(
    questions: RunQuestions, answers: Sequence[Record], other: Other | None
) -> tuple[str, Sequence[float]]:
    """A sentence, and each answer's score if there is one."""
    if other is None:
        return "", ()
    try:
        scores = rescore(questions, other, answers)
    except (UserError, RewardError) as error:
        return note(str(error)), ()
    return hint(figures(verdict_on(other, scores))), scores.by_reward.get(other.name, ())


def _question(sample: Sample | None, answers: Sequence[Record], boxes: Boxes) -> str:
    first = answers[0]
    state = "valid" if first["valid"] else "discarded: all rewards equal"
    header = f"{first['task']} · {first['prompt_id']} · round {first['round'] + 1} · {state}"
    if sample is None:
        return question_card("", [], first["gold"], header)
    if not boxes:
        return question_card(sample.question, sample.choices, sample.answer, header, sample.images)
    layers = with_gold(sample, {"trained": Layer(boxes, None)})
    picture = picture_with_boxes(sample.images[0], layers, sample.question, titles=_TITLES)
    further = question_card(sample.question, sample.choices, sample.answer, header, sample.images[1:])
    return f'<div class="gpg">{picture}{further}</div>'


def shown_answer(
    record: Record, again: Mapping[str, float], think_opened: bool, overlap: float | None = None
) -> Shown:
    """A recorded answer for its card, with the scores it got `again` and its box's overlap with gold."""
    return Shown(
        title=f"Answer {record['answer_index'] + 1}",
        text=record["text"],
        answer=record["answer"],
        think_opened=think_opened,
        advantage=record["advantage"],
        labels=["its rewards cannot be read"] if record["rewards"] is None else (),
        facts=[
            figures(f"reward {record['reward']:.3g}"),
            *([] if overlap is None else [f"IoU {overlap:.2f}"]),
            *facts(record["token_count"], finish_reason=record["finish_reason"]),
        ],
        rewards={**(record["rewards"] or {}), **again},
    )


def step_report(step: int, scores: StepScores, *, running: bool) -> str:
    """What a reward makes of a step: figures, the spread of its scores, and each task."""
    state = _progress(step, scores, running=running)
    if not scores.scores:
        return state + ("" if running or not scores.graded else _nothing(scores))
    return state + tiles(_figures(scores)) + _histogram(scores) + _tasks(scores)


def settled(report: str) -> str:
    """A report that grows no more, which then does not look as if it did."""
    return report.replace(f"{_GOES_ON}</p>", "; stopped.</p>", 1)


def _nothing(scores: StepScores) -> str:
    """In place of figures of no answer."""
    return hint(
        f"{scores.reward} cannot grade every answer of any group here, so there are no scores to show: "
        "training with it would leave out the whole step."
    )


def _progress(step: int, scores: StepScores, *, running: bool) -> str:
    """How far it is, and what does not count."""
    cut = "" if running or scores.done == scores.total else "; the time was up"
    parts = [f"Step {step:,} scored with {scores.reward}: {scores.done} of {scores.total} groups{cut}"]
    if scores.ungraded:
        parts.append(f"{scores.ungraded} have answers that it cannot grade, and count as discarded")
    if scores.absent:
        parts.append(f"{scores.absent} are left out, for their questions are not in the data here")
    return hint("; ".join(parts) + (_GOES_ON if running else "."))


def _figures(scores: StepScores) -> list[tuple[str, str]]:
    values = [value for _, group in scores.scores for value in group]
    valid = sum(is_valid(group) for _, group in scores.scores)
    alpha = f"{scores.graded / valid:.3g}" if valid else "∞"
    return [
        (f"{np.mean(values):.3g}", f"mean over {len(values):,} answers"),
        (f"{valid} of {scores.graded}", "groups would be valid"),
        (alpha, "gradient rescaling α = groups / valid groups"),
    ]


def _tasks(scores: StepScores) -> str:
    tasks = sorted({task for task, _ in scores.scores})
    rows = [_row(task, [group for name, group in scores.scores if name == task]) for task in tasks]
    total = _row(ALL_TASKS, [group for _, group in scores.scores])
    return table(("Task", "Groups", "Valid", "Mean"), [*(rows if len(rows) > 1 else []), total])


def _row(name: str, groups: Sequence[Sequence[float]]) -> tuple[str, ...]:
    values = [value for group in groups for value in group]
    valid = sum(map(is_valid, groups))
    return name, f"{len(groups)}", f"{valid}", f"{sum(values) / len(values):.3g}"


def _histogram(scores: StepScores) -> str:
    """How many answers got which score."""
    bars = _counts([value for _, group in scores.scores for value in group])
    most = max(count for _, count in bars)
    inner = "".join(
        f'<li><b>{count:,}</b><i style="height:{100 * count / most:.1f}%"></i><span>{name}</span></li>'
        for name, count in bars
    )
    return f'<figure class="gpg histogram"><figcaption>Answers by score</figcaption><ol>{inner}</ol></figure>'


def _counts(values: Sequence[float]) -> list[tuple[str, int]]:
    """Answers by score if there are few scores, else by stretches of equal width."""
    exact = Counter(round(value, 6) for value in values)
    if len(exact) <= _BARS:
        return [(figures(f"{value:.3g}"), exact[value]) for value in sorted(exact)]
    counts, edges = np.histogram(values, bins=_BARS)
    return [(figures(f"{edge:.2g}–"), int(count)) for edge, count in zip(edges, counts, strict=False)]
