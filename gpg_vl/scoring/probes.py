"""Completions that earn nothing, written for one sample: what a policy would find if a reward let it.

A right answer in a wrong form is no probe: without any `<think>` it is still right, and taking points off
is the format reward's business. Nor are the gold digits of another script: 65 is 65 in Arabic-Indic too,
and a reward may read it or not; a wrong number in any script must not score.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gpg_vl.errors import DataError
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import ANSWER_END, Prompt, answer_text, letter, question_text
from gpg_vl.prompting.transcripts import read_transcript, stored_size, view_of
from gpg_vl.types import Box, Completion, Sample

LONG = 10_000
"""Characters of the long probes."""
_THINK = "Looking closely."
_ARABIC_INDIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
_Named = Iterator[tuple[str, str]]
"""Texts, each with its probe's name."""


@dataclass(frozen=True)
class Probe:
    """A completion that must not score as high as the gold answer."""

    name: str
    completion: Completion


def gold_completion(sample: Sample, prompt: Prompt) -> Completion:
    """The gold answer in the form that the prompt asks for, after a short thought."""
    return _read(prompt.completion_target(_gold(sample, prompt), _THINK), sample, prompt)


def probes(sample: Sample, prompt: Prompt) -> list[Probe]:
    """Every probe that fits the sample's answer type, parsed as the model's answers are.

    Boxes are in the prompt's space, that of `family` in pixels of the stored image. Raises DataError if a
    gold answer that should be boxes holds none, or the 0-1000 grid cannot be converted.
    """
    if sample.answer_type == "boxes" and not read_boxes(sample.answer):
        raise DataError(f"sample {sample.id!r}: no boxes in the gold answer {sample.answer!r}")
    gold, wrong = _gold(sample, prompt), _wrong(sample, prompt)
    answers = [*_answers(sample, gold, wrong), *_of_type(sample, prompt, gold, wrong), *_long()]
    texts = [
        *_forms(sample, prompt, gold, wrong),
        *((name, prompt.completion_target(answer, _THINK)) for name, answer in answers),
    ]
    return [Probe(name, _read(text, sample, prompt)) for name, text in texts]


def _read(text: str, sample: Sample, prompt: Prompt) -> Completion:
    return read_transcript(
        text,
        sample,
        space=prompt.boxes_in("image"),
        think_opened=prompt.opens_think,
        finish_reason="eos" if text.endswith(ANSWER_END) or len(text) < LONG else "length",
    )


def _gold(sample: Sample, prompt: Prompt) -> str:
    space = prompt.boxes_in("image")
    return answer_text(sample, space, view_of(sample, space) if sample.answer_type == "boxes" else None)


def _wrong(sample: Sample, prompt: Prompt) -> str:
    """An answer of the gold one's type that is plainly wrong."""
    match sample.answer_type:
        case "choice":
            return letter(1) if sample.answer == letter(0) else letter(0)
        case "boxes":
            return _boxes_text([_far_tile(sample)], sample, prompt)
        case "label":
            return "lighthouse" if sample.answer.casefold() == "teapot" else "teapot"
    # Ten times as much and 7 more: wrong at any tolerance, and "65" within "657" is found by a careless `in`.
    changed = re.sub(r"[0-9]+", lambda run: str(int(run[0]) * 10 + 7), sample.answer, count=1)
    return changed if changed != sample.answer else "17"


def _forms(sample: Sample, prompt: Prompt, gold: str, wrong: str) -> _Named:
    """Whole texts that are formed otherwise than the prompt asks for."""
    forms = _boxed_forms if prompt.template == "boxed" else _tagged_forms
    yield "empty text", ""
    yield from forms(sample, prompt, gold, wrong)


def _boxed_forms(sample: Sample, prompt: Prompt, gold: str, wrong: str) -> _Named:
    r"""Boxes left out, left open, within the reasoning, or several."""
    boxed, another = (prompt.completion_target(text, _THINK) for text in (gold, wrong))
    yield "box not closed", boxed.removesuffix("}")
    yield "boxed answer within an open <think>", f"<think>{boxed}"
    yield "boxed answer only in <think>", f"<think>{boxed}</think>"
    yield "gold, then wrong answer boxed", f"{boxed} {another}"
    yield "wrong, then gold answer boxed", f"{another} {boxed}"
    yield "10,000 letters without a box", "x" * LONG


