"""Sets of real numbers in their several forms: inequalities, set-builders, intervals, points."""

import re

from ._patterns import rewriter

_with_symbols = rewriter(
    (r"\\leq?(?![A-Za-z])", "≤"),
    (r"\\geq?(?![A-Za-z])", "≥"),
    (r"\\lt(?![A-Za-z])|&lt;", "<"),
    (r"\\gt(?![A-Za-z])|&gt;", ">"),
    (r"\\(?:mid|vert)(?![A-Za-z])", "|"),
    (r"\\in\s*(?:\\mathbb\s*\{?R\}?|R(?![A-Za-z])|ℝ)\s*(?=[|:,])", ""),
    (r"\s+", " "),
)
_BUILDER = re.compile(r"\\\{ ?([A-Za-z]) ?[|:] ?([^|]+?) ?\\\}")
_BOUNDS = re.compile(
    r"(?:(?P<first>[^<>≤≥]+?) ?(?P<left>[<>≤≥]) ?)?(?P<unknown>[A-Za-z]|\\theta) ?"
    r"(?:(?P<right>[<>≤≥]) ?(?P<last>[^<>≤≥]+?))?"
)
_OPEN = {"<": "(", ">": "(", "≤": "[", "≥": "["}
_CLOSE = {"(": ")", "[": "]"}
_PARTS = re.compile(r" ?(?:,|\\cup|\\lor|\\vee|∨)(?![A-Za-z]) ?")
_BRACKETED = re.compile(r"(\\\{|\(|\[)(.*)(\\\}|\)|\])", re.DOTALL)
_KINDS = {(r"\{", r"\}"): "set", ("(", ")"): "point", ("[", "]"): "list"}
_MEMBER = re.compile(r"([A-Za-z]) ?\\in ?(.+)")


def as_set(latex: str) -> tuple[str, str] | None:
    r"""The unknown, and the interval or union as LaTeX, of what bounds one unknown: `1 \le x < 2` is [1,2).

    Reads chains, "x<0 or x>1" with its `or` as a comma, and `\{x | x > 2\}`; None for all else.
    """
    latex = _with_symbols(latex).strip()
    if builder := _BUILDER.fullmatch(latex):
        latex = builder[2]
    if member := _MEMBER.fullmatch(latex):
        return member[1], member[2]
    parts = [_BOUNDS.fullmatch(part) for part in _PARTS.split(latex)]
    intervals = [_interval(part) for part in parts if part]
    unknowns = {part["unknown"] for part in parts if part}
    if len(intervals) < len(parts) or len(unknowns) != 1 or None in intervals:
        return None
    return unknowns.pop(), r" \cup ".join(interval for interval in intervals if interval)


def _interval(bounds: re.Match[str]) -> str | None:
    """The interval of one chain; None where its two signs point in different directions, or there is none."""
    left, right = bounds["left"], bounds["right"]
    signs = [sign for sign in (left, right) if sign]
    if not signs or len({sign in "<≤" for sign in signs}) != 1:
        return None
    ends = [(bounds["first"], _OPEN[left] if left else "("), (bounds["last"], _OPEN[right] if right else "(")]
    (low, opens), (high, closes) = ends if signs[0] in "<≤" else ends[::-1]
    return f"{opens}{low or '-' + chr(92) + 'infty'}, {high or chr(92) + 'infty'}{_CLOSE[closes]}"


def bracket(latex: str) -> str:
    r"""`point` for "(1, 2)", `list` for "[1, 2]", `set` for "\{1, 2\}"; "" for all else."""
    match = _BRACKETED.fullmatch(latex.strip())
    inner = match[2] if match else ""
    depth = lowest = 0
    for token in re.findall(r"[(\[{]|[)\]}]", inner):
        depth += 1 if token in "([{" else -1
        lowest = min(lowest, depth)
    whole = match is not None and "," in inner and lowest == 0
    return _KINDS.get((match[1], match[3]), "") if match and whole else ""
