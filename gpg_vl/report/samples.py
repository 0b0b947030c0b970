"""The report's sample answers: which questions are shown, and the card of each."""

import base64
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain, zip_longest
from typing import TypeVar

from PIL import Image

from gpg_vl.evaluation.own_rewards import SUM
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import letter
from gpg_vl.report.drawing import draw_boxes
from gpg_vl.runs.files import Evaluation, Item, answers_of, is_right, paired_items
from gpg_vl.tables import short_number
from gpg_vl.types import Box

_Q = TypeVar("_Q")
ImagesOf = Callable[[str], Sequence[Image.Image]]
"""The images of a question by its id."""

_LONGEST_SIDE = 448
"""Pixels: images are shown at 176 to 288, and screens have up to two dots each."""
_DRAWN_SIDE = 704
"""Likewise of images with boxes, which are shown at up to 352."""
_WHOSE = {"Gold": "gold", "Base": "base"}
"""Colours by the model's name; one that is alone has those of the trained."""
_TAGS = re.compile(r"&lt;/?(?:think|answer)&gt;")


@dataclass(frozen=True)
class Example:
    """A question with the answers to show."""

    outcome: str
    """A name of `_QUOTAS`."""
    answers: dict[str, Item]
    """By the model's name; at least one, all of the same question."""

    @property
    def item(self) -> Item:
        """The question, as the last model saw it."""
        return list(self.answers.values())[-1]


_QUOTAS = {
    "Fixed": (": wrong before, right after", 5),
    "Still wrong": (": wrong before and after", 3),
    "Broken": (": right before, wrong after", 2),
    "Both right": (": right before and after", 2),
    "Right": ("", 6),
    "Wrong": ("", 6),
}
"""Outcomes in the order shown: their meaning, and how many cards each gets if there are enough.
The last two are for a run with one evaluation."""


def find_examples(evaluations: Sequence[Evaluation]) -> list[Example]:
    """Every question of the last evaluation, with the first one's answer where there are two."""
    if not evaluations:
        return []
    first, last = evaluations[0], evaluations[-1]
    if first is last:
        return [Example(_outcome_alone(item), {"Answer": item}) for item in last["items"]]
    return [
        Example(outcome(base, trained), {"Base": base, "Trained": trained})
        for base, trained in paired_items(first, last)
    ]


def choose(examples: Iterable[Example], limit: int = 12) -> list[Example]:
    """Up to `limit` examples: each outcome's quota, then more of those that have some left.

    Within an outcome the tasks take turns, and a task's questions come in file order: the choice is
    the same every time, and nobody picked it by hand.
    """
    waiting = {
        name: take_turns(group, lambda example: str(example.item["task"]))
        for name, group in _by_outcome(examples).items()
    }
    shown = {outcome: queue[: _QUOTAS[outcome][1]] for outcome, queue in waiting.items()}
    for outcome, queue in waiting.items():
        room = limit - sum(map(len, shown.values()))
        taken = len(shown[outcome])
        shown[outcome] += queue[taken : taken + max(0, room)]
    return list(chain.from_iterable(shown.values()))[:limit]


def tally(examples: Sequence[Example]) -> str:
    """How many questions had each outcome."""
    entries = (
        f"<li><strong>{len(group):,}</strong> {outcome.lower()}{_QUOTAS[outcome][0]}</li>"
        for outcome, group in _by_outcome(examples).items()
    )
    return f'<ul class="tally">{"".join(entries)}</ul>'


def card(example: Example, images: ImagesOf | None) -> str:
    """One question with its images and the models' answers; all text is escaped."""
    item = example.item
    gallery = "" if images is None else _gallery(example, images(item["id"]))
    answers = "".join(_answers(name, answer) for name, answer in example.answers.items())
    return (
        f'<article class="box card"><header>{badge(example.outcome)}'
        f"<span>{escape(item['task'])} · {escape(item['id'])}</span></header>"
        f'<div class="ask">{gallery}<div class="text"><p>{escape(item["question"])}</p>'
        f"{choices_list(item['choices'], item['gold'])}</div></div>{answers}</article>"
    )


def _gallery(example: Example, pictures: Sequence[Image.Image]) -> str:
    """The images; where boxes are asked for, the first one with them, and a legend."""
    question, boxes = example.item["question"], _boxes(example)
    drawn = {_WHOSE.get(name, "trained"): found for name, (found, _) in boxes.items()}
    shown = [
        picture(draw_boxes(image, drawn, _DRAWN_SIDE), question, _DRAWN_SIDE)
        if boxes and not place
        else picture(image, question)
        for place, image in enumerate(pictures)
    ]
    if not shown:
        return ""
    kind = " drawn" if boxes else ""
    return f'<div class="images{kind}">{"".join(shown)}{_legend(boxes)}</div>'


