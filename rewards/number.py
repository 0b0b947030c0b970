"""The numeric reward (GEOQA, counting)."""

import math
import re
import unicodedata

from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹]+")
_DEGREES = re.compile(r"\^\s*\{?\s*(?:\\circ|0)\s*\}?(?![\d.])")
_UNIT_POWER = re.compile(r"(?<![^\W\d_])(?:[cdkm]?m|in|ft|units?)\s?\^\s?[23](?!\d)", re.IGNORECASE)
_EXPRESSION = re.compile(r"[√π^]|\\(?:sqrt|pi|[dt]?frac)(?![A-Za-z])|\b(?:sqrt|pi)\b", re.IGNORECASE)
_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(rf"([+-]?)\s*({_DECIMAL})(?:\s*/\s*([+-]?)\s*({_DECIMAL}))?")
_LATEX = re.compile(r"\\(?:boxed|text|mathrm)\s*\{([^{}]*)\}|\\[!,;: ]|[${}]")


@reward("number")
def number(completion: Completion, sample: Sample, *, tolerance: float = 1e-6) -> float | None:
    """1 if `<answer>` is the gold number within `tolerance` (relative, and absolute below 1); else 0.

    Units, a degree sign, thousands separators, fractions and LaTeX are read: "65°" equals "65" and
    "65 degrees", not "650". An answer with two different numbers scores 0. None if the gold answer is
    no number. Source: accuracy reward of GPG on GEOQA (arXiv 2504.02546).
    """
    gold = read_number(sample.answer)
    if gold is None:
        return None
    value = None if completion.answer is None else read_number(completion.answer)
    return float(value is not None and abs(value - gold) <= tolerance * max(1.0, abs(gold)))


def read_number(text: str) -> float | None:
    """The one number that `text` states; None if there is none, or several that differ.

    None too for an expression that has to be worked out, such as "2√3", "5π" or "2^10".
    """
    text = _LATEX.sub(r"\1", _FRACTION.sub(r" \1\2/\3\4 ", _DEGREES.sub(" ", _plain(text))))
    text = _UNIT_POWER.sub(" ", text)
    if _EXPRESSION.search(text):
        return None
    values = {_value(match) for match in _NUMBER.finditer(text)}
    value = values.pop() if len(values) == 1 else None
    return value if value is not None and math.isfinite(value) else None


def _plain(text: str) -> str:
    """One spelling of each character; a superscript becomes ^2, so that 65⁰ is not 650."""
    text = _SUPERSCRIPT.sub(r"^\g<0>", text)
    # A space keeps 3½ apart, which would fold to 31/2; runs of spaces cost quadratic time below.
    text = "".join(f" {c}" if unicodedata.category(c) == "No" and c not in "⁰¹²³⁴⁵⁶⁷⁸⁹" else c for c in text)
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("⁄", "/")
    return " ".join(text.split())


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
