"""The multiple-choice reward (CV-Bench, SAT, NLVR)."""

import re
from collections.abc import Sequence
from functools import lru_cache

from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._latex import readable
from ._letters import stated_letters, whole_letter, without_pronoun
from ._number_words import NUMBER_WORD
from ._numbers import Quantity, read_quantity, same_quantity
from ._patterns import alternatives
from ._phrases import REFUSAL
from ._text import plain

_GAP = "…"  # no choice holds it: NFKC makes three dots of it
# Words begin and end here; patterns made for each sample's choices would take longer than the search.
# The 1 of "-1" and of "1/5" does not, but both ends of the range "1-2" do.
_STARTS = re.compile(
    r"(?<!\w)(?<!\d[.,/⁄])(?<!\d /)(?<!\d/ )(?<!\d / )"
    r"(?:(?=\D)|(?<!^[-−‐–—])(?<![\w)… ][-−‐–—])(?<![^\d…] [-−‐–—]))"
)
_ENDS = re.compile(r"(?!\w)(?![.,]\d)(?!⁄|(?<=\d) ?/ ?\d)")
_HAN = re.compile("[\u3400-\u9fff]")
# Chinese has no spaces: a single character is a word between these, and not in 熊猫.
_HAN_STARTS = re.compile("(?<![^\\W是为有只个条匹头张辆座把位名的一选案择小大或者和])")
_HAN_ENDS = re.compile("(?![^\\W的在和或吧呢否])")
_NEGATIVE = alternatives(
    r"""not? none nor neither never cannot except wrong incorrect false far_from hardly doubt\w* impossible
    opposite_of least_likely besides lacks? absent rather instead (?:other|less)_than rul(?:ed?|es|ing)_out
    (?:any(?:thing)?|every(?:thing)?|all)_(?:\w+_)?but exclud\w+ eliminat\w+ unlikely"""
)
_NEGATION = re.compile(
    rf"\b(?:{_NEGATIVE})\b|\bwithout (?:an? |the )?…|n['’]t\b|[≠¬不非没错除勿]|别选|以外|哪有|难道|假如"
)
# What may stand around a choice that opens the answer: "**(B) No**, it isn't"; "No is wrong" states none.
_OPENING = re.compile(r"[\s*_\"'(]*(?:[a-z][).:]+[\s*_\"']*)?")
_STATED = re.compile(r"[\s*_\"')]*[,.;!](?!\d)")
_DENIED = re.compile(r"(?!\w| is)")
# "No" answers; before a noun it counts: "no image", "no idea". Not so before a clause: "No there is …".
_DETERMINER = re.compile(
    r" (?!(?:there|it|they|he|she|the|this|that|these|those|i|we|you|because|since|as)\b)[a-z…]| \d"
    r"|\. ?\d|[\u3400-\u9fff]"
)
_NO = frozenset({"no", "none", "not", "没有", "无"})

# "There is no dog" says No to whether there is one; what is about the answer itself says nothing.
_NOTHING = alternatives(
    """one doubt problem telling difference reason matter longer need sense such more less other change help
    worries thanks? correct right valid clear sufficient enough definite"""
)
_ABSENT = re.compile(
    rf"(?:there (?:is|are|was|were) )?no (?!(?:is|was|are|not|but|and|or)\b|\w* ?(?:{_NOTHING})\b)"
    r"[a-z]+(?: [a-z]+){0,5}\W*"
)
_OWN_LETTER = re.compile(r"\(?([A-Za-z])[).:、．]\s*(?=\S)")
_BRACKET = re.compile(r"\s*[(\[（][^()\[\]（）]*[)\]）]$")
_ARTICLE = re.compile(r"^(?:an?|the) (?=\w)")
_BOXED = re.compile(r"\$?\\(?:boxed|text|mathrm|textbf) ?\{(.*)\}\$?\.?")
_RIGHT = re.compile(r"\bright(?= (?:answer|choice|option)\b)", re.IGNORECASE)  # correct, and no side
# "(B) 10 m": a letter, and what it is said to stand for.
_LETTERED = re.compile(
    r"\W*(?:(?:option|choice|answer)\b:? ?)?\(?([A-Za-z])\)?"
    rf"(?:[).:、,]| -| (?=-?\d|{NUMBER_WORD})) *(.+)",
    re.IGNORECASE,
)
_LAST_SAID = re.compile(r"=|\bis\b|是")
_PROSE = re.compile(rf"(?!{NUMBER_WORD})[A-Za-z]{{3,}} ", re.IGNORECASE)
_IN_FORMULA = re.compile(r"(?!\d{1,2}:\d\d)(?=.*[√π\\^]|.*\d)(?!.*(?<![A-Za-z\\])[A-Za-z]{3}).*")
_FORMULA = re.compile(r"[\d√π\\]")
_LONGEST = 10_000
"""Characters; a longer answer names nothing."""
_LONG = 200
"""Characters; no choice's formula is longer."""


