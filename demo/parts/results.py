"""What training changed as HTML: the figures in words, bars by task, questions as cards and as rows.

Questions are buttons that carry their id; `OPENING` tells the page's events which was pressed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from gpg_vl.evaluation.compare import Pair
from gpg_vl.report.results import minus
from gpg_vl.report.samples import badge, outcome
from gpg_vl.runs.files import Evaluation, is_right, score
from gpg_vl.stats import Interval

from ..service.answers import final_text, gold_text, share_right
from ..service.evaluations import BROKEN, FIXED, OUTCOMES, Comparison

OPENING = """element.addEventListener('click', event => {
  const pressed = event.target.closest('[data-id], [data-page]');
  if (!pressed || !element.contains(pressed)) return;
  if (pressed.dataset.page) trigger('turn', {page: Number(pressed.dataset.page)});
  else trigger('select', {id: pressed.dataset.id});
});"""
"""For `gr.HTML(js_on_load=...)`: `select` brings the id of a question, `turn` the number of a page."""
_SHOWN = 300
"""Characters of a text: the style sheet cuts it at some lines, and Compare shows all of it."""
_KINDS = {FIXED: "right", BROKEN: "wrong"}


def change_card(found: Comparison, titles: tuple[str, str], further: Sequence[str] = ()) -> str:
    """The two scores in large figures, what they are of, and what the difference means."""
    total = found.result["total"]
    figure = f"{100 * total['before']:.1f} → <b>{100 * total['after']:.1f}&nbsp;%</b>"
    models = "".join(
        f'<span><i class="mark {kind}"></i>{name}: {escape(title)}</span>'
        for (kind, name), title in zip((("base", "Base"), ("trained", "Trained")), titles, strict=True)
    )
    kind, words = change_in_words(total)
    hints = [luck_in_words(total["mcnemar_p"]), *_limits(found), *further]
    small = "".join(f'<p class="hint">{escape(text)}</p>' for text in hints if text)
    return (
        f'<section class="result"><p class="figure">{figure}</p>'
        f'<p class="measured">{escape(found.measured)}</p>'
        f'<p class="models">{models}</p><p class="change {kind}">{words}</p>{small}{tally(found)}</section>'
    )


def tally(found: Comparison) -> str:
    """How many questions had each outcome, as one divided bar with its legend."""
    counts = Counter(outcome(*pair) for pair in found.pairs)
    names = [name for name in OUTCOMES if counts[name]]
    parts = "".join(
        f'<span class="{_KINDS.get(name, "")}" style="flex:{counts[name]}"></span>' for name in names
    )
    words = ", ".join(f"{counts[name]:,} {name.lower()}" for name in names)
    return f'<div class="tally" aria-hidden="true">{parts}</div><p class="hint">Questions: {words}.</p>'


def change_in_words(total: Mapping[str, Any]) -> tuple[str, str]:
    """`up`, `down` or nothing, and the paired difference with what it says about training."""
    by = Interval(**total["difference"])
    points = minus(f"{100 * by.mean:+.1f} points, 95 % interval {100 * by.low:+.1f} to {100 * by.high:+.1f}")
    if by.low == by.mean == by.high == 0:
        return "", "No question is answered better or worse than before"
    if by.low > 0:
        return "up", f"{points}: training helped"
    if by.high < 0:
        return "down", f"{points}: training made it worse"
    return "", f"{points}: it includes 0, so this may be luck"


def luck_in_words(p: float | None) -> str:
    """What McNemar's p says; nothing for graded scores, which it does not know."""
    if p is None:
        return ""
    share = f"{100 * p:.0f}" if p > 0.1 else f"{100 * p:.2g}"
    often = "less than once in 1,000 tries" if p < 0.001 else f"in {share} of 100 tries"
    return (
        f"Were both models equally good, a difference this large would come up {often} (McNemar's test, "
        f"p = {p:.2g})."
    )


def _limits(found: Comparison) -> list[str]:
    """What a reader has to know of how the two came about."""
    limits = []
    if found.result["differ"]:
        limits.append(f"The two were not asked alike: they differ in {', '.join(found.result['differ'])}.")
    chance = found.trained.get("chance")
    if chance is not None:
        limits.append(f"Guessing would get {100 * chance:.1f} %.")
    return limits


def bars(found: Comparison) -> str:
    """The scores of both by task, with their 95 % intervals."""
    rows = "".join(_task(task, found.base, found.trained) for task in found.tasks)
    name = escape(found.score[0].upper() + found.score[1:])
    return (
        f'<section class="result"><h2>{name} by task</h2><div class="bars">{rows}</div>'
        '<p class="hint">Lines at the ends are 95 % intervals.</p></section>'
    )


