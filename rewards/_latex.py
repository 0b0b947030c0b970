"""LaTeX as models write it: one spelling, and what is not worth working out."""

import re

from ._text import plain

_NESTING = re.compile(r"\\.|[][(){}]", re.DOTALL)
_DEEPEST = 25
_LONGEST = 1_000
_WORD = re.compile(r"(?:\\(?:text(?:bf|it|rm)?|mathrm)\s*\{)?\s*([^\W\d_]{3,}(?: [^\W\d_]+)*)\s*\.?\s*\}?\.?")

# A number to the power of a power, a power or factorial of a million and more, a factorial of a factorial.
_TOWER = re.compile(r"\^\s*[{(]*\d+\s*\^|\^\s*[{(]*\d{6}|\d{6,}[)}\s]*!|![)}\]\s]*!|\\binom\s*\{\d{6}")

# Two numbers side by side, which math-verify would add up: "3 5" is no 8. Not so the base of "\log_2 8".
_SIDE_BY_SIDE = re.compile(r"(?<![_^\d.])\d[\d.]*(?:\s|\\q?quad|\\[,;: ])+\d")
# Words behind a number, taken for its unit: "5\text{ or 6}" would be 5.
_NUMBER_IN_WORDS = re.compile(r"[^\s{]\s*\\(?:text|mbox|mathrm)\w*\s*\{(?:[^{}]*[^{}A-Za-z^])?\d")
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"°", r"^{\\circ}"),
        (r"√\s*(\d+|[A-Za-z])", r"\\sqrt{\1}"),
        (r"√\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\[dt]?frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"(?<![_^]\d)(?<=\d)(?:\\[,!; ]|\{,\}|\s)+(?=\d{3}(?!\d))", ""),  # thousands
        (r"(?<![\d.,_^])(\d+) (\d+) ?/ ?(\d+)", r"\1\\frac{\2}{\3}"),  # 3 1/2 is no 3 + 1/2
        (r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})(?!\w)", r"\1 \\times 10^{\2}"),
        (r"\s*\.$", ""),
    )
]


def readable(formula: str) -> str | None:
    """`formula`, plain or LaTeX, in LaTeX that math-verify reads rightly; None if it states no one value."""
    latex = plain(formula)
    for pattern, replacement in _REWRITES:
        latex = pattern.sub(replacement, latex)
    if not latex or _nesting(latex) is None:
        return None
    return None if _SIDE_BY_SIDE.search(latex) or _NUMBER_IN_WORDS.search(latex) else latex


def word(formula: str) -> str | None:
    r"""`formula` as words, case folded, if it is nothing else: a gold answer such as `\text{Tuesday}`.

    As a formula it would be a product of its letters, and "east" the same as "seat".
    """
    match = _WORD.fullmatch(plain(formula))
    return match[1].casefold() if match else None


def is_absurd(formula: str) -> bool:
    """Whether working `formula` out could cost minutes or all memory, and no problem asks for the like."""
    if len(formula) > _LONGEST:
        return True
    formula = plain(formula)
    return (_nesting(formula) or 0) > _DEEPEST or _TOWER.search(formula) is not None


def _nesting(formula: str) -> int | None:
    """How deep brackets are nested; None if the braces do not match."""
    depth = deepest = braces = 0
    for token in _NESTING.findall(formula):
        depth += token in "([{"
        depth -= token in ")]}"
        braces += (token == "{") - (token == "}")
        if braces < 0:
            return None
        deepest = max(deepest, depth)
    return deepest if braces == 0 else None
