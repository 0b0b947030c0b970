"""LaTeX as models write it: one spelling, what a formula's words mean, and what is not worth working out."""

import re
import unicodedata
from functools import lru_cache

from ._patterns import rewriter
from ._text import bare, plain, unwrapped
from ._units import unit_at

_NESTING = re.compile(r"\\.|[][(){}]", re.DOTALL)
_DEEPEST = 25
_LONGEST = 1_000

# A number to the power of a power, a power or factorial of a million and more, a factorial of a factorial.
_TOWER = re.compile(
    r"\^\s*[{(]*\d+\s*\^|\^\s*[{(]*\d{6}|\d{5,}[)}\s]*!|![)}\]\s]*!|\\binom\s*\{\d{6}|\d{4,}\s*[})]*\s*\)\s*\^|"
    r"\\(?:sum|prod)[^^]*\^\s*\{?\s*\d{4}|\b(?:gcd|lcm)\b.*!"
)

# Two numbers side by side, which math-verify would add up: "3 5" is no 8. Not so the base of "\log_2 8".
_SIDE_BY_SIDE = re.compile(r"(?<![_^\d.])\d[\d.]*(?:\s|\\q?quad|\\[,;: ])+\d")
_FUNCTIONS = (
    "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|lg|exp|max|min|gcd|lcm|det|lim|mod"
)
_NAMES = "alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|infty"
_TEXT = re.compile(r"\\(?:text|mbox|math|operatorname)(?:bf|it|rm|normal|sf|tt)?\*?(?![a-z])\s*\{([^{}]*)\}")
_rewritten = rewriter(
    (r"\\?\$|\*\*(?![\w({])|(?<![\w)}])\*\*|`|\\(?:left|right|displaystyle|limits)(?![A-Za-z])", ""),
    (r"\\[cdt]frac", r"\\frac"),
    (r"\^\s*\{?\s*(?:\\circ|°)\s*\}?|°|\\degree", r"^{\\circ}"),
    (r"\\(?:approx|simeq|sim)(?![A-Za-z])|[≈≒≃]", ""),
    (r"\\(?:Rightarrow|implies|therefore|because|quad|qquad)(?![A-Za-z])|[∴∵]", " "),
    (r"[×✕]|(?<![\w*])\*(?!\*)|(?<!\*)\*(?!\*)", r"\\times "),
    (r"\*\*", "^"),
    (r"[·∙⋅]", r"\\cdot "),
    (r"÷", r"\\div "),
    (r"(?<![\w.)}/])(\d+) ?/ ?(\d+) (?=π|\\?pi(?![a-z])|\\?sqrt|√)", r"\\frac{\1}{\2}"),
    (r"∛\s*(\w+)", r"\\sqrt[3]{\1}"),
    (r"∞|(?<![\\A-Za-z])inf(?:ty|inity)?(?![A-Za-z])", r"\\infty "),
    (r"π|(?<![\\A-Za-z])[Pp]i(?![A-Za-z])", r"\\pi "),
    (r"θ", r"\\theta "),
    (r"≤|≦|⩽|\\leqslant", r"\\le "),
    (r"≥|≧|⩾|\\geqslant", r"\\ge "),
    (r"<=", r"\\le "),
    (r">=", r"\\ge "),
    (r"∪", r"\\cup "),
    (r"∈", r"\\in "),
    (r"[√]\s*\{", r"\\sqrt{"),
    (r"√\s*(\d+(?:\.\d+)?|[A-Za-z])", r"\\sqrt{\1}"),
    (r"(?:√|(?<![\\A-Za-z])sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"(?<![\\A-Za-z])sqrt\s*(\d+|[A-Za-z](?![A-Za-z]))", r"\\sqrt{\1}"),
    (r"(?<![\\A-Za-z])sqrt\s*\{", r"\\sqrt{"),
    (rf"(?<![\\A-Za-z])({_FUNCTIONS}|{_NAMES})(?![A-Za-z])", r"\\\1"),
    (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
    (
        r"\\(ln|log(?:_\w|_\{\w+\})?) ?(\d+(?:\.\d+)?)(?![\d^])",
        r"\\\1(\2)",
    ),  # the quotient in \ln 3/\ln 2
    (r"\\varnothing|∅", r"\\emptyset "),
    (r"^\s*(?:\\mathbb\s*\{?\s*R\s*\}?|ℝ)\s*$", r"(-\\infty, \\infty)"),
    (r"\\begin\{cases\}(.*?)\\end\{cases\}", lambda cases: re.sub(r"\\\\", ",", cases[1])),
    (r"(?<=\d) (?=[A-Za-z](?![A-Za-z]))", ""),  # 5 i
    (r"\\log_(\d+)\s*\(", r"\\log_{\1}("),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
    (r"(?<![_^]\d)(?<=\d)(?:\\[,!; ]|\{,\}|\s)+(?=\d{3}(?!\d))", ""),  # thousands
    (r"(?<![\d.,_^])(\d+) (\d+) ?/ ?(\d+)", r"\1\\frac{\2}{\3}"),  # 3 1/2 is no 3 + 1/2
    (r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})(?!\w)", r"\1 \\times 10^{\2}"),
    (
        r"(?<=[\d)}A-Za-z])\s*(?:、|；|;|或者?|和|与|,?\s*(?<![A-Za-z])(?:and|or)(?![A-Za-z]))\s*(?=\S)",
        ", ",
    ),
    (r"(?<!\.)\s*[.,;]$", ""),
)
_AFTER_VALUE = re.compile(r"(?:(?<=[\d)}])|(?<=\\pi)(?![A-Za-z])|(?<=\\circ\}))(?=[ A-Za-z\\\u4e00-\u9fff])")
_ENDS = re.compile(r"\s*(?:$|[,;)\]}=<>]|\\(?:le|ge|cup|in|times)(?![A-Za-z]))")
_WORDS = re.compile(
    r"(?<!begin\{)(?<!\\end\{)(?<![\\A-Za-z])[A-Za-z]{4,}|[\u3400-\u9fff]"
    r"|(?<![\\A-Za-z])(?:is|not|the|are|if|for|was|then|but)(?![A-Za-z])"
)
_GOES_ON = re.compile(r"\.\.|…|\\[lc]?dots|\\equiv|≡")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])|±")
_LONE_PLUS = re.compile(r"(?:^|(?<==))\s*\+")
_BRACES = re.compile(r"(\\\{)(.*)(\\\})")
_COMMA = re.compile(r",(?![^(\[{]*[)\]}])\s*")


