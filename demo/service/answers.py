"""Stored answers in the words of the question: what a choice says, what several answers agree on."""

import re
from collections import Counter
from collections.abc import Sequence

from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import letter
from gpg_vl.runs.files import Item, answers_of, is_right

_LETTER = re.compile(r"\(?([A-Za-z])[).:]*")
_LETTER_AND_TEXT = re.compile(r"\(([A-Za-z])\)\s*(.*)", re.DOTALL)


def choice_text(answer: str, choices: Sequence[str]) -> str:
    """The text of the choice that an answer names by its letter; any other answer as it is.

    "(B)", "b" and "(B) left" become "left". A letter that is itself the text of a choice is that choice.
    """
    by_text = {choice.casefold(): choice for choice in choices}
    by_letter = {letter(place)[1]: choice for place, choice in enumerate(choices)}
    stripped = answer.strip()
    if stripped.casefold() in by_text:
        return by_text[stripped.casefold()]
    if found := _LETTER.fullmatch(stripped):
        return by_letter.get(found[1].upper(), answer)
    if found := _LETTER_AND_TEXT.fullmatch(stripped):
        choice = by_letter.get(found[1].upper(), answer)
        return choice if choice.casefold() == found[2].casefold() else answer
    return answer


def gold_text(item: Item) -> str:
    """The gold answer as a reader knows it."""
    if "boxes" in answers_of(item)[0]:
        return _count_of_boxes(len(read_boxes(item["gold"])))
    return choice_text(item["gold"], item["choices"])


def final_text(item: Item) -> str:
    """The final answer as a reader knows it; of several the commonest, with how many there are."""
    answers = answers_of(item)
    texts = [_final(answer, item["choices"]) for answer in answers]
    text, count = Counter(texts).most_common(1)[0]
    return text if len(answers) == 1 else f"{text} ({count} of {len(answers)} answers)"


def _final(answer: Item, choices: Sequence[str]) -> str:
    if answer.get("boxes"):
        overlap = answer["scores"].get("iou")
        return _count_of_boxes(len(answer["boxes"])) + ("" if overlap is None else f", IoU {overlap:.2f}")
    if not answer["answer"]:
        return "no answer"
    return choice_text(answer["answer"], choices)


def _count_of_boxes(count: int) -> str:
    return "1 box" if count == 1 else f"{count} boxes"


def share_right(item: Item) -> str:
    """How many of several answers are right, such as "3 of 4 right"; empty for one."""
    answers = answers_of(item)
    return "" if len(answers) == 1 else f"{sum(map(is_right, answers))} of {len(answers)} right"
