"""What the Rollouts tab shows, as functions of what its controls say; nothing is remembered in between."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from gpg_vl.errors import RewardError, UserError

from ..service import records
from ..service.records import GroupEntry
from ..service.rescoring import Other, rescore_step
from ..service.run_questions import questions_of
from .markup import hint, note
from .rollouts import group_view, step_report

NONE = "none"
THIS, ALL = "This step", "All steps"
SEARCHING, SCORING = 20.0, 120.0
"""Seconds that a search of all steps, and the scoring of one, may take."""
_HITS = 200
"""Groups that a search of all steps lists."""
_BREATH = 0.3
"""Seconds between two words about how far a search is."""

Place = tuple[int, int]
"""Step and group."""


@dataclass(frozen=True)
class Asked:
    """What the controls say."""

    step: float
    """0 before the page has been told which steps there are."""
    text: str
    everywhere: bool
    """Whether the text is searched in all steps; the group then names the step."""
    place: Place | None
    reward: str
    """"" for none."""

    @classmethod
    def of(cls, step: Any, text: Any, scope: Any, group: Any, reward: Any) -> "Asked":
        """From what a page has sent, which may be anything."""
        number = float(step) if isinstance(step, int | float) else 0.0
        words = str(text or "").strip()
        chosen = "" if reward in (None, NONE) else str(reward)
        return cls(number, words, scope == ALL and bool(words), place_of(group), chosen)


def place_of(value: Any) -> Place | None:
    """Step and group that the list's value names, such as `40/3`; None for anything else."""
    step, _, group = str(value).partition("/")
    known = all(part.isascii() and part.isdigit() and len(part) < 12 for part in (step, group))
    return (int(step), int(group)) if known else None


def name_of(place: Place) -> str:
    """What the list sends of a group: with its step, so that a group of another step cannot be meant."""
    return f"{place[0]}/{place[1]}"


@dataclass(frozen=True)
class View:
    """The tab's outputs, in their order."""

    missing: Any
    controls: Any
    step: Any
    group: Any
    question: Any
    rescored: Any
    answers: Any
    whole: Any
    painted: Any
    """What the others were painted from, with the values that the controls have after it."""

    @property
    def values(self) -> list[Any]:
        return list(vars(self).values())


_SAME = [gr.skip()] * 9


def view(
    run: Path, data: Sequence[str], rewards: Mapping[str, Other], asked: Asked, painted: Any
) -> list[Any]:
    """The outputs for what is asked; nothing is painted twice, so that what a reader has unfolded stays."""
    files = records.steps(run)
    if not files:
        return _empty(run, painted)
    step, entries, problem = _entries(files, asked)
    place = _chosen(files, asked, step, entries)
    shown = place[0] if place and asked.everywhere else step
    now = _stamp(files, asked, shown, place)
    span = (min(files), max(files))
    if painted and painted[0] == now:
        return _same_but(span, painted)
    question, rescored, answers = _group(run, data, rewards, files, asked, place, problem)
    return View(
        missing="",
        controls=gr.Column(visible=True),
        step=_slider(span, asked, shown),
        group=gr.skip() if asked.everywhere else _list(step, entries, asked, place),
        question=question,
        rescored=rescored,
        answers=answers,
        whole=gr.Button(interactive=asked.reward in rewards),
        painted=(now, span),
    ).values


def _empty(run: Path, painted: Any) -> list[Any]:
    """In place of everything: why there is nothing."""
    if painted == ("empty",):
        return _SAME
    what = "has no rollout records any more" if painted else "holds no rollout records yet"
    message = note(
        f"The run {run.name} {what} (rollouts/*.parquet); they appear here as soon as there are some."
    )
    hidden = gr.Column(visible=False)
    return View(message, hidden, gr.skip(), gr.skip(), "", "", "", gr.skip(), ("empty",)).values


def _stamp(files: Mapping[int, Path], asked: Asked, step: int, place: Place | None) -> Any:
    """Equal while the page would look the same."""
    try:
        written = files[step].stat().st_mtime_ns
    except FileNotFoundError:  # deleted since it was listed
        written = 0
    return (step, asked.text, asked.everywhere, place, asked.reward, written)


def _same_but(span: Place, painted: Any) -> list[Any]:
    """Further steps lengthen the slider, and touch nothing else."""
    if painted[1] == span:
        return _SAME
    same = gr.skip()
    step = gr.Slider(minimum=span[0], maximum=max(span[1], span[0] + 1))
    return View(same, same, step, same, same, same, same, same, (painted[0], span)).values


def _entries(files: Mapping[int, Path], asked: Asked) -> tuple[int, list[GroupEntry], str]:
    """The step that the slider means, its groups, and why there are none; the newest for a fresh page."""
    step = records.nearest(files, asked.step) if asked.step > 0 else max(files)
    if asked.everywhere:
        return step, [], ""
    try:
        entries = records.overview(files[step], asked.text)
    except UserError as error:
        return step, [], str(error)
    return step, entries, "" if entries else f"no answer of step {step} holds {asked.text!r}"