def _boxes(example: Example) -> dict[str, tuple[Sequence[Box], str]]:
    """Gold and answered boxes in pixels of the first image, by whose they are, each with how many there
    are in words; empty where none are asked for."""
    if "boxes" not in answers_of(example.item)[0]:
        return {}
    found = {"Gold": read_boxes(example.item["gold"])}
    for name, item in example.answers.items():
        found[name] = tuple(box for answer in answers_of(item) for box in answer.get("boxes", ()))
    return {
        name: (boxes, "no box" if not boxes else "1 box" if len(boxes) == 1 else f"{len(boxes)} boxes")
        for name, boxes in found.items()
    }


def _legend(boxes: Mapping[str, tuple[Sequence[Box], str]]) -> str:
    lines = (
        f'<li><i class="{_WHOSE.get(name, "trained")}"></i>{escape(name)}: {words}</li>'
        for name, (_, words) in boxes.items()
    )
    return f'<ul class="legend">{"".join(lines)}</ul>' if boxes else ""


def choices_list(choices: Sequence[str], gold: str) -> str:
    """The choices with the gold one marked; the gold answer by itself if it is none of them; escaped."""
    letters = [letter(place) for place in range(len(choices))]
    lines = []
    for name, text in zip(letters, choices, strict=True):
        kind, mark = (' class="gold"', " ← gold") if name == gold else ("", "")
        lines.append(f"<li{kind}>{name} {escape(text)}{mark}</li>")
    if gold not in letters:
        lines.append(f'<li class="gold">Gold: {escape(gold)}</li>')
    return f'<ul class="choices">{"".join(lines)}</ul>'


def verdict(right: bool) -> str:
    """A badge that says whether an answer is right."""
    kind, text = ("right", "✓ right") if right else ("wrong", "✗ wrong")
    return badge(text, kind)


def badge(text: str, kind: str = "") -> str:
    """A short escaped label; kind: a class of the style sheet, such as `right`."""
    return f'<span class="{f"badge {kind}".rstrip()}">{escape(text)}</span>'


def tagged(text: str) -> str:
    """Escaped text of a model with its think and answer tags set off."""
    # Escaped first: whatever the model wrote stays text, and only our spans are markup.
    return _TAGS.sub(r'<span class="gpg-tag">\g<0></span>', escape(text))


def image_source(image: Image.Image, longest: int = _LONGEST_SIDE) -> str:
    """The image, shrunk if its longest side has more pixels than `longest`, as a data URL."""
    small = image.convert("RGBA")
    small.thumbnail((longest, longest))
    paper = Image.new("RGBA", small.size, "white")
    buffer = io.BytesIO()
    flat = Image.alpha_composite(paper, small).convert("RGB")
    flat.save(buffer, format="JPEG", quality=90, subsampling=0)
    return data_url(buffer.getvalue(), "image/jpeg")


def data_url(content: bytes, kind: str) -> str:
    """A file's content as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def outcome(base: Item, trained: Item) -> str:
    """What training changed about a question: `Fixed`, `Broken`, `Both right` or `Still wrong`."""
    if is_right(trained):
        return "Both right" if is_right(base) else "Fixed"
    return "Broken" if is_right(base) else "Still wrong"


def _outcome_alone(item: Item) -> str:
    return "Right" if is_right(item) else "Wrong"


def _by_outcome(examples: Iterable[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = {outcome: [] for outcome in _QUOTAS}
    for example in examples:
        groups[example.outcome].append(example)
    return {outcome: group for outcome, group in groups.items() if group}


def take_turns(questions: Iterable[_Q], task: Callable[[_Q], str]) -> list[_Q]:
    """First of each task, then the second of each, and so on."""
    tasks: dict[str, list[_Q]] = {}
    for question in questions:
        tasks.setdefault(task(question), []).append(question)
    rounds = zip_longest(*tasks.values())
    return [question for turn in rounds for question in turn if question is not None]


def picture(image: Image.Image, question: str, longest: int = _LONGEST_SIDE) -> str:
    """The image as an escaped tag that needs no file."""
    return f'<img src="{image_source(image, longest)}" alt="Image of the question: {escape(question)}">'


def _rewards(item: Item) -> str:
    """What the answer scored by the run's own rewards."""
    if not item.get("rewards"):
        return ""
    scores = {SUM: item[SUM], **item["rewards"]}
    return " · " + ", ".join(
        f"{name} {'not graded' if score is None else short_number(score)}" for name, score in scores.items()
    )


def _answers(name: str, item: Item) -> str:
    """The model's answer; of several, each with its number."""
    answers = answers_of(item)
    if len(answers) == 1:
        return _answer(name, item)
    return "".join(_answer(f"{name} {place}", answer) for place, answer in enumerate(answers, 1))


def _answer(name: str, item: Item) -> str:
    parsed = "no answer found" if item["answer"] is None else f"answer {item['answer']}"
    cut = ", cut off" if item["finish_reason"] == "length" else ""
    facts = escape(f"{parsed} · {item['token_count']} tokens{cut}{_rewards(item)}")
    return (
        f'<section class="answer"><h3>{name} {verdict(is_right(item))}<small>{facts}</small></h3>'
        f'<pre dir="auto" tabindex="0">{tagged(item["output"])}</pre></section>'
    )
