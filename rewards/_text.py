"""Spelling of numbers, formulas and answers that several rewards read."""

import re
import unicodedata
from collections.abc import Callable

from gpg_vl.types import Sample

_SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴-⁹]+")
_SUPERSCRIPT_SIGNS = str.maketrans("⁺⁻", "+-")
_DEGREE_SIGNS = str.maketrans("º˚", "°°")  # NFKC would make a letter of one, and an accent of the other
_SIGNS = str.maketrans("−⁄", "-/")

_ARTICLE = re.compile(r"^(?:an?|the) ")
_WRAPPED = re.compile(
    r"\\(?:boxed|fbox|mbox|text(?:bf|it|rm|normal|tt)?|math(?:rm|bf|it|sf)|operatorname\*?)\s*\{([^{}]*)\}"
)
_MARKUP = re.compile(
    r"(?<![\d)}])\*\*|\*\*(?![\d({])|__|`|\\!|\\(?:displaystyle|left|right|mathstrut)(?![A-Za-z])|\\[()\[\]]|(?:\b(?:US|HK|CA|AU|NZ))?\\?\$"
)
_SPACES = re.compile(r"(?<!\\)\\[,;: ]|\\q?quad(?![A-Za-z])|~|\{,\}(?=\d{3})")


def plain(text: str) -> str:
    """`text` with one spelling of each character and single spaces.

    A superscript becomes ^{2}, so that 65⁰ is not 650; 3½ becomes 3 1/2; full-width digits become Latin.
    """
    text = text.replace("\0", " ")
    if text.isascii():
        return " ".join(text.split())
    text = text.translate(_DEGREE_SIGNS)
    text = _SUPERSCRIPT.sub(lambda raised: f"^{{{raised[0].translate(_SUPERSCRIPT_SIGNS)}}}", text)
    # A space keeps 3½ apart, which would fold to 31/2; runs of spaces cost quadratic time in patterns.
    text = "".join(f" {c}" if unicodedata.category(c) == "No" and c not in "⁰¹²³⁴⁵⁶⁷⁸⁹" else c for c in text)
    return " ".join(unicodedata.normalize("NFKC", text).translate(_SIGNS).split())


def bare(text: str) -> str:
    r"""`plain` without what only sets an answer: Markdown's marks, dollars, `\text{…}`, LaTeX's spaces."""
    text = unwrapped(plain(text), _WRAPPED, r"\1")
    return " ".join(_SPACES.sub(" ", _MARKUP.sub("", text)).split()).strip("*")


def unwrapped(text: str, wrapped: re.Pattern[str], content: str | Callable[[re.Match[str]], str]) -> str:
    r"""`text` with the `content` of what is `wrapped`, three deep at most: \textbf{\text{5}}."""
    for _ in range(3):
        text, count = wrapped.subn(content, text)
        if not count:
            break
    return text


def without_article(text: str) -> str:
    """`text`, in small letters, without an article that begins it."""
    return _ARTICLE.sub("", text)


def gold_answers(sample: Sample) -> list[str]:
    """The gold answer, and the texts in `meta["alternatives"]`: other ways to put it."""
    others = sample.meta.get("alternatives")
    listed = others if isinstance(others, list) else []
    return [sample.answer, *(text for text in listed if isinstance(text, str))]
