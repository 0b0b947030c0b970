"""Patterns made of lists of words, so that the lists can be read."""

import re


def any_of(*patterns: str) -> re.Pattern[str]:
    """A pattern that matches what one of `patterns` does, in capitals or small letters."""
    return re.compile("|".join(patterns), re.IGNORECASE)


def alternatives(text: str) -> str:
    """The alternatives of a pattern, from words with spaces between them; _ stands for a space in a word."""
    return "|".join(text.split()).replace("_", " ")
