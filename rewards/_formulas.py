"""Whether two formulas have the same value: math-verify's reading, with numbers compared exactly."""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

from ._latex import readable
from ._sets import as_set, bracket

# It warns that its own timeouts are off; they need the main thread, the deadline is kept from outside.
logging.getLogger("math_verify").setLevel(logging.ERROR)

_BOX_ONLY = (LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False),)
_PLACES = 6
"""Decimal places to which written decimals are compared; small ones to as many digits."""
_SMALL = 1e-3
_DIGITS = 40
"""Digits to which irrational numbers are worked out."""
_SYMPY_FAILS = (
    ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What sympy raises on formulas that can be written and not worked out."""
_BASED = re.compile(r"(\w+)_\{?(\d{1,2})\}?")


def same_formula(gold: str, prediction: str) -> bool:
    """Whether `prediction` is worth what `gold` is; both plain or LaTeX.

    Exact numbers must agree exactly, written decimals to six places (small ones to six digits). A point is no
    set, a numeral in another base another number, and of an equation in several unknowns the right side alone
    is not the answer.
    """
    left, right = readable(gold), readable(prediction)
    if left is None or right is None:
        return False
    if based := _BASED.fullmatch(right):
        other = _BASED.fullmatch(left)
        return other.groups() == based.groups() if other else left == str(_whole(*based.groups()))
    sets = as_set(left), as_set(right)
    if sets[0] and sets[1] and sets[0][0] != sets[1][0]:
        return False  # in another unknown
    left, right = (one[1] if one else latex for one, latex in zip(sets, (left, right), strict=True))
    if (kinds := {bracket(left), bracket(right)} - {""}) and len(kinds) > 1:
        return False
    values = parsed(left), parsed(right)
    try:
        return values[0] is not None and values[1] is not None and _same(*values)
    except _SYMPY_FAILS:
        return False


def is_readable(formula: str) -> bool:
    """Whether `formula` can be compared by its value."""
    latex = readable(formula)
    return latex is not None and parsed(latex) is not None


@lru_cache(maxsize=256)
def parsed(latex: str) -> Any | None:
    """The sympy object that `latex` states; None if it states none."""
    found = parse(
        rf"\boxed{{{latex}}}",
        _BOX_ONLY,
        fallback_mode="no_fallback",
        extraction_mode="first_match",  # any fraction in a formula that it cannot read would count otherwise
        parsing_timeout=None,
    )
    return found[0] if found else None


def _whole(digits: str, base: str) -> int | None:
    try:
        return int(digits, int(base))
    except ValueError:
        return None


def _same(gold: Any, other: Any) -> bool:
    if _is_infinite(other) and not _is_infinite(gold):
        return False  # to math-verify, an |oo| equals most numbers
    equations = _equation(gold), _equation(other)
    if equations[0] and equations[1]:
        (name, value), (other_name, other_value) = equations
        if name == other_name and _same(value, other_value):
            return True
    elif equations[0]:
        if not (_is_name(equations[0][0]) or all(map(_is_number, equations[0]))):
            return False
        gold = equations[0][1]
    elif equations[1]:
        name, other = equations[1]
        if not (_is_name(name) or (_is_number(name) and _is_number(other) and _same_number(name, other))):
            return False
    gold, other = _element(gold), _element(other)
    if _is_number(gold) or _is_number(other):
        return _is_number(gold) and _is_number(other) and _same_number(gold, other)
    if isinstance(gold, sympy.Interval) and isinstance(other, sympy.Interval):
        closed = (gold.left_open, gold.right_open) == (other.left_open, other.right_open)
        return closed and _same(gold.start, other.start) and _same(gold.end, other.end)
    if (members := _members(gold)) and (others := _members(other)):
        return (_same_members if isinstance(gold, sympy.FiniteSet) else _same_in_order)(members, others)
    return bool(verify([gold], [other], timeout_seconds=None))


def _equation(value: Any) -> tuple[Any, Any] | None:
    """Left and last right side of an equation, or of a chain of them; None for all else."""
    parts = getattr(value, "_unsorted_args", ()) if isinstance(value, sympy.And) else (value,)
    if parts and all(isinstance(part, sympy.Eq) for part in parts):
        return parts[0].lhs, parts[-1].rhs
    return None


def _is_name(side: Any) -> bool:
    """Whether a side of an equation names what the other is worth: x, AB, f(x), sin x."""
    if isinstance(side, sympy.Mul):
        return all(isinstance(part, sympy.Symbol) or part == 1 for part in side.args)
    return isinstance(side, sympy.Symbol | sympy.Function) and not isinstance(side, sympy.Abs)


def _element(value: Any) -> Any:
    """The one member of a set, if it is no point; or the value itself."""
    if isinstance(value, sympy.FiniteSet) and len(value.args) == 1 and isinstance(value.args[0], sympy.Expr):
        return value.args[0]
    return value


def _members(value: Any) -> Sequence[Any] | None:
    """Members of a list, set or point, in their order where they have one; None for all else."""
    if isinstance(value, sympy.FiniteSet):
        return tuple(getattr(value, "_unsorted_args", value.args))
    if isinstance(value, sympy.Tuple):
        return tuple(value.args)
    if isinstance(value, sympy.Interval) and value.left_open and value.right_open:
        return value.start, value.end  # math-verify reads a point in the plane so
    return None


def _same_in_order(golds: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(golds) == len(others) and all(map(_same, golds, others))


def _same_members(golds: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether the members can be paired, each with an equal one."""
    left = list(others)
    for gold in golds:
        place = next((place for place, other in enumerate(left) if _same(gold, other)), None)
        if place is None:
            return False
        del left[place]
    return not left


def _is_number(value: Any) -> bool:
    return isinstance(value, sympy.Expr) and bool(value.is_number) and not _is_infinite(value)


def _is_infinite(value: Any) -> bool:
    return bool(value.has(sympy.oo, -sympy.oo, sympy.zoo, sympy.nan))


def _same_number(gold: sympy.Expr, other: sympy.Expr) -> bool:
    left, right = gold.doit(), other.doit()
    if isinstance(left, sympy.Rational) and isinstance(right, sympy.Rational):
        return bool(left == right)
    if isinstance(left, sympy.Integer):
        return bool(right == left or sympy.nsimplify(right, rational=True) == left)
    decimal = left.has(sympy.Float) or right.has(sympy.Float)
    left, right = sympy.N(left, _DIGITS), sympy.N(right, _DIGITS)
    size, difference = abs(left), abs(left - right)
    if not (size.is_comparable and difference.is_comparable and size.is_finite and difference.is_finite):
        return False
    if not decimal:
        return bool(difference <= max(size, 1) * sympy.Float(10) ** -(_DIGITS - 10))
    scale = 1 if not 0 < size < _SMALL else 10 ** -(sympy.floor(sympy.log(size, 10)) + 1)
    return bool(difference * scale * 2 <= sympy.Float(10) ** -_PLACES)
