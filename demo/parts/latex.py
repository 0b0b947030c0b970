"""Formulas in untrusted text: KaTeX renders them, and nothing else becomes a formula."""

import re

DELIMITERS: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": r"\[", "right": r"\]", "display": True},
    {"left": r"\(", "right": r"\)", "display": False},
    {"left": "$", "right": "$", "display": False},
]
"""For a Markdown component, which hands the text between them to KaTeX."""
# A dollar before a blank, or one that a digit follows, is money.
_DOLLARS = re.compile(r"\$\$[^$<]+\$\$|\$(?!\s)[^$<]+(?<!\s)\$(?!\d)|\$")

_MONEY = "<span>&#36;</span>"


def with_formulas(markup: str) -> str:
    """Markup of `markup.py` for a Markdown component with DELIMITERS.

    A dollar sign that belongs to no formula is written as a reference, for formulas are looked for in the
    source, and set apart, for they are looked for in the page's texts as well. The markup is one block of
    HTML without line breaks, so that Markdown reads nothing of it.
    """
    return _DOLLARS.sub(lambda found: _MONEY if found[0] == "$" else found[0], markup)


def as_formula(answer: str) -> str:
    """A bare answer such as `\\frac{1}{2}` between dollars; what has some, or no sign of LaTeX, stays."""
    bare = "$" not in answer and re.search(r"[\\^_]", answer)
    return f"${answer}$" if bare else answer
