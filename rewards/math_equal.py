"""The symbolic reward for mathematics (MATH, AIME, OlympiadBench, GEOQA)."""

from fractions import Fraction

from gpg_vl.prompting.prompts import formulas
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._formulas import is_readable, same_formula
from ._latex import is_absurd, is_broken, normal
from ._numbers import Quantity, read_quantity, same_quantity
from ._text import gold_answers
from ._words import choice_letter, folded, stated_letter, words

_TYPES = ("math", "number")


def unreadable(sample: Sample) -> str:
    """Why no gold answer can be compared by its value; "" if one can."""
    if sample.answer_type not in _TYPES:
        return "no number or formula is asked for"
    golds = _golds(sample)
    if not golds:
        return "gold answer is empty or its braces do not match"
    return "" if any(map(_has_value, golds)) else "gold answer comparable only as a text"


@reward("math", deadline=5.0, bounds=(0, 1), unreadable=unreadable, images=False)
def math_equal(completion: Completion, sample: Sample) -> float | None:
    r"""1 if the prediction equals a gold answer symbolically, as a number with its unit, or as words; else 0.

    Gold are `answer` and what `meta["alternatives"]` lists: other ways to write it, any of which will do.
    The prediction is what stands in `\boxed{…}`, else the whole of `<answer>…</answer>`. Only `<answer>` is
    looked at where the text has such a tag, else only what follows the reasoning; neither tag nor box is no
    prediction. Several boxes must each equal a gold answer, or together list it; empty boxes and boxes of the
    question are none. The same text is right whatever it says, and all that is right for a gold answer that
    can be read in no other way. What cannot be parsed scores 0, and so do powers of powers of numbers,
    formulas nested too deeply and very long ones, unless the gold answer is such a one. Floats agree to six
    decimals, small ones to six digits. None if the gold answer is empty or its braces do not match, or the
    question asks for no number or formula. Range {0, 1}. Source: accuracy reward of GPG on mathematics
    (arXiv 2504.02546), worked out by math-verify.
    """
    golds = _golds(sample)
    if not golds:
        return None
    boxes = formulas(completion, sample.question)
    wrong = [box for box in boxes if not any(_equal(gold, box) for gold in golds)]
    listed = bool(wrong) and len(boxes) > 1 and any(_equal(gold, ", ".join(wrong)) for gold in golds)
    return float(bool(boxes) and (not wrong or listed))


def _golds(sample: Sample) -> list[str]:
    """Those that can be compared; none where the question asks for another type."""
    if sample.answer_type not in _TYPES:
        return []
    return [text for text in gold_answers(sample) if not is_broken(text)]


def _has_value(gold: str) -> bool:
    if choice_letter(gold) or words(gold) or read_quantity(gold, formula=True):
        return True
    return not is_absurd(gold) and is_readable(gold)


def _equal(gold: str, prediction: str) -> bool:
    if is_broken(prediction):
        return False
    if normal(gold) == normal(prediction):
        return True
    if is_absurd(prediction) and not is_absurd(gold):
        return False
    if letter := choice_letter(gold):
        return stated_letter(prediction) == letter
    number = read_quantity(gold, formula=True)
    if number is not None and number.alone:
        stated = read_quantity(prediction, formula=True)
        if stated is not None:
            return _same_name(number, stated) and same_quantity(number, stated, _close)
    elif expected := words(gold):
        return folded(prediction) == expected
    return same_formula(gold, prediction)


def _close(gold: Fraction, value: Fraction) -> bool:
    """To six decimals, as math-verify compares; small numbers to six digits, whole ones exactly."""
    if gold.denominator == 1:
        return gold == value
    difference = abs(gold - value)
    while abs(gold) < Fraction(1, 1000) and difference:
        gold, difference = gold * 10, difference * 10
    return difference * 2 <= Fraction(1, 10**6)


def _same_name(gold: Quantity, other: Quantity) -> bool:
    """Whether both are said to be the same thing's value, where both say whose: x = 5 is no y = 5."""
    return not gold.name or not other.name or gold.name == other.name