def readable(formula: str) -> str | None:
    """`formula`, plain or LaTeX, in LaTeX that math-verify reads rightly; None if it states no one value.

    Words may part a list ("1 or 2"), name a function or be a unit of measurement; with any other the formula
    is prose: "3 is wrong" is no 3, and "5 million" no 5.
    """
    latex = _rewritten(_with_words(plain(formula)))
    latex = _both_signs(_without_units(" ".join(latex.split())))
    if (
        not latex
        or _GOES_ON.search(latex)
        or _nesting(latex) is None
        or _SIDE_BY_SIDE.search(latex)
        or _WORDS.search(latex)
    ):
        return None
    return latex


def _with_words(latex: str) -> str:
    r"""What `\text{…}` sets, without it: "3\text{x}" is 3x, and "3\text{ cm}" 3 cm."""
    return unwrapped(latex, _TEXT, _set_upright)


def _both_signs(latex: str) -> str:
    r"""`latex` with two items for each with a \pm: "1 \pm x" is a list of 1 + x and 1 - x."""
    if not _PLUS_MINUS.search(latex):
        return latex
    match = _BRACES.fullmatch(latex)
    start, inner, end = match.groups() if match else ("", latex, "")
    items = []
    for item in _COMMA.split(inner):
        signs = "+-" if _PLUS_MINUS.search(item) else "+"
        items += [_LONE_PLUS.sub("", _PLUS_MINUS.sub(sign, item, count=1)) for sign in signs]
    return f"{start}{', '.join(items)}{end}"


def _set_upright(text: re.Match[str]) -> str:
    content = text[1].strip(" ~")
    return f" {content} " if len(content) > 1 else content


def _without_units(latex: str) -> str:
    """`latex` without the units of measurement that end its values."""
    parts, done = [], 0
    for place in _AFTER_VALUE.finditer(latex):
        start = place.start()
        if start < done:
            continue
        unit = unit_at(latex, start)
        if unit is not None and _ENDS.match(latex, unit[1]):
            parts.append(latex[done:start])
            done = unit[1]
    return "".join([*parts, latex[done:]])


def is_absurd(formula: str) -> bool:
    """Whether working `formula` out could cost minutes or all memory, and no problem asks for the like."""
    if len(formula) > _LONGEST:
        return True
    formula = plain(formula)
    return (_nesting(formula) or 0) > _DEEPEST or _TOWER.search(formula) is not None


def is_broken(formula: str) -> bool:
    """Whether the braces of `formula` do not match, or nothing is left of it without its markup."""
    return _nesting(formula) is None or not normal(formula)


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


_CIRCLED = re.compile("[①-⑨]")
_BETWEEN_CIRCLED = re.compile(r"(?<=[①-⑨])(?:\s|[、,，])+(?=[①-⑨])")
_FULL_STOP = re.compile(r"(?<!\.) ?[.。]$")
_SINGLE = re.compile(r"\{(\w)\}")
_NO_SPACE = re.compile(r"(?<![^\W_]) | (?![^\W_])")
_TIME = re.compile(r"(?<=\d) ?([ap])\.? ?m\b\.?", re.IGNORECASE)
_same_spelling = rewriter(
    (r"\\[cdt]frac", r"\\frac"),
    (r"\\leq?(?:slant)?(?![A-Za-z])|≤|<=", "≤"),
    (r"\\geq?(?:slant)?(?![A-Za-z])|≥|>=", "≥"),
    (r"\\mid(?![A-Za-z])", "|"),
    (r"∞", r"\\infty"),
    (r"π", r"\\pi"),
    (r"\^ ?\{? ?\\circ ?\}?|\\degree", "°"),
    (r"[、;]", ","),
    (r"\\varnothing|∅", r"\\emptyset"),
    (r",? ?\(? ?([a-z]) ?(?:\\in|∈) ?(?:\\mathbb ?\{? ?Z ?\}?|ℤ|Z) ?\)?$", r",\1∈Z"),
)


@lru_cache(maxsize=256)
def normal(formula: str) -> str:
    """`formula` as a text to compare: without markup, spaces that part no words, and a closing full stop."""
    text = _BETWEEN_CIRCLED.sub("", formula)  # ①、③ is ①③
    text = bare(_CIRCLED.sub(lambda circled: f"({unicodedata.digit(circled[0])})", text))
    text = _same_spelling(_FULL_STOP.sub("", text))
    text = _TIME.sub(lambda half: f"{half[1].lower()}m", text)
    return _SINGLE.sub(r"\1", _NO_SPACE.sub("", text))
