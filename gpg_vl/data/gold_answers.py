"""Gold answers as people write them: numbers, texts, lists, boxes, and letters or texts of choices."""

import json
import re
from typing import Any, Literal

from gpg_vl.errors import RowError
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import letter

NumberMeaning = Literal["unclear", "text", "from_0", "from_1"]
"""What a bare number means as the answer to choices: a choice's text, or its place counted from 0 or 1."""

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LETTERED = re.compile(r"\(?([A-Za-z])\)?\s*[).:、]?\s*(.*)", re.DOTALL)
_OWN_LETTER = re.compile(r"\(?[A-Za-z][).:、]\s*(?=\S)")


def gold_answer(
    value: Any, answer_type: str, choices: tuple[str, ...], where: str, numbers: NumberMeaning = "unclear"
) -> tuple[str, list[str]]:
    """The gold answer as a `Sample` has it, and others that are as right.

    `value` is a number, a text (answer tags around it are dropped) or a list of these; boxes in every usual
    form. `where` names the row in messages. Raises RowError for what the type has no use for.
    """
    if answer_type == "boxes":
        return _boxes(value, where), []
    if isinstance(value, dict):
        raise RowError("unusable answer", f"{where}: the answer is an object: {value!r}")
    values = value if isinstance(value, list) else [value]
    texts = list(dict.fromkeys(tagged_answer(as_text(one)).strip() for one in values))
    if len(texts) != 1 and answer_type not in ("math", "label"):
        raise RowError("several answers", f"{where}: a {answer_type} has one answer, got {value!r}")
    if not texts:
        raise RowError("empty answer", f"{where}: the answer is an empty list")
    if answer_type == "choice":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_place = is_number or (texts[0].isdigit() and (numbers != "unclear" or texts[0] not in choices))
        return chosen(texts[0], choices, where, numbers if is_place else "text"), []
    return texts[0], texts[1:]


def as_text(value: Any) -> str:
    """Texts as they are; numbers, true and false as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tagged_answer(solution: str) -> str:
    """What stands in `<answer>…</answer>`; the whole text if there are no tags."""
    tagged = _TAGGED.search(solution)
    return (tagged[1] if tagged else solution).strip()


def _boxes(value: Any, where: str) -> str:
    text = tagged_answer(as_text(value))
    boxes = read_boxes(text)
    if boxes and max(map(max, boxes)) <= 1:
        raise RowError(
            "boxes from 0 to 1", f"{where}: {text} is no box in pixels; multiply by the image's size"
        )
    return json.dumps([list(box) for box in boxes]) if boxes else text


def chosen(answer: str, choices: tuple[str, ...], where: str, numbers: NumberMeaning) -> str:
    """The letter in brackets of an answer given as "(B)", "B.", "b", "B. dog" or the choice's text.

    `numbers` says what the answer means if it is a number, "text" for one that is none. Raises RowError if it
    is none of the choices, or may be several: a letter with another choice's text, a number that is both
    a text and a place.
    """
    letters = [letter(place) for place in range(min(len(choices), 26))]
    if answer in letters:
        return answer
    said = {name for name, text in zip(letters, choices, strict=False) if _same(text, answer)}
    if numbers == "text":
        return _one(_lettered(answer, letters, choices) | said, answer, choices, where)
    places = _places(answer, letters, numbers)
    if numbers == "unclear" and places and (said | places != said or len(places) > 1):
        raise RowError(
            "a number for a choice",
            f"{where}: {answer} may be a choice's text, or its place counted from 0 or from 1; say with "
            "--numbers text, from_0 or from_1",
        )
    return _one(said if numbers == "unclear" else places, answer, choices, where)


def _places(number: str, letters: list[str], numbers: NumberMeaning) -> set[str]:
    """Letters of the choices at the place `number`, by every way of counting that `numbers` leaves open."""
    if not number.isdigit():
        return set()
    starts = [0, 1] if numbers == "unclear" else [int(numbers[-1])]
    places = [int(number) - start for start in starts]
    return {letters[place] for place in places if 0 <= place < len(letters)}


def _lettered(answer: str, letters: list[str], choices: tuple[str, ...]) -> set[str]:
    """The letter that opens `answer`, if nothing follows or that choice's text does."""
    match = _LETTERED.fullmatch(answer)
    name = f"({match[1].upper()})" if match else ""
    if match is None or name not in letters:
        return set()
    text = choices[letters.index(name)]
    return {name} if not match[2] or _same(text, match[2]) else set()


def _one(named: set[str], answer: str, choices: tuple[str, ...], where: str) -> str:
    if len(named) > 1:
        raise RowError("ambiguous answer", f"{where}: {answer!r} may be {' or '.join(sorted(named))}")
    if not named:
        message = f"{where}: the answer {answer!r} is none of the choices: {', '.join(choices)}"
        raise RowError("answer not among the choices" if answer else "empty answer", message)
    return named.pop()


def _same(text: str, answer: str) -> bool:
    """Whether `answer` is the choice's text, with or without a letter that the choice itself carries."""
    return _folded(answer) in (_folded(text), _folded(_OWN_LETTER.sub("", text, count=1)))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
