"""The one reading of numbers with their units, which `number`, `math` and `choice` share."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from ._number_words import with_digits
from ._numerals import find_numeral
from ._patterns import rewriter
from ._phrases import BOUND, DENIAL, EXPRESSION, REFUSAL
from ._text import bare
from ._units import PERCENT, RATIO, Unit, counts_things, unit_at

_LONGEST = 2_000
"""Characters; a longer text is no statement of one number."""

_without_latex = rewriter(
    (r"\\[cdt]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))", r" (\1\2)/(\3\4) "),
    (r"\((\s*[+-]?[\d.,]+\s*)\)/\((\s*[+-]?[\d.,]+\s*)\)", r"\1/\2"),
    (r" +(?=/)|(?<=/) +", ""),
    (r"(?<=[\d.}]) ?\^ ?\{? ?(?:\\circ|°|o) ?\}?(?![\w.])|\\(?:circ|degree)(?![A-Za-z])", "°"),
    (r"百分之 ?(\d+(?:\.\d+)?)", r"\1%"),
    (r"\\(?:approx|sim)(?![A-Za-z])|[≈≒≃]", " "),
    (r"\\times(?![A-Za-z])", "×"),
    (r"\\Omega(?![A-Za-z])", "Ω"),
    (r"\\cdot(?![A-Za-z])", "·"),
    (r"\\([%$#&_])", r"\1"),
    (r"\bper ?cent\b", "percent"),
    (r"(?<=\d)\{,\}(?=\d)", ","),
    (r"\{([^{}\\]*)\}(?!\^)", r"\1"),
)
_RAISED_ZERO = re.compile(r"(?<=[\d.}]) ?\^ ?\{? ?0 ?\}?(?![\d.])")  # as a degree sign is often typed
_SIGN = re.compile(r"(?<![\w)}\]°%])[‐‑‒–—](?=\.?\d)|\b(?:minus|negative) (?=[+-]?\.?\d)", re.IGNORECASE)
_CURRENCY = re.compile(
    r"(?:\b(?:US|HK|CA?|AU?|NZ))?\$|[€£¥₹₽]|\b(?:Rs|USD|RMB|EUR)\b\.? ?(?=\d)", re.IGNORECASE
)
_REPEATING = re.compile(
    r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d{1,9})\}?|(\d*)\.(\d*?)(\d)\6{2,}(?:\.{3}|\\[lc]?dots)"
)

# What stands before an equals sign where a result is worked out: no words, and something to do.
_WORKED_OUT = re.compile(r"(?!.*[A-Za-z]{4})[\w\s+*/×÷·().°%√π^∠△-]*")
_OPERATION = re.compile(r"[\w°)] ?[+*/×÷·-] ?[\w(∠√]|\d∠|\d√")

_SAYS = r"(?=\s*(?:的度数|的大小)?\s*(?:=|为|是|:(?!\s*\d+$)|is\b|equals\b|measures\b|has\b))"
_NAME = re.compile(
    r"(?:\bm ?)?(?:∠|\\angle|△|\\triangle|⊙|\b(?:angles?|side|segment|arc|line|circle|triangle|question|q|"
    rf"part|case|step|figure|fig\.?|item))\s*\{{?\w{{1,5}}\}}?{_SAYS}"
    rf"|\\?(?:sin|cos|tan|cot) ?\{{?(?:∠|\\angle)? ?[A-Za-z0-9°]{{1,5}}\}}?{_SAYS}"
    rf"|(?<![\w.])[A-Za-z]{{1,3}}(?:_?\{{?\d{{1,2}}\}}?|'|\(\s*[-\w,.° ]{{1,8}}\s*\)){_SAYS}",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(r"\W*((?:m ?)?(?:∠|\\angle|△|⊙)?\s*[^\W\d_][\w']{0,5}|name)\s*=\s*")
_ASSIGNED_BEHIND = re.compile(r"# ?= ?([A-Za-z][\w']{0,5})$")
_CAPITALISED = re.compile(r"(?!About|Approximately|Around|Roughly|Only|Exactly|Answer)[A-Z][a-z]+\.? ")
_LETTER = re.compile(r"(?<!\\)[A-Za-z]")
_LEAD = re.compile(
    r"\W*(?:(?:the )?(?:final |correct )?(?:answer|result|value)(?: is)?:? ?|答案[是为:]* ?)?", re.IGNORECASE
)

_IN_WORD = re.compile(r"[A-Za-z_]#|#[°%]?(?![\u4e00-\u9fff])[^\W\d_]|\d")
_UNKNOWN = re.compile(
    r"(?<![\w.'’-])(?:(?![aAI] )[A-Za-z]|[A-Z]{2,3}) ?\(?#"
    r"|#\)?[°%]? (?:(?![aAI])[A-Za-z](?![\w'’])|[aA](?![\w'’]| \w))"
)
_POINTED_AT = re.compile(
    r"\b(?:option|choice|question|step|page|figure|fig|room|route|case|chapter|section|example|problem|exercise|"
    r"part|item)\b\.? ?#",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)(?![A-Za-z])")
_HAN = re.compile("[\u4e00-\u9fff]+")
_HAN_GOES_ON = re.compile("[是为的]")


@dataclass(frozen=True)
class Quantity:
    """A number as it is stated, with its unit if it has one."""

    value: Fraction
    unit: Unit | None = None
    name: str = ""
    """What it is said to be the value of, such as x in "x = 5"; empty if that is not said."""
    alone: bool = True
    """Whether nothing is stated but a name, the number and what it counts: not so in "June 20"."""

    @property
    def percent(self) -> bool:
        """Whether it is given in percent."""
        return self.unit == PERCENT


def same_quantity(
    gold: Quantity, other: Quantity, close: Callable[[Fraction, Fraction], bool] = operator.eq
) -> bool:
    """Whether the values, the gold one first, are equal, or `close`.

    Units count only where both are given and measure the same: 50 cm is 0.5 m, and not 50 m. 50 % is 0.5, and
    it is 50, for the sign is often left out (0.5 % is not 0.5). 1:4 is a quarter, but 4:1 is no 4.
    """
    if (gold.unit == RATIO) != (other.unit == RATIO) and other.value.denominator == 1:
        return False
    wanted, value = gold.value, other.value
    if gold.unit and other.unit and gold.unit.kind == other.unit.kind:
        wanted, value = wanted * gold.unit.factor, value * other.unit.factor
    pairs = [(wanted, value)]
    if gold.percent != other.percent:
        pairs = [(wanted, value / 100)] if other.percent else [*pairs, (wanted / 100, value)]
        if other.percent and abs(value) >= 1:
            pairs.append((wanted, value))
    return any(close(wanted, value) for wanted, value in pairs)


@lru_cache(maxsize=4096)
def read_quantity(text: str, *, formula: bool = False) -> Quantity | None:
    """The one number that `text` states, with its unit; None if there is none, or several that differ.

    None too for what has to be worked out ("2√3", "5!", "3 + x"), is bounded ("at least 5"), denied
    ("not 5"), refused ("cannot be determined"), or followed by what is no unit ("5x"). In a
    `formula` a comma parts a list, 5^0 is a power and no 5°, and what follows a number is a unit or a plural.
    """
    if len(text) > _LONGEST:
        return None
    text = bare(text)
    if _has_foreign_digits(text) or REFUSAL.search(text):
        return None
    return _last_of_chain(_spelled(text, formula), formula)


def _has_foreign_digits(text: str) -> bool:
    """Whether digits of another script stand in `text`: Python would read ٦٥, published graders do not, and a
    model that drifts into another script is not to be paid for it."""
    return not text.isascii() and any(c.isdecimal() and not c.isascii() for c in text)


def _spelled(text: str, formula: bool) -> str:
    """`text` with one spelling for LaTeX, currencies, signs and number words."""
    text = text.replace("#", " ")  # which will stand for numbers
    if not formula:
        text = _RAISED_ZERO.sub("°", text)
    text = _without_latex(text)
    text = " ".join(_REPEATING.sub(_repeating, _CURRENCY.sub("", text)).split())
    return _SIGN.sub("-", with_digits(text))


def _repeating(match: re.Match[str]) -> str:
    """0.1\\overline{6} as 15/90."""
    whole, start, again = (match[1], match[2], match[3]) if match[3] else (match[4], match[5], match[6])
    shift = 10 ** len(start)
    value = Fraction(int(f"0{whole}{start}")) + Fraction(int(again), 10 ** len(again) - 1)
    value /= shift
    return f"{value.numerator}/{value.denominator}"


def _last_of_chain(text: str, formula: bool) -> Quantity | None:
    """What `text` states; of "∠1 = 180° - 115° = 65°" the last, unless another number stands in the chain."""
    *earlier, last = text.split("=")
    if not (any(map(_OPERATION.search, earlier)) and all(map(_WORKED_OUT.fullmatch, earlier))):
        return _read(text, formula)
    named = _ASSIGNED.fullmatch(earlier[0] + "=")
    if named is None and any(map(_LETTER.search, earlier)):
        return None  # "x + y = 5" is no 5
    found, *others = [_read(part, formula) for part in (last, *earlier)]
    if found is None or any(one and not same_quantity(found, one) for one in others):
        return None
    return replace(found, name="".join(named[1].split()) if named else "", alone=True)


def _read(text: str, formula: bool) -> Quantity | None:
    """The one number in `text`, if all that stands around it lets it be a plain statement."""
    assigned = _ASSIGNED.match(text)
    found, around = _numbers_in(_NAME.sub("name", text), formula)
    patterns = (BOUND, DENIAL, EXPRESSION, _IN_WORD, _UNKNOWN, _POINTED_AT)
    if not found or any(pattern.search(around) for pattern in patterns):
        return None
    if any(not same_quantity(found[0], other) for other in found[1:]):
        return None
    head = around.partition("#")[0]
    alone = assigned is not None or _LEAD.fullmatch(head) is not None
    if formula and not alone and _CAPITALISED.fullmatch(head):
        return None  # "June 20", "Boeing 737"
    named = assigned or _ASSIGNED_BEHIND.search(around)
    return replace(found[0], name="".join(named[1].split()) if named else "", alone=alone)


def _numbers_in(text: str, formula: bool) -> tuple[list[Quantity], str]:
    """All numbers in `text`, and the text with a # for each and its unit.

    None of them if one is no number, or something stands behind it that is no unit.
    """
    found: list[Quantity] = []
    rest: list[str] = []
    start = 0
    while numeral := find_numeral(text, start, decimal_comma=not formula):
        unit, end = unit_at(text, numeral.end) or (None, numeral.end)
        if numeral.value is None or _goes_on(text, numeral.end, end):
            return [], text
        if formula and not counts_things(text, end, one=abs(numeral.value) == 1):
            return [], text
        if ordinal := _ORDINAL.match(text, end):
            end = ordinal.end()
        found.append(Quantity(numeral.value, unit or (RATIO if numeral.is_ratio else None)))
        rest += [text[start : numeral.start], "#"]
        start = end
    return found, "".join([*rest, text[start:]])


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether Chinese that is no part of the statement follows a number at `start` whose unit ends at `end`.

    What a Chinese unit counts is a part, and so are the rest of a sentence and a bound.
    """
    han = _HAN.match(text, end)
    if han is None or (end > start and _HAN.match(text, end - 1)):
        return False
    return not _HAN_GOES_ON.match(text, end) and not BOUND.match("#" + han[0])
