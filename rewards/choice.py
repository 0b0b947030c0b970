"""The multiple-choice reward (CV-Bench, SAT, NLVR)."""

import re
import unicodedata
from collections.abc import Sequence

from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

# A letter stands alone: "(B)", "B", "B.", "b)"; not the B of "Blue" and not the article "a".
_LETTER = re.compile(r"\(([A-Za-z])\)|(?<![^\W_])([A-Z])(?![^\W_])(?!')")
_WHOLE_LETTER = re.compile(r"\W*([A-Za-z])\W*")


@reward("choice")
def choice(completion: Completion, sample: Sample) -> float | None:
    """1 if `<answer>` names the gold choice, by letter or by text, and no other; else 0.

    An answer that names two choices scores 0. None if the sample's gold answer is not one of its choices.
    Source: accuracy reward of GPG (arXiv 2504.02546); strictness is ours.
    """
    gold = named_choice(sample.answer, sample.choices)
    if gold is None:
        return None
    if completion.answer is None:
        return 0.0
    return float(named_choice(completion.answer, sample.choices) == gold)


def named_choice(answer: str, choices: Sequence[str]) -> int | None:
    """Index of the one choice that `answer` names; None if it names none, or several."""
    answer = unicodedata.normalize("NFKC", answer)
    folded = [_fold(choice) for choice in choices]
    text = _fold(answer)
    if folded.count(text) == 1:
        return folded.index(text)
    if whole := _WHOLE_LETTER.fullmatch(answer):
        return _index(whole[1], len(choices))
    letters = {_index(a or b, len(choices)) for a, b in _LETTER.findall(_no_articles(answer, choices))} - {
        None
    }
    named = letters | _named_texts(text, folded)
    return named.pop() if len(named) == 1 else None


def _no_articles(answer: str, choices: Sequence[str]) -> str:
    """`answer` without the "A" that stands before a choice's words, as in "A red ball"."""
    for choice in choices:
        if choice[:1].isalpha():
            answer = re.sub(
                rf"(?<![^\W_])An?\s+(?={re.escape(choice)}(?!\w))", "", answer, flags=re.IGNORECASE
            )
    return answer


def _named_texts(text: str, choices: Sequence[str]) -> set[int | None]:
    """Choices whose words stand in `text`; longer ones first, so "dark red" is not also "red".

    A text that two choices share names neither, and "1" does not stand in "1.5".
    """
    named: set[int | None] = set()
    for index in sorted(range(len(choices)), key=lambda i: -len(choices[i])):
        pattern = rf"(?<!\w)(?<!\d[.,]){re.escape(choices[index])}(?!\w)(?![.,]\d)"
        if choices[index] and choices.count(choices[index]) == 1 and re.search(pattern, text):
            named.add(index)
            text = re.sub(pattern, " ", text)
    return named


def _index(letter: str, count: int) -> int | None:
    index = ord(letter.upper()) - ord("A")
    return index if index < count else None


def _fold(text: str) -> str:
    """Case, width and spacing folded; a closing full stop dropped."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .")
