"""Untrusted text as HTML that is safe to show: everything is escaped, and only our own tags are markup.

What these functions return has no line breaks: a Markdown component then takes it for one block of HTML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from PIL import Image

from gpg_vl.prompting.prompts import answer_part
from gpg_vl.report.samples import badge, choices_list, picture, tagged, verdict
from gpg_vl.runs.files import Item, answers_of, is_right

from ..service.answers import final_text, share_right
from .words import figures, for_page


@dataclass(frozen=True)
class Shown:
    """An answer as its card shows it."""

    title: str
    text: str
    """What the model wrote."""
    answer: str | None
    """The parsed final answer."""
    kind: str = ""
    """`base`, `trained` or `gold`: whose colour the card's edge has."""
    think_opened: bool = False
    """Whether the prompt already ended inside `<think>`."""
    right: bool | None = None
    """None where there is no gold answer to compare with."""
    labels: Sequence[str] = ()
    """Further badges."""
    advantage: float | None = None
    facts: Sequence[str] = ()
    """Such as tokens and seconds."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Unweighted scores by the reward's name."""
    running: bool = False
    """Whether the model is still writing: the reasoning is then unfolded."""
    several: Sequence["Shown"] = ()
    """The answers that this one stands for, each folded away; it is then the commonest of them."""


def shown_item(item: Item, title: str, kind: str = "") -> Shown:
    """A stored answer of an evaluation; of several the commonest, with each of them."""
    answers = answers_of(item)
    if len(answers) == 1:
        return _shown_answer({**item, **answers[0]}, title, kind)
    tokens = sum(answer["token_count"] for answer in answers)
    several = [_shown_answer({**item, **one}, f"Answer {n}") for n, one in enumerate(answers, 1)]
    labels, right = [share_right(item)], is_right(item)
    return Shown(
        title, "", final_text(item), kind, right=right, labels=labels, facts=facts(tokens), several=several
    )


def _shown_answer(item: Item, title: str, kind: str = "") -> Shown:
    return Shown(
        title=title,
        text=item["output"],
        answer=item["answer"],
        kind=kind,
        think_opened=item.get("prompt", "").rstrip().endswith("<think>"),
        right=is_right(item),
        facts=facts(item["token_count"], finish_reason=item["finish_reason"]),
        rewards=item["scores"],
    )


def facts(tokens: int, seconds: float | None = None, *, finish_reason: str = "") -> list[str]:
    """Length and time of an answer in words; a finish reason `length` is one that was cut off."""
    found = [f"{tokens:,} token{'' if tokens == 1 else 's'}"]
    if seconds is not None:
        found.append(f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms")
    if finish_reason == "length":
        found.append("cut off")
    return found


def block(text: str) -> str:
    """Text as written, line breaks and all, with think and answer tags set off."""
    return _one_line(f'<div class="gpg-text" dir="auto">{tagged(text)}</div>')


def note(text: str, roots: Sequence[str] = ()) -> str:
    """A message in place of what cannot be shown; roots: see `for_page`."""
    return _one_line(f'<p class="gpg note">{escape(for_page(text, roots))}</p>')


def hint(text: str) -> str:
    """A quiet line about what is shown."""
    return _one_line(f'<p class="gpg hint">{escape(text)}</p>')


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, total: bool = True) -> str:
    """A table of texts, the first column to the left and the others, which are figures, to the right.

    total: the last row sums up the others.
    """
    last = len(rows) - 1
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = (
        f'<tr{" class=total" if total and at == last else ""}><th scope="row">{escape(name)}</th>'
        f"{''.join(f'<td>{escape(figures(cell))}</td>' for cell in cells)}</tr>"
        for at, (name, *cells) in enumerate(rows)
    )
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return _one_line(f'<div class="gpg scroll" tabindex="0">{inner}</div>')