def unreadable(sample: Sample) -> str:
    """Why the gold answer is no choice; "" if it is one."""
    return "" if _gold(sample) is not None else "gold answer not among the choices"


@reward("choice", bounds=(0, 1), unreadable=unreadable, images=False)
def choice(completion: Completion, sample: Sample) -> float | None:
    """1 if `<answer>` names the gold choice, by letter, text or number, and no other; else 0.

    A choice's text may lack its unit, its own letter or a bracket behind it, where no other choice is left
    the same: "50" for 50°, "cat" for "A. cat", "chair" for "chair (highlighted by a red box)". An answer that
    names two choices scores 0, and so does one with a negation outside the choice's own words: "not (A)",
    unless it opens with the choice: "No, it is not". So do refusals, and letters that only stand in other
    words: "N/A", "vitamin A", the pronoun I. None if the sample's gold answer is not one of its choices; a
    gold letter in brackets is a letter, whatever the choices' texts are. Range {0, 1}. Source: accuracy
    reward of GPG (arXiv 2504.02546); strictness is ours.
    """
    gold = _gold(sample)
    if gold is None:
        return None
    if completion.answer is None:
        return 0.0
    return float(named_choice(completion.answer, sample.choices) == gold)


def _gold(sample: Sample) -> int | None:
    """Index of the gold choice: its letter first, for the choices themselves may look like letters."""
    if len(sample.answer) == 3 and sample.answer[0] + sample.answer[2] == "()":
        return _index(sample.answer[1], len(sample.choices))
    return named_choice(sample.answer, sample.choices)


def named_choice(answer: str, choices: Sequence[str]) -> int | None:
    """Index of the one choice that `answer` names; None if it names none, or several."""
    if len(answer) > _LONGEST:
        return None
    answer = plain(answer)
    if boxed := _BOXED.fullmatch(answer):
        answer = boxed[1].strip()
    texts = _texts(tuple(choices))
    if not texts:
        return _among_letters(answer, choices)
    if (place := texts.get(_fold(answer))) is not None:
        return place
    if (letter := whole_letter(answer)) and (place := _index(letter, len(choices))) is not None:
        return place
    if letter:
        return texts.get(letter.lower())
    in_words = _in_words(tuple(choices))
    named, rest = _without_choices(_RIGHT.sub("·" * 5, without_pronoun(answer)), in_words)
    small, around = _lower(answer), _lower(rest)
    if not named and "no" in in_words and _ABSENT.fullmatch(small) and not REFUSAL.search(around):
        return in_words["no"]
    if not _opens_with_choice(small, in_words) and (REFUSAL.search(around) or _NEGATION.search(around)):
        return None
    named |= {ord(letter) - ord("A") for letter in stated_letters(rest, len(choices))}
    named |= _same_value(answer, tuple(choices))
    return named.pop() if len(named) == 1 else None


def _among_letters(answer: str, choices: Sequence[str]) -> int | None:
    """Index of the choice whose letter `answer` states, where the choices are letters too, in another order.

    "(A) D" is choice (A) if its text is D; a letter alone is that of the choice.
    """
    stated = _LETTERED.fullmatch(answer)
    letter = whole_letter(answer) or (whole_letter(stated[2]) and stated[1] if stated else None)
    if letter is None:
        letters = stated_letters(without_pronoun(answer), len(choices))
        letter = letters.pop() if len(letters) == 1 and not _NEGATION.search(_lower(answer)) else ""
    place = _index(letter, len(choices)) if letter else None
    if stated and place is not None and whole_letter(stated[2]) not in (None, whole_letter(choices[place])):
        return None
    return place


def _opens_with_choice(text: str, texts: dict[str, int]) -> bool:
    """Whether `text` states a choice and then goes on, so that what it denies there is not the choice."""
    text = _OPENING.sub("", text, count=1)
    return any(
        _STATED.match(text, len(words)) or (words in ("no", "false") and _DENIED.match(text, len(words)))
        for words in texts
        if text.startswith(words)
    )


def _without_choices(answer: str, texts: dict[str, int]) -> tuple[set[int], str]:
    """Choices whose words stand in `answer`, and what is left of it, with gaps for their words.

    Longer ones first, so "dark red" is not also "red".
    """
    text, named = _lower(answer), set()
    for words, place in texts.items():
        if words in text:
            for start, end in _places(text, words):
                named.add(place)
                gap = _GAP * (end - start)
                text, answer = text[:start] + gap + text[end:], answer[:start] + gap + answer[end:]
    return named, re.sub(f"{_GAP}+", _GAP, answer)


