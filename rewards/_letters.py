"""Letters of choices as answers state them, apart from all else that a single letter may be."""

import re

from ._patterns import alternatives

# A letter stands alone: "(B)", "B", "B.", "b)"; not the B of "Blue", "B-52", "B+" or "Bob's".
_STANDING = re.compile(
    r"\(([A-Za-z])\)|(?<![A-Za-zÀ-ӿ0-9°∠~!✗❌])(?<![✗❌] )(?<!^-)(?<!\d[ -])(?<!° )(?<![A-Za-z]['’.&-])"
    r"(?:([A-Z])(?![A-Za-zÀ-ɏ0-9]|['’][A-Za-z]|[+#$%♭♯]| ?=|-(?:[A-Za-z0-9]|$)|"
    r" (?:flat|sharp|minor|major|minus|plus|movie)\b|\.(?:Sc|Ed|Com|Tech|Eng|Phil)\b)"
    r"|([A-Za-z])\))"
)
_WHOLE = re.compile(r"[^\w≠¬∠~!✗❌]*([A-Za-z])[^\w≠¬+#%♭♯]*")
_OBJECT = re.compile(
    r"[{\[(]* ?[\"']?(?:answer|option|choice|letter)[\"']? ?[:=] ?[\"'(\[]*([A-Za-z])[\"')\].]* ?[}\])]*",
    re.IGNORECASE,
)
# A small letter needs more: "option b", "the answer is b." at the end; "a" would be an article.
_SMALL = re.compile(
    r"(?:\b(?i:option|choice|answer|ans|letter|select|choose|chose|pick|picked|go with)s?\b|选项?|答案)"
    r"(?:\s|:|=|\bis\b|\bwould be\b|\bmust be\b|是|为|应|该){0,6}[\"'(*_]*"
    r"([a-z])(?=[\"')*_.,;:!]*(?: *$|[\"'),;:.!*_] |\s+(?:is|because|since|as)\b))"
    r"|\b(?:it['’]?s|it is|it must be|it should be|is) [\"'(*_]*([a-z])[\"')*_.!]*$"
    r"|^[\"'(*_]*([a-z])[\"')*_]*(?= (?:is|because|since)\b)"
)
# A small letter joined to another one: "(B) or a", "B/a"; not the article of "(B), a cat".
_JOINED = re.compile(
    r"(?<![^\W_])(?<!['’])([a-z])(?=[)\]*_.]* ?(?:,? ?\b(?:or|and)\b|[,;/&|+]) ?[(\[*_]*([a-z])"
    r"(?![^\W_])(?!['’])(?! +(?!(?:or|and|is|are)\b)[\w…]))"
)
_CLUSTER = re.compile(r"(?<![^\W_])[A-Za-z](?: ?[&/] ?[A-Za-z]|\.[A-Za-z])+(?![^\W_])\.?")
# A capital that is part of a name, and no choice: "vitamin A", "Johnny B. Goode".
_NAMED = re.compile(
    r"\b(?-i:[A-Z][a-z]+\.? [A-Z]\. ?(?=[A-Z][a-z])|[Pfg]\([A-Z]\))|"
    r"\b(?-i:(?!Option|Answer|Choice|Letter|Select|Pick|Choose|It|The|So|Thus|Hence)[A-Z][a-z]+ I\b)|"
    r"\b(?:vitamin|plan|hepatitis|grade|type|appendix|schedule|influenza|malcolm|model|class|blood|mr|mrs|dr|"
    r"side|usb|team|gate|terminal|platform|bus|exhibit|generation|gen)[ -]\(?[A-Z](?![^\W_])",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"(?<![^\W_])I(?= (?!is\b|because\b|since\b|as\b|and\b|or\b)[a-z]|['’](?:m|d|ve|ll|s)\b|, (?:too|as)\b"
    r"| - the\b)"
    r"|(?<=\bdo )I\b|(?<=\bcan )I\b|(?<=\bshould )I\b|(?<=\band )I\b|(?<=\bam )I\b"
)
# "A" before a word is the article, unless the word goes on about choice (A).
_NO_NOUN = alternatives(
    """is was because since as and or but the a an this that these it they there in on at for with looks?
    seems? shows? has would must should can matches best only not are if by to from of while where which
    who fits? describes? represents? depicts? satisfies corresponds? contains? gives? makes"""
)
_ARTICLE = re.compile(rf"(?<![^\W_])(?<!\()A(?= +(?!(?:{_NO_NOUN})\b)[a-z…])")


def without_pronoun(answer: str) -> str:
    """`answer` with a dot for each "I" that is no letter: "I think it is C"."""
    return _PRONOUN.sub("·", answer)


def whole_letter(answer: str) -> str | None:
    """The letter if `answer` is nothing else: "B", "(b).", "**B**", {"answer": "B"}."""
    match = _WHOLE.fullmatch(answer) or _OBJECT.fullmatch(answer)
    return match[1].upper() if match else None


def stated_letters(answer: str, count: int) -> set[str]:
    """Capitals of the letters of `count` choices that `answer` states.

    In `answer` the pronoun is gone, and a … stands for choices' words. Article, abbreviations ("N/A",
    "U.S.A.") and names ("vitamin A") are none.
    """
    last = chr(ord("A") + count - 1)

    def apart(cluster: re.Match[str]) -> str:
        letters = re.findall("[A-Za-z]", cluster[0])
        several = "." not in cluster[0][:-1] and max(map(str.upper, letters)) <= last
        return " ".join(f"({letter})" for letter in letters) if several and len(set(letters)) > 1 else "·"

    answer = _CLUSTER.sub(apart, _ARTICLE.sub("·", answer))
    answer = _NAMED.sub("·", answer)
    letters = {"".join(found) for found in _STANDING.findall(answer) + _SMALL.findall(answer)}
    letters |= {letter for pair in _JOINED.findall(answer.lower()) for letter in pair}
    return {letter.upper() for letter in letters if letter.upper() <= last}