def _task(task: str, base: Evaluation, trained: Evaluation) -> str:
    lines = "".join(
        _bar(score(one["tasks"].get(task, {}), "accuracy"), kind, name)
        for kind, name, one in (("base", "Base", base), ("trained", "Trained", trained))
    )
    return f'<div class="task"><span class="name">{escape(task)}</span>{lines}</div>'


def _bar(share: Interval | None, kind: str, name: str) -> str:
    if share is None:
        return ""
    low, mean, high = (100 * value for value in (share.low, share.mean, share.high))
    return (
        f'<span class="track"><span class="bar {kind}" style="width:{mean:.2f}%"></span>'
        f'<span class="interval" style="left:{low:.2f}%;width:{high - low:.2f}%"></span></span>'
        f'<span class="value"><span class="unseen">{name} </span>{mean:.1f}&nbsp;%</span>'
    )


@dataclass(frozen=True)
class Question:
    """A question of two evaluations with its small image as a data URL, which may be empty."""

    pair: Pair
    image: str


def cards(questions: Sequence[Question]) -> str:
    """Questions side by side where there is room."""
    return f'<div class="examples">{"".join(map(_card, questions))}</div>'


def _card(question: Question) -> str:
    base, trained = question.pair
    image = _image(question.image)
    answers = "".join(
        (
            _line("Base", "base", final_text(base), is_right(base), share_right(base)),
            _line("Trained", "trained", final_text(trained), is_right(trained), share_right(trained)),
            _line("Gold", "gold", gold_text(trained)),
        )
    )
    return (
        f'<button type="button" class="example" data-id="{escape(trained["id"])}">{image}'
        f'<span class="example-body"><span class="example-head">{_outcome(question.pair)}'
        f"<small>{escape(trained['task'])}</small></span>"
        f'<span class="asks" dir="auto">{escape(trained["question"][:_SHOWN])}</span>'
        f'<span class="answers">{answers}</span></span></button>'
    )


def _line(name: str, kind: str, text: str, right: bool | None = None, share: str = "") -> str:
    """Whose answer, whether it is right, and what it says."""
    mark = {None: "", True: '<span class="ok">✓</span> ', False: '<span class="no">✗</span> '}[right]
    more = f" <small>{escape(share)}</small>" if share else ""
    return (
        f'<span class="who"><i class="mark {kind}"></i>{name}</span>'
        f'<span class="says" dir="auto">{mark}{escape(text[:_SHOWN])}{more}</span>'
    )


def rows(questions: Sequence[Question]) -> str:
    """Questions below each other, for reading columns down; stacked where there is no room."""
    head = "".join(f"<span>{name}</span>" for name in ("", "", "Question", "Gold", "Base", "Trained"))
    lines = "".join(f"<li>{_row(question)}</li>" for question in questions)
    return f'<div class="row head" aria-hidden="true">{head}</div><ol class="rows">{lines}</ol>'


def _row(question: Question) -> str:
    base, trained = question.pair
    cells = (
        ("Gold", gold_text(trained), ""),
        ("Base", final_text(base), share_right(base)),
        ("Trained", final_text(trained), share_right(trained)),
    )
    texts = "".join(
        f'<span class="cell" dir="auto"><small class="unseen">{name}</small> {escape(text[:_SHOWN])}'
        f"{f' <small class=share>{escape(share)}</small>' if share else ''}</span>"
        for name, text, share in cells
    )
    return (
        f'<button type="button" class="row" data-id="{escape(trained["id"])}">{_image(question.image)}'
        f'<span class="kind">{_outcome(question.pair)}<small>{escape(trained["task"])}</small></span>'
        f'<span class="asks" dir="auto">{escape(trained["question"][:_SHOWN])}</span>{texts}</button>'
    )


def _image(source: str) -> str:
    """The text beside it says what it is an image of."""
    return f'<img src="{source}" alt="">' if source else '<span class="blank"></span>'


def _outcome(pair: Pair) -> str:
    name = outcome(*pair)
    return badge(name, _KINDS.get(name, ""))


def pager(page: int, size: int, count: int) -> str:
    """Which of the questions are shown, and the way to the others. page: from 1 on."""
    last = -(-count // size)
    shown = f"{(page - 1) * size + 1:,} to {min(page * size, count):,} of {count:,}"
    if last < 2:
        return ""
    before, after = _turn("Previous", page - 1, last), _turn("Next", page + 1, last)
    return f'<nav class="pager" aria-label="Pages">{before}<span>{shown}</span>{after}</nav>'


def _turn(label: str, page: int, last: int) -> str:
    off = "" if 1 <= page <= last else " disabled"
    return f'<button type="button" data-page="{page}"{off}>{label}</button>'


def framed(*parts: str) -> str:
    """The parts as one block, without line breaks."""
    return f'<div class="gpg results">{"".join(parts)}</div>'.replace("\r", "&#13;").replace("\n", "&#10;")