def _chosen(
    files: Mapping[int, Path], asked: Asked, step: int, entries: Sequence[GroupEntry]
) -> Place | None:
    """The group that is chosen, if the list still has it; else the first that trained the model."""
    if asked.everywhere:
        return asked.place if asked.place and asked.place[0] in files else None
    if asked.place and asked.place[0] == step and asked.place[1] in [entry.group for entry in entries]:
        return asked.place
    first = first_shown(entries)
    return None if first is None else (step, first)


def first_shown(entries: Sequence[GroupEntry]) -> int | None:
    """The first group that trained the model, else the first; None where there is none."""
    return next((entry.group for entry in [e for e in entries if e.valid] or entries), None)


def _slider(span: Place, asked: Asked, shown: int) -> gr.Slider:
    """The slider's ends, which Gradio wants apart.

    Its value is left alone wherever it is the reader's: who presses keys quickly is ahead of what is painted.
    """
    ends: dict[str, Any] = {"minimum": span[0], "maximum": max(span[1], span[0] + 1)}
    if asked.everywhere or asked.step <= 0:
        ends["value"] = shown
    return gr.Slider(**ends, interactive=not asked.everywhere)


def _list(step: int, entries: Sequence[GroupEntry], asked: Asked, place: Place | None) -> gr.Dropdown:
    """The step's groups; the value is left alone where it stays."""
    searched = bool(asked.text)
    choices = [(records.label(one, searched=searched), name_of((step, one.group))) for one in entries]
    return _offered(choices, None if place is None else name_of(place), stays=place == asked.place)


def _offered(choices: Sequence[tuple[str, str]], chosen: str | None, *, stays: bool) -> gr.Dropdown:
    return gr.Dropdown(choices=choices) if stays else gr.Dropdown(choices=choices, value=chosen)


def _group(
    run: Path,
    data: Sequence[str],
    rewards: Mapping[str, Other],
    files: Mapping[int, Path],
    asked: Asked,
    place: Place | None,
    problem: str,
) -> tuple[str, str, str]:
    """Question, sentence about the other reward, answers."""
    if place is None:
        return note(problem or "Choose one of the groups found."), "", ""
    try:
        answers = records.answers(files[place[0]], place[1])
    except UserError as error:
        return note(str(error)), "", ""
    return group_view(questions_of(run, data), answers, rewards.get(asked.reward))


def found(run: Path, asked: Asked, seconds: float = SEARCHING) -> Iterator[list[Any]]:
    """How far the search of all steps is, and at last the groups; without a search the line is cleared."""
    if not asked.everywhere:
        yield ["", gr.skip()]
        return
    files, start, spoken = records.steps(run), time.monotonic(), 0.0
    hits: list[tuple[int, GroupEntry]] = []
    problems: list[str] = []
    looked = 0
    for one in records.search(files, asked.text):
        looked += 1
        hits += [(one.step, entry) for entry in one.entries]
        problems += [one.problem] if one.problem else []
        now = time.monotonic()
        if len(hits) >= _HITS or now - start > seconds:
            break
        if now - spoken > _BREATH:
            spoken = now
            yield [hint(f"Searched {looked:,} of {len(files):,} steps: {_groups(len(hits))} …"), gr.skip()]
    end = "" if looked == len(files) else f", the newest {looked:,} of {len(files):,} steps searched"
    said = hint(f"{_groups(len(hits))} with {asked.text!r}{end}.") + "".join(map(note, problems[:3]))
    yield [said, _hit_list(hits[:_HITS], asked)]


def _groups(count: int) -> str:
    return f"{count:,} group{'' if count == 1 else 's'}"


def _hit_list(hits: Sequence[tuple[int, GroupEntry]], asked: Asked) -> gr.Dropdown:
    choices = [(records.hit_label(step, entry), name_of((step, entry.group))) for step, entry in hits]
    stays = asked.place in [(step, entry.group) for step, entry in hits]
    return _offered(choices, choices[0][1] if choices else None, stays=stays)


def scored(
    run: Path, data: Sequence[str], rewards: Mapping[str, Other], asked: Asked, seconds: float = SCORING
) -> Iterator[str]:
    """The report on a step with another reward, as it grows."""
    files = records.steps(run)
    other = rewards.get(asked.reward)
    if not files or other is None:
        yield note("Choose a reward first.") if files else ""
        return
    step = asked.place[0] if asked.place and asked.place[0] in files else records.nearest(files, asked.step)
    scores = None
    try:
        for scores in rescore_step(questions_of(run, data), other, files[step], seconds):
            yield step_report(step, scores, running=True)
    except (UserError, RewardError) as error:
        yield note(str(error))
        return
    if scores is not None:
        yield step_report(step, scores, running=False)