def _tagged_forms(sample: Sample, prompt: Prompt, gold: str, wrong: str) -> _Named:
    """Tags left out, left open, repeated or nested."""

    def think(text: str) -> str:
        return prompt.completion_target("", text).partition("<answer>")[0]

    whole = prompt.completion_target(gold, _THINK)
    stated = think(f"{_THINK} The answer is {gold}.")
    yield "answer only in <think>", stated
    yield "answer tags within <think>", think(f"{_THINK} <answer>{gold}{ANSWER_END}")
    unclosed = prompt.completion_target(gold, _THINK).replace("</think>", " ")
    yield "answer tags within an open <think>", unclosed
    yield "<think> not closed", stated.removesuffix("</think>")
    yield "<answer> not closed", whole.removesuffix(ANSWER_END)
    yield "<answer> opened twice, not closed", whole.removesuffix(ANSWER_END) + "<answer>"
    yield "gold answer in two pairs of tags", f"{whole}<answer>{gold}{ANSWER_END}"
    yield "gold answer in nested tags", prompt.completion_target(f"<answer>{gold}{ANSWER_END}", _THINK)
    yield "gold, then wrong answer in tags", f"{whole}<answer>{wrong}{ANSWER_END}"
    tagged = prompt.completion_target(wrong, _THINK)
    yield "wrong, then gold answer in tags", f"{tagged}<answer>{gold}{ANSWER_END}"
    yield "10,000 letters without tags", "x" * LONG
    if sample.answer_type == "math":
        yield "boxed answer only in <think>", think(rf"{_THINK} \boxed{{{gold}}}")
    else:  # prompts for mathematics may ask for no tags
        yield "gold answer without tags", gold


def _answers(sample: Sample, gold: str, wrong: str) -> _Named:
    """Answers that samples of any type invite."""
    boxes = sample.answer_type == "boxes"
    joint = ", " if boxes else " or "
    yield "empty answer", ""
    yield "wrong answer", wrong
    yield "gold answer plus a wrong one", f"{gold}{joint}{wrong}"
    yield "wrong answer plus the gold one", f"{wrong}{joint}{gold}"
    yield "refusal", "N/A"
    yield "refusal in a sentence", "I have no idea; it cannot be determined."
    yield "NaN", "(nan,nan),(nan,nan)" if boxes else "nan"
    yield "infinity", "(-inf,-inf),(inf,inf)" if boxes else "inf"
    yield "wrong answer in full-width characters", wrong.translate(_FULL_WIDTH)
    if any(map(str.isdigit, wrong)):
        yield "wrong answer in Arabic-Indic digits", wrong.translate(_ARABIC_INDIC)
        yield "wrong answer in superscript digits", wrong.translate(_SUPERSCRIPT)


def _of_type(sample: Sample, prompt: Prompt, gold: str, wrong: str) -> _Named:
    """Answers that only one type of sample invites."""
    match sample.answer_type:
        case "choice":
            yield from _choice_answers(sample)
        case "boxes":
            yield from _box_answers(sample, prompt)
        case "number" | "math":
            yield from _digit_answers(gold)
            yield from _hedged_answers(gold)
            yield "gold and a wrong answer, each boxed", rf"\boxed{{{gold}}} \boxed{{{wrong}}}"
        case "label":
            yield "gold answer denied", f"It is not {gold}"
            if len(words := gold.split()) > 1:
                yield "a part of the gold answer", words[0]


