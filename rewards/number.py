"""The numeric reward (GEOQA, counting)."""

import math
import re

from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._text import plain

_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_DEGREES = re.compile(r"\^\s*\{?\s*(?:\\circ|0)\s*\}?(?![\d.])")
_UNIT_POWER = re.compile(r"(?<![^\W\d_])(?:[cdkm]?m|in|ft|units?)\s?\^\s?[23](?!\d)", re.IGNORECASE)
_EXPRESSION = re.compile(r"[√π^]|\\(?:sqrt|pi|[dt]?frac)(?![A-Za-z])|\b(?:sqrt|pi)\b", re.IGNORECASE)
_MINUS = re.compile(r"(?<![\w)}\]°%])[‐‒–—](?=\.?\d)|\b(?:minus|negative) (?=[+-]?\.?\d)", re.IGNORECASE)
_OPERATION = re.compile(
    r"\d\)? ?(?!e[+-])(?:[a-z%]{1,9} ?)?(?:[+×÷·∙⋅]|\*\*?) ?\(?[+-]?\.?\d"  # "3 cm + 3 cm", not "1e+3"
    r"|\d\)? ?(?:[-‐‒–—x]|\\(?:times|cdot|div)|(?:plus|times|over|choose|mod|(?:divid|multipli)ed by) )"
    r" ?\(?[+-]?\.?\d"
    r"|\d(?::| : )\d|\d\)?\([+-]?\.?\d|/ ?[+-]?\d[\d.,]* ?/|[+-] ?[+-] ?\.?\d"
    r"|\d\)? ?(?:!|(?:hundred|thousand|(?:m|b|tr)illion|dozen|squared|cubed|factorial)\b)",
    re.IGNORECASE,
)
_FUNCTION = re.compile(
    r"(?<![^\W\d_])(?:a(?:rc)?)?(?:log|ln|exp|sine?|cos(?:ine)?|tan(?:gent)?|cot|sec|csc|root|square|cube|"
    r"factorial|twice|double|triple|half|third|quarter)(?: of)? ?[_(]{0,2}[+-]?\.?\d",
    re.IGNORECASE,
)
# "It is not 5", but neither "not drawn to scale, 65" nor "not acute. It is 95".
_DENIED = re.compile(
    r"(?:\bnot\b|n['’]t\b|[≠¬±]|\\(?:neq?|not|pm)(?![a-z]))(?:[^\d,;:.]|\.(?=\d)){0,40}\d", re.IGNORECASE
)
_EXPONENT = r"(?:[eE][+-]?\d+(?!\w))?"
_DECIMAL = rf"(?:(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?|\.\d+){_EXPONENT}"
_NUMBER = re.compile(rf"([+-]?)\s*({_DECIMAL})(?:\s*/\s*([+-]?)\s*({_DECIMAL}))?")
_MIXED = re.compile(r"(?<![\d.,/])(\d{1,9}) (\d{1,9}) ?/ ?(\d{1,9})(?![\d.,]*[\d/])")
_LATEX = re.compile(r"\\(?:boxed|text|mathrm)\s*\{([^{}]*)\}|\\[!,;: ]|[${}]")


@reward("number", bounds=(0, 1))
def number(completion: Completion, sample: Sample, *, tolerance: float = 1e-6) -> float | None:
    """1 if `<answer>` is the gold number within `tolerance` (relative; absolute if that is 0); else 0.

    Units, a degree sign, thousands separators, fractions (also "3 1/2"), powers of ten ("1.5e-3") and LaTeX
    are read: "65°" equals "65" and "65 degrees", not "650". Full-width digits are digits; those of other
    scripts, and two different numbers, score 0. None if the gold answer is no number. Raises
    ConfigurationError for a tolerance that is no finite number from 0 up. Source: accuracy reward of GPG on
    GEOQA (arXiv 2504.02546).
    """
    _check(tolerance)
    gold = read_number(sample.answer)
    if gold is None:
        return None
    value = None if completion.answer is None else read_number(completion.answer)
    return float(value is not None and abs(value - gold) <= tolerance * (abs(gold) or 1.0))


def read_number(text: str) -> float | None:
    """The one number that `text` states; None if there is none, or several that differ.

    None too for an expression that has to be worked out, such as "2√3", "5!", "3+3" or "5 million",
    and for one that is denied: "not 5".
    """
    text = plain(text)
    if _has_foreign_digits(text):
        return None
    text = _LATEX.sub(r"\1", _FRACTION.sub(r" \1\2/\3\4 ", _DEGREES.sub(" ", text)))
    text = _MINUS.sub("-", " ".join(_UNIT_POWER.sub(" ", text).split()))
    text = _MIXED.sub(_improper, text)
    if any(pattern.search(text) for pattern in (_EXPRESSION, _OPERATION, _FUNCTION, _DENIED)):
        return None
    values = {_value(match) for match in _NUMBER.finditer(text)}
    value = values.pop() if len(values) == 1 else None
    return value if value is not None and math.isfinite(value) else None


def _check(tolerance: float) -> None:
    is_number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not is_number or not 0 <= tolerance < math.inf:
        raise ConfigurationError(
            f"reward 'number' needs a tolerance that is a finite number from 0 up, got {tolerance!r}; "
            "the default is 1e-6"
        )


def _has_foreign_digits(text: str) -> bool:
    """Whether digits of another script stand in plain `text`: Python would read ٦٥, published graders do not,
    and a model that drifts into another script is not to be paid for it."""
    return not text.isascii() and any(c.isdecimal() and not c.isascii() for c in text)


def _improper(match: re.Match[str]) -> str:
    """3 1/2 as 7/2; unchanged, so two numbers, where the fraction is none of a mixed number."""
    whole, above, below = map(int, match.groups())
    return f"{whole * below + above}/{below}" if above < below else match[0]


def _value(match: re.Match[str]) -> float | None:
    sign, digits, divisor_sign, divisor = match.groups()
    value = float(digits.replace(",", ""))
    if divisor is not None:
        below = float(divisor.replace(",", ""))
        if below == 0:
            return None
        value /= below
    negative = (sign == "-") != (divisor_sign == "-")
    return -value if negative else value
