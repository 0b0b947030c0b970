"""Patterns made of lists of words, so that the lists can be read."""

import re
from collections.abc import Callable


def any_of(*patterns: str) -> re.Pattern[str]:
    """A pattern that matches what one of `patterns` does, in capitals or small letters."""
    return re.compile("|".join(patterns), re.IGNORECASE)


def alternatives(text: str) -> str:
    """The alternatives of a pattern, from words with spaces between them; _ stands for a space in a word."""
    return "|".join(text.split()).replace("_", " ")


def rewriter(*rules: tuple[str, str | Callable[[re.Match[str]], str]]) -> Callable[[str], str]:
    """A function that replaces each pattern of `rules` in turn."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def rewrite(text: str) -> str:
        for pattern, replacement in compiled:
            text = pattern.sub(replacement, text)
        return text

    return rewrite