def _choice_answers(sample: Sample) -> _Named:
    letters = [letter(i) for i in range(len(sample.choices))]
    if sample.answer not in letters or len(letters) < 2:
        return
    gold = letters.index(sample.answer)
    other = sample.choices[gold - 1]
    yield "all letters listed", " or ".join(letters)
    yield "all letters listed, bare", ", ".join(letters).replace("(", "").replace(")", "")
    yield "all choices listed", " or ".join(sample.choices)
    yield "question and choices repeated", question_text(sample)
    yield "gold letter with another choice's text", f"{letters[gold]} {other}"
    yield "gold choice's text or another's", f"{sample.choices[gold]} or {other}"
    bare = letters[gold].strip("()")
    yield "gold letter denied", f"It is not {letters[gold]}."
    yield "gold letter in an abbreviation", f"N/{bare}" if bare == "A" else f"U.S.{bare}."
    yield "gold letter as a stray one", f"vitamin {bare}"
    yield "no as a determiner", "No answer can be given."
    if bare == "I":
        yield "I as a pronoun", "I guess so"


def _box_answers(sample: Sample, prompt: Prompt) -> _Named:
    golds, whole, nine = read_boxes(sample.answer), (0.0, 0.0, *_extent(sample)), _tiles(sample)
    if list(golds) != [whole]:
        yield "one box over the whole image", _boxes_text([whole], sample, prompt)
    yield "ten boxes over the whole image", _boxes_text([whole] * 10, sample, prompt)
    yield "gold boxes plus nine others", _boxes_text([*golds, *nine], sample, prompt)
    yield "nine others, then the gold boxes", _boxes_text([*nine, *golds], sample, prompt)


def _digit_answers(gold: str) -> _Named:
    """A digit of a whole number alone, and its last digit raised: 6⁵ is not 65."""
    if re.match(r"[0-9]{2,}(?![0-9.,/^])", gold):
        yield "a part of the gold answer", gold[0]
        raised = re.sub(r"[0-9](?![0-9])", lambda digit: digit[0].translate(_SUPERSCRIPT), gold, count=1)
        yield "gold answer with a raised digit", raised


def _hedged_answers(gold: str) -> _Named:
    """The gold number bounded, denied, doubted, or with text behind it that is no unit."""
    yield "gold answer as a bound", f"more than {gold}"
    yield "gold answer as a bound in symbols", rf"\ge {gold}"
    yield "gold answer denied", f"It is not {gold}."
    yield "gold answer called wrong", f"{gold} is wrong"
    if number := re.match(r"[0-9][0-9.,]*", gold):
        yield "gold answer or more", f"{number[0]} or more"
        yield "unit-like text behind the gold answer", rf"{number[0]}\text{{ million}}"
        yield "a magnitude behind the gold answer", f"{number[0]}k"
        yield "an unknown behind the gold answer", rf"{number[0]}\text{{x}}"
        yield "gold answer plus an unknown", f"{number[0]} + x"
        yield "gold answer in a word", f"H{number[0]}O"


def _long() -> _Named:
    for name, character in [("letters", "x"), ("digits", "9"), ("brackets", "(")]:
        yield f"10,000 {name} as the answer", character * LONG
    yield "10,000 spaces between two letters", f"x{' ' * LONG}x"


def _extent(sample: Sample) -> tuple[float, float]:
    """Width and height of the image; where they are not known, twice as far as the gold boxes reach."""
    size = stored_size(sample)
    if size is not None:
        return float(size[0]), float(size[1])
    golds = read_boxes(sample.answer)
    return 2 * max(box[2] for box in golds), 2 * max(box[3] for box in golds)


def _tiles(sample: Sample) -> list[Box]:
    """The image cut into three by three."""
    width, height = _extent(sample)
    x, y = width / 3, height / 3
    return [(i * x, j * y, (i + 1) * x, (j + 1) * y) for j in range(3) for i in range(3)]


def _far_tile(sample: Sample) -> Box:
    """The tile whose centre lies farthest from the first gold box's."""
    x1, y1, x2, y2 = read_boxes(sample.answer)[0]

    def distance(tile: Box) -> float:
        return abs(tile[0] + tile[2] - x1 - x2) + abs(tile[1] + tile[3] - y1 - y2)

    return max(_tiles(sample), key=distance)


def _boxes_text(boxes: Sequence[Box], sample: Sample, prompt: Prompt) -> str:
    return _gold(replace(sample, answer=json.dumps([list(box) for box in boxes])), prompt)