def _places(text: str, words: str) -> list[tuple[int, int]]:
    """Where `words` stand by themselves in `text`: "1" does not in "1.5", nor "no" in "no image"."""
    found, start = [], text.find(words)
    while start >= 0:
        end = start + len(words)
        parted = _STARTS.match(text, start) and _ENDS.match(text, end)
        counts = words in _NO and _DETERMINER.match(text, end)
        if _HAN.match(words):
            parted = len(words) > 1 or (_HAN_STARTS.match(text, start) and _HAN_ENDS.match(text, end))
        if parted and not counts:
            found.append((start, end))
        start = text.find(words, end)
    return found


def _same_value(answer: str, choices: tuple[str, ...]) -> set[int]:
    """Places of the choices worth the number that `answer` states, or the same formula as all of it.

    What stands behind a letter, as in "(B) 10 m", counts for the whole.
    """
    lettered = _LETTERED.fullmatch(answer)
    given = lettered[2] if lettered else answer
    numbers = _numbers(choices)
    stated = read_quantity(given) if any(numbers) else None
    if stated is not None:
        return {place for place, number in enumerate(numbers) if number and _same_number(number, stated)}
    if len(given) > _LONG or not _FORMULA.search(given) or not any(map(_FORMULA.search, choices)):
        return set()
    formula = _formula(_LAST_SAID.split(given)[-1])
    return {place for place, choice in enumerate(choices) if formula and _formula(choice) == formula}


def _same_number(choice: Quantity, stated: Quantity) -> bool:
    """Whether the values agree; not so 10 minutes with a choice of 10 m."""
    if choice.unit and stated.unit and choice.unit.kind != stated.unit.kind:
        return False
    return same_quantity(choice, stated)


@lru_cache(maxsize=1024)
def _formula(text: str) -> str | None:
    latex = readable(text)
    return None if latex is None else latex.replace(" ", "")


@lru_cache(maxsize=1024)
def _numbers(choices: tuple[str, ...]) -> tuple[Quantity | None, ...]:
    """The number that each choice is, with its unit; None for a choice that is none."""
    read = [None if _PROSE.match(choice) or ":" in choice else read_quantity(choice) for choice in choices]
    return tuple(number if number and number.alone else None for number in read)


@lru_cache(maxsize=1024)
def _in_words(choices: tuple[str, ...]) -> dict[str, int]:
    """Of `_texts` those that answers name by their words, and not by their value."""
    numbers = _numbers(choices)
    return {
        text: place
        for text, place in _texts(choices).items()
        if numbers[place] is None and not _IN_FORMULA.fullmatch(choices[place])
    }


@lru_cache(maxsize=1024)
def _texts(choices: tuple[str, ...]) -> dict[str, int]:
    """Each choice's texts, folded, with its place, the longest first; none that two choices share.

    Empty where all choices are letters of choices themselves: an answer's letter would be ambiguous. Beside
    the whole text what is left without the choice's own letter, and without a bracket at its end.
    """
    forms: dict[str, set[int]] = {}
    last = chr(ord("A") + len(choices) - 1)
    if all((lone := whole_letter(choice)) and lone <= last for choice in choices):
        return {}
    own = [_OWN_LETTER.match(choice) for choice in choices]
    lettered = all(own) and [match[1].upper() for match in own if match] == [
        chr(ord("A") + place) for place in range(len(choices))
    ]
    for place, choice in enumerate(choices):
        bare = choice[match.end() :] if lettered and (match := own[place]) else choice
        short = _BRACKET.sub("", bare)
        without_bracket = (short, re.sub(r"[()]", "", bare)) if short else ()
        for text in (choice, bare, *without_bracket):
            folded = _fold(text)
            for form in (folded, _ARTICLE.sub("", folded)):
                forms.setdefault(form, set()).add(place)
    unique = {text: places.pop() for text, places in forms.items() if text and len(places) == 1}
    return dict(sorted(unique.items(), key=lambda pair: -len(pair[0])))


def _index(letter: str, count: int) -> int | None:
    index = ord(letter.upper()) - ord("A")
    return index if index < count else None


def _fold(text: str) -> str:
    """Case, spelling of characters and spacing folded; a closing full stop dropped."""
    return _lower(plain(text)).strip(" .")


def _lower(text: str) -> str:
    """`text` in small letters, each in its place."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c if len(c.lower()) > 1 else c.lower() for c in text)
