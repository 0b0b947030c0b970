"""One model's pane as HTML: where it is, its answers, their worth. No Gradio here."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from gpg_vl.prompting.prompts import letter
from gpg_vl.report.samples import badge, verdict

from ..service.generate import Progress
from ..service.models import Kind
from ..service.verdicts import Verdict, vote
from .latex import as_formula
from .markup import Shown, answer_card, block, facts, note

TITLES: dict[Kind, str] = {"base": "Base", "trained": "Trained"}
_STATES = {"loading": "loading the model", "writing": "reading the question", "stopped": "stopped"}


def empty_pane(kind: Kind, text: str = "The answer will stand here.") -> str:
    """What stands in a pane before anything was asked."""
    return _card(kind, "", f'<p class="hint">{escape(text)}</p>')


def pane(
    progress: Progress, kind: Kind, verdicts: Sequence[Verdict] = (), *, mathematics: bool = False
) -> str:
    """A pane at this moment; `verdicts`, one an answer, once it is done.

    `mathematics`: whether final answers are formulas.
    """
    verdicts = [
        replace(
            one,
            answer=_spelled(one.answer, progress, mathematics),
            says=_spelled(one.says, progress, mathematics),
        )
        for one in verdicts
    ]
    if progress.state == "failed":
        return _card(kind, badge("failed", "wrong"), note(progress.error))
    if not progress.texts:
        return _card(kind, badge(_state(progress)), '<p class="hint" role="status">…</p>')
    if len(progress.texts) > 1:
        return _several(progress, kind, verdicts)
    return answer_card(_shown(progress, kind, verdicts)) + _problem(verdicts)


def _spelled(answer: str | None, progress: Progress, mathematics: bool) -> str | None:
    """A final answer as it is shown: a letter with the choice that it names, a formula between dollars."""
    if answer is None or progress.answered is None:
        return answer
    choices = progress.answered.sample.choices
    named = {letter(place): f"{letter(place)} {choice}" for place, choice in enumerate(choices)}
    return as_formula(answer) if mathematics else named.get(answer, answer)


def _state(progress: Progress) -> str:
    if progress.state == "waiting":
        return f"waiting, {progress.ahead} before this" if progress.ahead else "waiting"
    return _STATES.get(progress.state, progress.state)


def _shown(progress: Progress, kind: Kind, verdicts: Sequence[Verdict]) -> Shown:
    """The only answer, while it grows or when it is done."""
    running = progress.state == "writing"
    one = verdicts[0] if verdicts else Verdict(None)
    reason = progress.answered.completions[0].finish_reason if progress.answered else ""
    return Shown(
        title=TITLES[kind],
        text=progress.texts[0],
        answer=one.answer,
        kind=kind,
        think_opened=progress.think_opened,
        right=one.right,
        labels=["stopped"] if progress.state == "stopped" else [],
        facts=facts(progress.tokens[0], progress.seconds, finish_reason=reason),
        rewards=one.rewards,
        running=running,
    )


def _several(progress: Progress, kind: Kind, verdicts: Sequence[Verdict]) -> str:
    """The vote and a table with a row for each answer."""
    labels = badge(_state(progress)) if progress.state == "stopped" else ""
    tokens = facts(sum(progress.tokens), progress.seconds)
    head = f"{labels}<small>{escape(' · '.join(tokens))}</small>"
    body = _vote(verdicts) if verdicts else ""
    rows = "".join(_row(progress, place, verdicts) for place in range(len(progress.texts)))
    names = "".join(f"<th>{escape(name)}</th>" for name in (verdicts[0].rewards if verdicts else ()))
    table = (
        f"<table><thead><tr><th>#</th><th>Answer</th><th></th>{names}<th>Tokens</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
    return _card(kind, head, f"{body}{table}") + _problem(verdicts)


def _vote(verdicts: Sequence[Verdict]) -> str:
    found = vote(verdicts)
    text = "no answer" if found.answer is None else found.answer
    right = "" if found.right is None else verdict(found.right)
    share = f"{found.count} of {len(verdicts)} answers"
    graded = [one.right for one in verdicts if one.right is not None]
    correct = f" · {sum(graded)} of {len(graded)} right" if graded else ""
    return (
        f'<div class="final" dir="auto">{escape(text)}</div>'
        f'<p class="hint">Majority vote: {share}{correct} {right}</p>'
    )


def _row(progress: Progress, place: int, verdicts: Sequence[Verdict]) -> str:
    """One answer: what it says, its worth, its length; the whole text is folded away."""
    one = verdicts[place] if verdicts else Verdict(None)
    text = progress.texts[place]
    final = one.answer or ("no answer" if verdicts else text.strip()[-40:] or "…")
    right = "" if one.right is None else verdict(one.right)
    whole = f"<details><summary>{escape(final)}</summary>{block(text)}</details>"
    tokens = f"{progress.tokens[place]:,}"
    scores = "".join(f"<td>{score:.3g}</td>" for score in one.rewards.values())
    return f"<tr><td>{place + 1}</td><td>{whole}</td><td>{right}</td>{scores}<td>{tokens}</td></tr>"


def _card(kind: Kind, labels: str, body: str) -> str:
    """The pane's frame around markup that is safe already."""
    return (
        f'<article class="gpg card {kind}"><header><h3>{TITLES[kind]}</h3>{labels}</header>{body}</article>'
    )


def _problem(verdicts: Sequence[Verdict]) -> str:
    problems = {verdict.problem for verdict in verdicts if verdict.problem}
    return "".join(note(problem) for problem in sorted(problems))
