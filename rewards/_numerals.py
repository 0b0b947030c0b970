"""Numerals as people write them: separators of several countries, fractions, ratios, powers of ten."""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from ._number_words import HAN_SCALES, HAN_TENS, SCALES

_DIGITS = 300
"""A numeral with more digits, or a greater power of ten, is no number that a task asks for."""
_POINTS = r"""(?:
    (?: \d{1,3}(?:\.\d{3})+,\d+ | \d{1,3}(?:\.\d{3}){2,}              # 1.234,5 and 1.234.567
      | (?: \d{1,3}(?:,\d{3})+ | \d{1,2}(?:,\d{2})+,\d{3}             # 1,234 and 12,34,567
          | \d{1,3}(?:[ ]\d{3})+(?![ ]?/) | \d{1,3}(?:['’]\d{3})+     # 1 234 and 1'234
          | \d+ ) (?:\.\d+)?
      | \.\d+ ) (?![.]?\d)(?!,\d{3}(?!\d)) )"""
_COMMAS = rf"(?:{_POINTS}(?!,\d) | \d+,\d+ (?![.,]?\d))"  # 2,5; the thousands come first
_EXPONENT = r"(?:[eE](?P<NAME>[+-]?\d+)(?![\w.]))?"
_TEN = r"10[ ]?(?:\^[ ]?[{(]*|\*\*[ ]?\(?)(?P<NAME>[+-]?\d{1,4})[})]*(?![\d.])"


def _named(pattern: str, name: str) -> str:
    return pattern.replace("NAME", name)


def _numeral(decimal: str) -> re.Pattern[str]:
    return re.compile(
        rf"""(?<![\d.])(?<!\d['’])(?:(?P<sign>[+-])(?=[\d.])|(?<![\w)\]}}°%][ ])(?P<wide_sign>[+-])[ ])?(?:
      (?P<whole>\d{{1,9}})[ -](?P<above>\d{{1,9}})[ ]?/[ ]?(?P<below>\d{{1,9}})(?![\d.,]*[\d/])
    | {_named(_TEN, "power_alone")}
    | (?P<decimal>{decimal}) (?: [ ]?(?:[×x*·∙⋅]|\*\*)[ ]?{_named(_TEN, "power")}
                             | {_named(_EXPONENT, "exponent")} )
      (?: [ ]?(?P<over>[/:])[ ]?(?P<divisor_sign>[+-]?)(?P<divisor>{decimal})
          {_named(_EXPONENT, "divisor_exponent")} (?![ ]?[/:][ ]?\d) )?
    )""",
        re.VERBOSE,
    )


_WITH_POINT, _WITH_COMMA = _numeral(_POINTS), _numeral(_COMMAS)
_SCALE = re.compile(
    r" ?[kKM](?!\w)|(?:B|[bmt]n)(?!\w)|[ -]?(?:hundred|thousand|million|billion|trillion|dozen)s?\b|"
    r" ?[十百千万亿]+(?![米克瓦伏])"
)
_SCALES = {
    **SCALES,
    **{"k": 10**3, "m": 10**6, "b": 10**9, "mn": 10**6, "bn": 10**9, "tn": 10**12, "dozen": 12},
}
_HAN_SCALES = {**HAN_TENS, **HAN_SCALES}


@dataclass(frozen=True)
class Numeral:
    """A numeral in a text."""

    start: int
    end: int
    value: Fraction | None
    """None where it states no number: 1/0, or more digits than anything has."""
    is_ratio: bool = False
    """Whether it is written as 1:4."""


def find_numeral(text: str, start: int, *, decimal_comma: bool) -> Numeral | None:
    """The first numeral in `text` from `start` on, with a magnitude such as million; None if there is none.

    With `decimal_comma` 2,5 is two and a half; else two numerals. 1,234 has thousands either way.
    """
    match = (_WITH_COMMA if decimal_comma else _WITH_POINT).search(text, start)
    if match is None:
        return None
    end, value = match.end(), _value(match)
    if scale := _SCALE.match(text, end):
        end, value = scale.end(), None if value is None else value * _scale(scale)
    return Numeral(match.start(), end, value, match["over"] == ":")


def _value(match: re.Match[str]) -> Fraction | None:
    if match["whole"]:
        whole, above, below = (int(match[name]) for name in ("whole", "above", "below"))
        value = whole + Fraction(above, below) if above < below else None
    elif match["power_alone"]:
        value = _scaled(Fraction(1), match["power_alone"])
    else:
        value = _scaled(_decimal(match["decimal"]), match["power"] or match["exponent"])
        if match["divisor"]:
            below = _scaled(_decimal(match["divisor"]), match["divisor_exponent"])
            value = value / below if value is not None and below else None
    negative = ((match["sign"] or match["wide_sign"]) == "-") != (match["divisor_sign"] == "-")
    return -value if negative and value is not None else value


def _decimal(digits: str) -> Fraction | None:
    """1,234.5 and 1.234,5 are the same; a lone comma with other than three digits behind it is a point."""
    if len(digits) > _DIGITS:
        return None
    digits = re.sub("[ '’]", "", digits)
    point = digits.rfind(".")
    if re.fullmatch(r"\d+,(?!\d{3}$)\d+|\d{1,3}(?:\.\d{3})+,\d+", digits):
        point = digits.rfind(",")
    elif digits.count(".") > 1:
        point = len(digits)
    point = len(digits) if point < 0 else point
    whole, part = (re.sub("[.,]", "", piece) for piece in (digits[:point], digits[point + 1 :]))
    return Fraction(int(f"{whole}{part}" or 0), 10 ** len(part))


def _scaled(value: Fraction | None, power: str | None) -> Fraction | None:
    if value is None or power is None:
        return value
    return value * Fraction(10) ** int(power) if len(power) <= 4 and abs(int(power)) <= _DIGITS else None


def _scale(match: re.Match[str]) -> int:
    scale = match[0].strip(" -")
    if scale[0] in _HAN_SCALES:
        return prod(_HAN_SCALES[character] for character in scale)
    return _SCALES[scale.casefold().removesuffix("s")]
