"""The symbolic reward for mathematics (MATH, AIME, OlympiadBench, GEOQA)."""

import logging
from functools import lru_cache
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

from gpg_vl.prompting.prompts import formulas
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._latex import is_absurd, readable, word

# It warns that its own timeouts are off; they need the main thread, the deadline is kept from outside.
logging.getLogger("math_verify").setLevel(logging.ERROR)

_BOX_ONLY = (LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False),)
_SMALL = 1e-3
"""math-verify rounds to six decimals, where 6.6e-34 equals 0: smaller gold numbers are scaled up before."""

_DECOYS = (sympy.Rational(104_729, 15_485_863), sympy.Float("0.676291"))
r"""No gold answers: math-verify takes some formulas, such as `\log\log_0 5`, for equal to nearly anything."""


@reward("math", deadline=5.0, bounds=(0, 1))
def math_equal(completion: Completion, sample: Sample) -> float | None:
    r"""1 if the prediction equals a gold answer symbolically, or as words; else 0.

    Gold are `answer` and what `meta["alternatives"]` lists: other ways to write it, any of which will do.
    The prediction is what stands in `\boxed{…}`, else the whole of `<answer>…</answer>`. Only `<answer>` is
    looked at where the text has such a tag, else only what follows the reasoning; neither tag nor box is no
    prediction. Several boxes must all equal a gold answer. What cannot be parsed scores 0, and so do powers
    of powers of numbers, formulas nested too deeply and very long ones, unless the gold answer is such a
    one. Floats agree to six decimals, small ones to six digits. None if no gold answer can be parsed, or
    the question asks for no number or formula. Range {0, 1}. Source: accuracy reward of GPG on mathematics
    (arXiv 2504.02546), worked out by math-verify.
    """
    if sample.answer_type not in ("math", "number"):
        return None
    golds = [gold for gold in _golds(sample) if word(gold) is not None or _parse(gold) is not None]
    if not golds:
        return None
    predictions = formulas(completion)
    right = (any(_equal(gold, prediction) for gold in golds) for prediction in predictions)
    return float(bool(predictions) and all(right))


def _golds(sample: Sample) -> list[str]:
    others = sample.meta.get("alternatives")
    texts = [text for text in others if isinstance(text, str)] if isinstance(others, list) else []
    return [sample.answer, *texts]


def _equal(gold: str, prediction: str) -> bool:
    if expected := word(gold):
        return word(prediction) == expected
    if is_absurd(prediction) and not is_absurd(gold):
        return False
    left, right = _parse(gold), _parse(prediction)
    if right is None or (_is_infinite(right) and not _is_infinite(left)):
        return False
    if scale := _scale(left):
        if not _is_number(right):
            return False
        # Unevaluated: on some formulas sympy raises, which only `verify` takes for a wrong answer.
        left, right = sympy.N(left * scale), sympy.Mul(right, scale, evaluate=False)
    if not _same(left, right):
        return False
    return isinstance(right, sympy.Number) or not any(_same(decoy, right) for decoy in _DECOYS)


def _same(gold: Any, prediction: Any) -> bool:
    return bool(verify([gold], [prediction], timeout_seconds=None))


@lru_cache(maxsize=256)
def _parse(formula: str) -> Any | None:
    """The sympy object that `formula`, plain or LaTeX, states; None if it states none."""
    latex = readable(formula)
    if latex is None:
        return None
    found = parse(
        rf"\boxed{{{latex}}}",
        _BOX_ONLY,
        fallback_mode="no_fallback",
        extraction_mode="first_match",  # any fraction in a formula that it cannot read would count otherwise
        parsing_timeout=None,
    )
    return found[0] if found else None


def _is_number(value: Any) -> bool:
    return isinstance(value, sympy.Expr) and bool(value.is_number)


def _is_infinite(value: Any) -> bool:
    """Whether an infinity or nan stands in `value`: to math-verify, an |oo| equals most numbers."""
    return bool(value.has(sympy.oo, -sympy.oo, sympy.zoo, sympy.nan))


def _scale(gold: Any) -> int | None:
    """The power of ten that takes a small gold number to between 0.1 and 1; None for any other value."""
    size = sympy.Abs(sympy.N(gold)) if _is_number(gold) else sympy.nan
    if not size.is_comparable or not 0 < size < _SMALL:
        return None
    return int(10 ** -(sympy.floor(sympy.log(size, 10)) + 1))
