"""Gold answers that cannot be right: what a visitor is told of the one in the field."""

from collections.abc import Sequence

from gpg_vl.data.gold_answers import chosen
from gpg_vl.errors import ConfigurationError, RowError
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import letter
from gpg_vl.scoring.gold import unreadable_gold
from gpg_vl.tables import short_text
from gpg_vl.types import Sample

_LONGEST = 10_000
"""Characters; a thousand boxes have room."""
_SHOWN = 60


def read_gold(text: str, choices: Sequence[str]) -> str:
    """The gold answer as samples have it: `b`, `B.` and the choice's own text become "(B)".

    One that names no choice stays as it is, and `gold_problem` says so. Raises ConfigurationError for one
    that is too long, and for more choices than letters.
    """
    if len(text) > _LONGEST:
        raise ConfigurationError(
            f"the gold answer has {len(text):,} characters; at most {_LONGEST:,} are read"
        )
    if not choices:
        return text
    letter(len(choices) - 1)
    try:
        return chosen(text, tuple(choices), "gold", "text")
    except RowError:
        return text


def gold_problem(sample: Sample) -> str:
    """Why no answer can be right by the sample's gold answer, in words; "" if one can, or there is none.

    Symbolic mathematics may take long: call it where that can be ended.
    """
    if not sample.answer:
        return ""
    if sample.answer_type == "choice":
        return _choice_problem(sample)
    if sample.answer_type == "boxes" and (words := _boxes_problem(sample)):
        return words
    words = unreadable_gold(sample)
    return f"{words}: {short_text(sample.answer, _SHOWN)}" if words else ""


def _choice_problem(sample: Sample) -> str:
    if not sample.choices:
        return "the answer is to be a choice, and there are no choices to take it from"
    if not unreadable_gold(sample):
        return ""
    choices = ", ".join(sample.choices)
    return f"the gold answer {short_text(sample.answer, _SHOWN)} is none of the choices: {choices}"


def _boxes_problem(sample: Sample) -> str:
    """What is wrong with boxes as such; whether they have an area, their reward says."""
    boxes = read_boxes(sample.answer)
    if not boxes:
        text = short_text(sample.answer, _SHOWN)
        return f"the gold answer is no list of boxes such as [[10, 20, 110, 90]]: {text}"
    if not sample.images:
        return ""
    width, height = sample.images[0].size
    if all(0 <= x <= width and 0 <= y <= height for box in boxes for x, y in (box[:2], box[2:])):
        return ""
    return f"a gold box lies outside the image of {width} × {height} pixels"
