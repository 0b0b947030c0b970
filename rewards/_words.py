"""Answers in words, such as Tuesday or "no solution", where a formula might stand."""

import re

from ._text import bare, without_article
from ._units import is_unit

_ENDS = " .。!\"'"
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
_MONTH = re.compile(
    r"\b(?:january|february|march|april|may|june|july|august|september|october|november|december)\b"
)
_LATEX = re.compile(r"[\\^_={}<>+*|/]")
_RUN = re.compile(r"[^\W\d_]+")
_HAN = re.compile("[\u3400-\u9fff]")
_NAMES = """
and or if for sin cos tan cot sec csc log exp sqrt max min gcd lcm mod arcsin arccos arctan inf infinity pi
"""
_NO_WORDS = frozenset(_NAMES.split())
_SYMBOL = re.compile("[A-Z][a-z]")
_LETTER = re.compile(r"\(?([A-Z])\)?[.]?")
_LETTERED = re.compile(
    r"(?:(?:option|choice|answer)\b:? ?)?\(?([A-Z])(?:\)|[.:])(?: .+)?|\(?([A-Z])\)?", re.IGNORECASE
)


def words(formula: str) -> str | None:
    r"""`formula` as words, case folded, if it is prose: a gold answer such as `\text{Tuesday}` or "June 20".

    As a formula it would be a product of its letters, and "east" the same as "seat". An element's symbol (Al)
    is a word, and so are Chinese characters.
    """
    text = bare(formula).strip(_ENDS)
    return None if _LATEX.search(text) or not (_has_word(text) or _SYMBOL.fullmatch(text)) else folded(text)


def folded(formula: str) -> str:
    """`formula` as words are compared: without case, hyphens or article; a date's parts in one order."""
    text = _ORDINAL.sub("", bare(formula).strip(_ENDS).casefold().replace("-", " "))
    parts = without_article(text).split()
    return " ".join(sorted(part.strip(",") for part in parts) if _MONTH.search(text) else parts)


def _has_word(text: str) -> bool:
    if _HAN.search(text):
        return True
    runs = [run for run in _RUN.findall(text) if len(run) > 2 and run.casefold() not in _NO_WORDS]
    return any(not is_unit(run) for run in runs)


def choice_letter(formula: str) -> str | None:
    """The letter if `formula` is that of a choice and nothing else: "B", "(B)"."""
    match = _LETTER.fullmatch(bare(formula))
    return match[1] if match else None


def stated_letter(formula: str) -> str | None:
    """The letter of a choice that `formula` begins with, its text aside: "C. 5", "option C"; None without."""
    match = _LETTERED.fullmatch(bare(formula))
    if match is None or re.search(r"[).:] [A-Za-z]$", bare(formula)):  # "C: D"
        return None
    return (match[1] or match[2]).upper()
