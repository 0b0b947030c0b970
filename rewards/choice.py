"""The multiple-choice reward (CV-Bench, SAT, NLVR)."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

# A letter stands alone: "(B)", "B", "B.", "b)"; not the B of "Blue" and not the article "a".
_LETTER = re.compile(r"\(([A-Za-z])\)|(?<![^\W_])(?:([A-Z])(?![^\W_])(?!')|([A-Za-z])\))")
_WHOLE_LETTER = re.compile(r"[^\w≠¬]*([A-Za-z])[^\w≠¬]*")
# A small letter joined to another one: "(B) or a", "B/a"; not the article of "(B), a cat".
_JOINED = re.compile(
    r"(?<![^\W_])(?<!['’])([a-z])(?=[)\]*_.]* ?(?:,? ?\b(?:or|and)\b|[,;/&|+]) ?[(\[*_]*([a-z])"
    r"(?![^\W_])(?!['’])(?! +(?!(?:or|and|is|are)\b)[\w…]))"
)
_GAP = "…"  # no choice holds it: NFKC makes three dots of it
_ARTICLE = re.compile(r"(?<![^\W_])an?\s+", re.IGNORECASE)
# Words begin and end here; patterns made for each sample's choices would take longer than the search.
# The 1 of "-1" and of "1/5" does not, but both ends of the range "1-2" do.
_STARTS = re.compile(
    r"(?<!\w)(?<!\d[.,/⁄])(?<!\d /)(?<!\d/ )(?<!\d / )"
    r"(?:(?=\D)|(?<!^[-−‐–—])(?<![^\w)… ][-−‐–—])(?<![^\d…] [-−‐–—]))"
)
_ENDS = re.compile(r"(?!\w)(?![.,]\d)(?!⁄|(?<=\d) ?/ ?\d)")
_NEGATION = re.compile(
    r"[≠¬不非]|n['’]t\b|\b(?:not?|none|nor|neither|never|cannot|except|wrong|incorrect|rather|instead|"
    r"(?:other|less) than|(?:anything|all) but)\b"
)
# What may stand around a choice that opens the answer: "**(B) No**, it isn't"; "No is wrong" states none.
_OPENING = re.compile(r"[\s*_\"'(]*(?:[a-z][).:]+[\s*_\"']*)?")
_STATED = re.compile(r"[\s*_\"')]*[,.;!](?!\d)")
_DENIED = re.compile(r"(?!\w| is)")


@reward("choice", bounds=(0, 1))
def choice(completion: Completion, sample: Sample) -> float | None:
    """1 if `<answer>` names the gold choice, by letter or by text, and no other; else 0.

    An answer that names two choices scores 0, and so does one with a negation outside the choice's own
    words: "not (A)", unless it opens with the choice: "No, it is not". None if the sample's gold answer is
    not one of its choices. Range {0, 1}. Source: accuracy reward of GPG (arXiv 2504.02546);
    strictness is ours.
    """
    gold = named_choice(sample.answer, sample.choices)
    if gold is None:
        return None
    if completion.answer is None:
        return 0.0
    return float(named_choice(completion.answer, sample.choices) == gold)


def named_choice(answer: str, choices: Sequence[str]) -> int | None:
    """Index of the one choice that `answer` names; None if it names none, or several."""
    answer = " ".join(unicodedata.normalize("NFKC", answer).split())
    folded = _folded(tuple(choices))
    text = _fold(answer)
    if folded.count(text) == 1:
        return folded.index(text)
    if whole := _WHOLE_LETTER.fullmatch(answer):
        return _index(whole[1], len(choices))
    named, rest = _named_texts(text, folded)
    if _NEGATION.search(rest) and not _opens_with_choice(text, folded):
        return None
    letters = ["".join(found) for found in _LETTER.findall(_without_articles(answer, folded))]
    letters += [letter for pair in _JOINED.findall(rest) for letter in pair]
    named |= {index for letter in letters if (index := _index(letter, len(choices))) is not None}
    return named.pop() if len(named) == 1 else None


def _opens_with_choice(text: str, choices: tuple[str, ...]) -> bool:
    """Whether `text` states a choice and then goes on, so that what it denies there is not the choice."""
    text = _OPENING.sub("", text, count=1)
    return any(
        _STATED.match(text, len(words)) or (words in ("no", "false") and _DENIED.match(text, len(words)))
        for words in choices
        if words and text.startswith(words)
    )


def _without_articles(answer: str, choices: tuple[str, ...]) -> str:
    """`answer` without the "A" that stands before a choice's words, as in "A red ball" or "A reddish one"."""
    words = tuple(choice for choice in choices if choice[:1].isalpha())
    longest = max(map(len, words), default=0)

    def keep(match: re.Match[str]) -> str:
        following = answer[match.end() : match.end() + longest].casefold()
        return "" if following.startswith(words) else match[0]

    return _ARTICLE.sub(keep, answer)


def _named_texts(text: str, choices: tuple[str, ...]) -> tuple[set[int], str]:
    """Choices whose words stand in `text`, and what is left of it without them.

    Longer ones first, so "dark red" is not also "red". A text that two choices share names neither.
    """
    named = set()
    for index, words in sorted(enumerate(choices), key=lambda pair: -len(pair[1])):
        if words and words in text and choices.count(words) == 1:
            rest = _without_words(text, words)
            if rest != text:
                named.add(index)
                text = rest
    return named, text


def _without_words(text: str, words: str) -> str:
    """`text` with a gap wherever `words` stand by themselves: "1" does not in "1.5"."""
    parts, done, start = [], 0, text.find(words)
    while start >= 0:
        end = start + len(words)
        if _STARTS.match(text, start) and _ENDS.match(text, end):
            parts.append(text[done:start])
            done = end
        start = text.find(words, end)
    return _GAP.join([*parts, text[done:]])


@lru_cache(maxsize=1024)
def _folded(choices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_fold, choices))


def _index(letter: str, count: int) -> int | None:
    index = ord(letter.upper()) - ord("A")
    return index if index < count else None


def _fold(text: str) -> str:
    """Case, width and spacing folded; a closing full stop dropped."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .")
