"""Messages and figures as the page shows them: no folders of the server, sentences, true minus signs."""

import re
from collections.abc import Sequence
from pathlib import Path

_START = r"(?<![\w.~/\\:-])"
"""Where a path may begin: not within a word, a relative path, a fraction or a web address."""
_QUOTED = re.compile(rf"{_START}(?P<mark>['\"`])(?P<path>(?:/|[A-Za-z]:[\\/]|\\\\)[^'\"`\n]*)(?P=mark)")
_BARE = re.compile(rf"{_START}(?P<path>(?:file://)?/[^\s'\"`<>|:;,()]+|[A-Za-z]:[\\/][^\s'\"`<>|:;,()]+)")
_WORD = re.compile(r"[a-z]+(?=[\s,;:!?]|\.?$)")
"""A plain first word, which a sentence may capitalise; `max_new_tokens` and `runs/own` are names."""
_SHOWN = 2
"""Parts that are shown of a path that nobody gave."""
_LONGEST = 4000
"""Characters of a message: some repeat what was sent, and a megabyte of paths takes many seconds."""

_MINUS = re.compile(r"(?<![\w.])-(?=[\d.])")
_PERCENT = re.compile(r"(?<=\d)\s?%")


def figures(text: str) -> str:
    """Figures as the page writes them: a true minus sign, and a percent sign apart on the same line."""
    return _PERCENT.sub("\u00a0%", _MINUS.sub("−", text))


def for_page(text: str, roots: Sequence[str] = ()) -> str:
    """A message without absolute paths, its first letter large if it begins with a plain word.

    roots: paths as the operator gave them; what lies below one is shown from there on, of any other path
    the last two parts. The text is not escaped, and cut where it is too long for a message.
    """
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

    def shown(found: re.Match[str]) -> str:
        mark = found.groupdict().get("mark") or ""
        return f"{mark}{_short(found['path'], roots)}{mark}"

    text = _BARE.sub(shown, _QUOTED.sub(shown, text))
    first = _WORD.match(text)
    return text if first is None or first[0] in roots else text[:1].upper() + text[1:]


def _short(path: str, roots: Sequence[str]) -> str:
    path = path.removeprefix("file://")
    for root in roots:
        if _is_below(path, root):
            given = root if not _is_absolute(root) else _parts(root)[-1]
            return given.rstrip("/") + path[len(_resolved(root)) :]
    return "/".join(_parts(path)[-_SHOWN:])


def _is_below(path: str, root: str) -> bool:
    return (path.rstrip("/") + "/").startswith(_resolved(root) + "/")


def _resolved(root: str) -> str:
    return str(Path(root).absolute()).rstrip("/")


def _is_absolute(path: str) -> bool:
    return re.match(r"/|[A-Za-z]:|\\\\", path) is not None


def _parts(path: str) -> list[str]:
    return [part for part in re.split(r"[\\/]", path) if part and not re.fullmatch(r"[A-Za-z]:", part)]
