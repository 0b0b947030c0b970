"""The Rollouts tab: what a run sampled, group by group, and what another reward makes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from gpg_vl.errors import RewardError, UserError
from gpg_vl.registry import rewards

from ..parts.markup import Shown, answer_card, facts, grid, hint, note, question_card
from ..service import records
from ..service.records import GroupEntry, Record
from ..service.rescoring import RunQuestions, verdict_on
from ..service.settings import DemoSettings
from ..wiring import PRIVATE, page

_NONE = "none"


@dataclass(frozen=True)
class RolloutsTab:
    """What other parts of the app may wire."""

    step: gr.Slider
    search: gr.Textbox
    group: gr.Dropdown
    reward: gr.Dropdown
    answers: gr.HTML


def rollouts_tab(settings: DemoSettings) -> RolloutsTab | None:
    """Build the tab inside the current block; without records it only says what to pass."""
    files = records.steps(Path(settings.run)) if settings.run else {}
    if settings.run is None or not files:
        gr.HTML(note(_missing(settings.run)))
        return None
    run = Path(settings.run)
    questions = RunQuestions(run, settings.data)
    with gr.Row():
        step = gr.Slider(
            *_range(files), value=max(files), step=1, label="Step", scale=2, min_width=200, buttons=[]
        )
        search = gr.Textbox("", label="Search in the step's answers", scale=2, min_width=200)
        group = gr.Dropdown(label="Question", scale=4, min_width=280)
    question = gr.HTML(padding=False)
    with gr.Row(equal_height=True):
        known = [_NONE, *sorted(rewards.announced())]
        reward = gr.Dropdown(known, value=_NONE, label="Score again with", scale=1, min_width=180)
        rescored = gr.HTML(padding=False, min_width=280, elem_classes="beside")
    answers = gr.HTML(padding=False)

    def list_steps() -> gr.Slider:
        first, last = _range(records.steps(run))
        return gr.Slider(minimum=first, maximum=last)

    def list_groups(number: float, text: str) -> list[Any]:
        return _groups(records.steps(run), number, text)

    def show(number: float, chosen: int | None, name: str) -> list[Any]:
        if chosen is None:
            return ["", "", gr.skip()]  # where the answers go stands why there are none
        found = records.steps(run)
        return _group(questions, found[records.nearest(found, number)], chosen, name)

    listed, shown = [group, answers], [question, rescored, answers]
    for change in (step.input, search.change):
        change(list_groups, [step, search], listed, trigger_mode="always_last", **PRIVATE).then(
            show, [step, group, reward], shown, **PRIVATE
        )
    group.input(show, [step, group, reward], shown, **PRIVATE)
    # The first score of a reward with a deadline waits for worker processes to start.
    reward.input(
        show,
        [step, group, reward],
        shown,
        show_progress_on=rescored,
        **{**PRIVATE, "show_progress": "minimal"},
    )
    page().load(list_steps, None, step, **PRIVATE).then(list_groups, [step, search], listed, **PRIVATE).then(
        show, [step, group, reward], shown, **PRIVATE
    )
    return RolloutsTab(step, search, group, reward, answers)


def _missing(run: str | None) -> str:
    if run is None:
        return "Start the app with --run RUN_DIR to browse the answers that a training run sampled."
    name = Path(run).name
    return f"The run {name} holds no rollout records (rollouts/*.parquet): is it a run of gpg-vl train?"


def _range(files: Mapping[int, Path]) -> tuple[int, int]:
    """The slider's ends, which Gradio wants apart; `nearest` takes what lies between the steps."""
    return min(files), max(max(files), min(files) + 1)


def _groups(files: Mapping[int, Path], number: float, text: str) -> list[Any]:
    """The list of groups with one chosen, and a message where there is none."""
    step = records.nearest(files, number)
    try:
        entries = records.overview(files[step], text)
    except UserError as error:
        return [gr.Dropdown([], value=None), note(str(error))]
    searched = bool(text.strip())
    choices = [(records.label(entry, searched=searched), entry.group) for entry in entries]
    message = "" if entries else note(f"No answer of step {step} holds {text.strip()!r}.")
    return [gr.Dropdown(choices, value=first_shown(entries)), message]


def first_shown(entries: Sequence[GroupEntry]) -> int | None:
    """The first group that trained the model, else the first; None where there is none."""
    return next((entry.group for entry in [e for e in entries if e.valid] or entries), None)


def _group(questions: RunQuestions, path: Path, chosen: int, reward: str) -> list[str]:
    """The question, what the other reward makes of the group, and its answers."""
    try:
        answers = records.answers(path, chosen)
    except UserError as error:
        return ["", "", note(str(error))]
    sentence, scores = _rescored(questions, reward, answers)
    titles = [f"{reward} (again)"] if scores else []
    cards = [
        answer_card(shown_answer(record, dict(zip(titles, again, strict=True)), questions.prompt.opens_think))
        for record, again in zip(answers, scores or [()] * len(answers), strict=True)
    ]
    return [_question(questions, answers), sentence, grid(cards)]


def _rescored(
    questions: RunQuestions, reward: str, records: list[Record]
) -> tuple[str, list[tuple[float, ...]]]:
    """A sentence, and the score of each answer, if there are any."""
    if reward == _NONE:
        return "", []
    try:
        scores = questions.rescore(reward, records)
    except (UserError, RewardError) as error:
        return note(str(error)), []
    return hint(verdict_on(reward, scores)), [(score,) for score in scores.by_reward.get(reward, ())]


def _question(questions: RunQuestions, records: list[Record]) -> str:
    first = records[0]
    state = "valid" if first["valid"] else "discarded: all rewards equal"
    header = f"{first['task']} · {first['prompt_id']} · round {first['round'] + 1} · {state}"
    try:
        sample = questions.find(first["prompt_id"])
    except UserError as error:
        return note(str(error)) + question_card("", [], first["gold"], header)
    return question_card(sample.question, sample.choices, sample.answer, header, sample.images)


def shown_answer(record: Record, again: Mapping[str, float], think_opened: bool) -> Shown:
    """A recorded answer for its card, with the scores it got `again`."""
    return Shown(
        title=f"Answer {record['answer_index'] + 1}",
        text=record["text"],
        answer=record["answer"],
        think_opened=think_opened,
        advantage=record["advantage"],
        facts=[
            f"reward {record['reward']:.3g}",
            *facts(record["token_count"], finish_reason=record["finish_reason"]),
        ],
        rewards={**record["rewards"], **again},
    )
