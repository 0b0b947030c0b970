"""One model's pane as HTML: where it is, its answers, their worth. No Gradio here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from gpg_vl.prompting.prompts import letter
from gpg_vl.report.samples import badge, verdict
from gpg_vl.runs.files import Item

from ..service.asking import Pane
from ..service.evaluations import title
from ..service.generate import Progress
from ..service.models import Kind
from ..service.verdicts import Verdict, vote
from .latex import as_formula
from .markup import Shown, answer_card, block, facts, note, shown_item
from .titles import TITLES, title_of
from .words import figures

WORKING, STORED = "working", "stored"
"""Classes of badges: of a pane whose model is not done, and of an answer that comes from an evaluation."""
_STATES = {"loading": "loading the model", "done": "scoring"}


@dataclass(frozen=True)
class Head:
    """Whose pane it is."""

    kind: Kind
    title: str
    """Such as "Trained · gpg step 600"."""
    roots: Sequence[str] = ()
    """Paths that the operator gave; see `for_page`."""


def head_of(kind: Kind, path: str, roots: Sequence[str] = ()) -> Head:
    """The pane's head for the model at `path`."""
    return Head(kind, f"{TITLES[kind]} · {title_of(path)}", roots)


def empty_pane(head: Head, text: str = "The answer will stand here.") -> str:
    """What stands in a pane before anything was asked."""
    return _card(head, "", f'<p class="hint">{escape(text)}</p>')


def pane(found: Pane, head: Head, *, mathematics: bool = False) -> str:
    """A pane at this moment.

    `mathematics`: whether final answers are formulas.
    """
    progress = found.progress
    verdicts = [
        replace(
            one,
            answer=_spelled(one.answer, progress, mathematics),
            says=_spelled(one.says, progress, mathematics),
        )
        for one in found.verdicts
    ]
    if progress.state == "failed":
        return _card(head, badge("failed", "wrong"), note(progress.error, head.roots))
    if not progress.texts:
        return _card(head, _state(found), '<p class="hint" role="status">…</p>')
    if len(progress.texts) > 1:
        return _several(found, head, verdicts)
    return answer_card(_shown(found, head, verdicts), _state(found)) + _problem(verdicts, head.roots)


def stored_pane(item: Item, kind: Kind, evaluation: str) -> str:
    """A stored answer, marked as such; evaluation: the name of its file, which says whose answer it is."""
    shown = shown_item(item, TITLES[kind], kind)
    named = replace(shown, answer=_with_choice(shown.answer, item["choices"]))
    return answer_card(named, badge(f"stored · {title(evaluation)}", STORED))


def _spelled(answer: str | None, progress: Progress, mathematics: bool) -> str | None:
    """A final answer as it is shown: a letter with the choice that it names, a formula between dollars."""
    if answer is None or progress.answered is None:
        return answer
    return as_formula(answer) if mathematics else _with_choice(answer, progress.answered.sample.choices)


def _with_choice(answer: str | None, choices: Sequence[str]) -> str | None:
    """A letter with the choice that it names; any other answer as it is."""
    named = {letter(place): f"{letter(place)} {choice}" for place, choice in enumerate(choices)}
    return named.get(str(answer), answer)


def _state(found: Pane) -> str:
    """A badge that says what happens; none once all is done."""
    state = found.progress.state
    if state == "stopped":
        return badge("stopped")
    if state == "failed" or (state == "done" and not found.scoring):
        return ""
    return badge(_words(found.progress), WORKING)


def _words(progress: Progress) -> str:
    if progress.state == "waiting":
        return f"waiting, {progress.ahead} before this" if progress.ahead else "waiting"
    if progress.state == "writing":
        return "writing" if progress.texts else "reading the question"
    return _STATES[progress.state]


def _shown(found: Pane, head: Head, verdicts: Sequence[Verdict]) -> Shown:
    """The only answer, while it grows or when it is done."""
    progress = found.progress
    one = verdicts[0] if verdicts else Verdict(None)
    reason = progress.answered.completions[0].finish_reason if progress.answered else ""
    return Shown(
        title=head.title,
        text=progress.texts[0],
        answer=one.answer,
        kind=head.kind,
        think_opened=progress.think_opened,
        right=one.right,
        facts=facts(progress.tokens[0], progress.seconds, finish_reason=reason),
        rewards=one.rewards,
        running=progress.state == "writing" or found.scoring,
    )


def _several(found: Pane, head: Head, verdicts: Sequence[Verdict]) -> str:
    """The vote and a table with a row for each answer."""
    progress = found.progress
    tokens = facts(sum(progress.tokens), progress.seconds)
    labels = f"{_state(found)}<small>{escape(' · '.join(tokens))}</small>"
    body = _vote(verdicts) if verdicts else ""
    rows = "".join(_row(progress, place, verdicts) for place in range(len(progress.texts)))
    names = "".join(f"<th>{escape(name)}</th>" for name in (verdicts[0].rewards if verdicts else ()))
    table = (
        f"<table><thead><tr><th>#</th><th>Answer</th><th></th>{names}<th>Tokens</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
    return _card(head, labels, f"{body}{table}") + _problem(verdicts, head.roots)


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
    scores = "".join(f"<td>{figures(f'{score:.3g}')}</td>" for score in one.rewards.values())
    return f"<tr><td>{place + 1}</td><td>{whole}</td><td>{right}</td>{scores}<td>{tokens}</td></tr>"


def _card(head: Head, labels: str, body: str) -> str:
    """The pane's frame around markup that is safe already."""
    title = f"<h3>{escape(head.title)}</h3>"
    return f'<article class="gpg card {head.kind}"><header>{title}{labels}</header>{body}</article>'


def _problem(verdicts: Sequence[Verdict], roots: Sequence[str]) -> str:
    problems = {verdict.problem for verdict in verdicts if verdict.problem}
    return "".join(note(problem, roots) for problem in sorted(problems))