def tiles(large: Sequence[tuple[str, str]]) -> str:
    """Large figures, each with what it is."""
    inner = "".join(
        f"<div><b>{escape(figures(figure))}</b><span>{escape(figures(meaning))}</span></div>"
        for figure, meaning in large
    )
    return _one_line(f'<div class="gpg tiles">{inner}</div>')


def question_card(
    question: str, choices: Sequence[str], gold: str, header: str = "", images: Sequence[Image.Image] = ()
) -> str:
    """A question with its images and choices, the gold one marked."""
    head = f"<header>{escape(header)}</header>" if header else ""
    shown = "".join(picture(image, question) for image in images)
    gallery = f'<div class="images">{shown}</div>' if shown else ""
    body = f"{block(question)}{choices_list(choices, gold)}"
    inner = f'{head}<div class="ask">{gallery}<div class="asked">{body}</div></div>'
    return _one_line(f'<article class="gpg card question">{inner}</article>')


def grid(cards: Sequence[str]) -> str:
    """Cards side by side where there is room."""
    return f'<div class="gpg grid">{"".join(cards)}</div>'


def answer_card(shown: Shown, state: str = "") -> str:
    """Verdict, final answer, what else was written, and the reasoning folded away.

    state: markup of a badge beside the title.
    """
    kind = f"gpg card {shown.kind}".rstrip()
    body = f"{_header(shown, state)}{_body(shown)}{_rewards(shown.rewards)}"
    return _one_line(f'<article class="{kind}">{body}</article>')


def _header(shown: Shown, state: str) -> str:
    right = "" if shown.right is None else verdict(shown.right)
    labels = state + "".join(map(badge, shown.labels)) + _advantage(shown.advantage)
    small = escape(" · ".join(shown.facts))
    return f"<header><h3>{escape(shown.title)}</h3>{right}{labels}<small>{small}</small></header>"


def _advantage(value: float | None) -> str:
    if value is None:
        return ""
    kind = "" if not value else "right" if value > 0 else "wrong"
    return badge(figures(f"advantage {value:+.2f}") if value else "advantage 0", kind)


def _body(shown: Shown) -> str:
    """The final answer and the text around it, then the reasoning."""
    behind = answer_part(shown.text, think_opened=shown.think_opened)
    thoughts = shown.text[: len(shown.text) - len(behind)]
    thoughts = thoughts.strip().removeprefix("<think>").removesuffix("</think>").strip()
    parts = [_final(shown.answer, running=shown.running)]
    if shown.answer is not None:
        head, _, tail = behind.partition("<answer>")
        behind = f"{head.strip()}\n{tail.partition('</answer>')[2].strip()}"
    if behind.strip():
        parts.append(block(behind.strip()))
    parts += [
        f"<details><summary>{_summary(one)}</summary>{block(one.text)}</details>" for one in shown.several
    ]
    if thoughts:
        opened = " open" if shown.running else ""
        words = len(thoughts.split())
        label = f"Reasoning · {words:,} word{'' if words == 1 else 's'}"
        parts.append(f"<details{opened}><summary>{label}</summary>{block(thoughts)}</details>")
    return "".join(parts)


def _summary(shown: Shown) -> str:
    """One of several answers in a line."""
    right = "" if shown.right is None else verdict(shown.right)
    return f"{escape(shown.title)}: {escape(shown.answer or 'no answer')} {right}"


def _final(answer: str | None, *, running: bool) -> str:
    if answer:
        return f'<div class="final" dir="auto">{escape(answer)}</div>'
    if answer is not None:
        return '<div class="final none">Empty answer</div>'
    return "" if running else '<div class="final none">No answer found</div>'


def _rewards(rewards: Mapping[str, float]) -> str:
    """Scores by name; nothing without any."""
    if not rewards:
        return ""
    pairs = "".join(
        f"<dt>{escape(name)}</dt><dd>{figures(f'{score:.3g}')}</dd>" for name, score in rewards.items()
    )
    return f'<dl class="rewards">{pairs}</dl>'


def _one_line(markup: str) -> str:
    return markup.replace("\r", "&#13;").replace("\n", "&#10;")
