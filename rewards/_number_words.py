"""Numbers written in words, English and Chinese, as digits."""

import re
from fractions import Fraction

_SMALL_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen
"""
_TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_PART_WORDS = "third fourth fifth sixth seventh eighth ninth tenth"
_SMALL = {word: value for value, word in enumerate(_SMALL_WORDS.split())}
_TENS = {word: 10 * tens for tens, word in enumerate(_TEN_WORDS.split(), start=2)}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {word: value for value, word in enumerate(_PART_WORDS.split(), start=3)}
_PARTS |= {"half": 2, "quarter": 4, "hundredth": 100, "thousandth": 1000}
_PARTS |= {f"{word}s": value for word, value in _PARTS.items()} | {"halves": 2}
_UNIT_WORD = "|".join([*_SMALL, *_TENS])
NUMBER_WORD = rf"(?:{_UNIT_WORD}|half|an?|minus|negative)\b"
"""Pattern of what a number in words begins with."""
_SCALE = "|".join(SCALES)
_RUN = re.compile(
    rf"\b(?:(?P<start>{_UNIT_WORD})|an? (?=(?:{_SCALE}|dozen)\b))"
    rf"(?P<more>(?:[ -](?:and )?(?:{_UNIT_WORD}|{_SCALE}))*)"
    rf"(?P<point> point(?: (?:{'|'.join(list(_SMALL)[:10])}))+)?"
    rf"(?P<dozen> ?dozen)?(?:[ -](?P<part>{'|'.join(_PARTS)}))?\b",
    re.IGNORECASE,
)
# The same again in brackets: "three (3)".
_TWICE = re.compile(rf"(?<=[0-9]) ?(?=\((?:{_UNIT_WORD})\b)|(?<=[a-z]) (?=\([0-9]+\))", re.IGNORECASE)
_HALF = re.compile(
    r"(?:(?P<whole>\d+|[a-z]+) and )?(?:\b(?:a|one)[ -])?\bhalf\b(?! of\b)(?! an?\b)", re.IGNORECASE
)
_DIGIT_PARTS = re.compile(rf"(?<![\d./,])(\d{{1,6}})[ -]({'|'.join(_PARTS)})\b", re.IGNORECASE)
_QUARTER = re.compile(r"\ba quarter\b|\b1 quarter\b", re.IGNORECASE)
# "The one on the left", "these two angles", "no one", "one of them": they point, and count nothing.
_POINTING = re.compile(
    rf"\b(?:the|this|that|these|those|both|each|every|any|no|some|other|another|which|all|its|last|first|next|"
    rf"left|right|same)(?: (?:of the|other|remaining|given|same))? (?:{_UNIT_WORD})\b(?! ?-)"
    r"|\bone(?= (?:of|that|which|who|another|can|must|could|should)\b)",
    re.IGNORECASE,
)
# Beside digits a word before its noun counts something else: "two sides add up to 5", but "3 or four".
_BEFORE_NOUN = re.compile(
    rf"(?<!\bor )(?<!\bto )(?<![-–—,])\b(?:{_UNIT_WORD})\b(?= (?!or\b|and\b|to\b|is\b)[a-z])",
    re.IGNORECASE,
)

_HAN = {character: value for value, character in enumerate("零一二三四五六七八九")}
_HAN |= {"〇": 0, "两": 2, "俩": 2}
HAN_TENS = {"十": 10, "百": 100, "千": 1000}
HAN_SCALES = {"万": 10**4, "亿": 10**8}
_HAN_NUMBER = re.compile(
    r"(?P<percent>百分之)?(?P<whole>[零〇一二三四五六七八九两十百千万亿]+)(?:点(?P<point>[零〇一二三四五六七八九]+))?(?P<half>半)?"
)
_HAN_FRACTION = re.compile(
    r"(?!百分之)([零〇一二三四五六七八九两十百千万亿]+)分之([零〇一二三四五六七八九两十百千万亿]+)"
)
# Words with a numeral that count nothing: altogether, the same, a triangle, the first.
_HAN_OTHER = re.compile(
    r"一(?:共|样|起|些|定|般|直|切|致|个是|条直线|侧|边|旁)|唯一|统一|万一|第[一二三四五六七八九十]+|"
    r"[三四五六七八九十]+(?:角|边形|棱|面体)|[一二三]次|[一二三]元|十字|千米|千克|千瓦|百分[点比]"
)


def with_digits(text: str) -> str:
    """`text`, with its number words as digits: "sixty-five" becomes 65, 六十五 too, "two thirds" 2/3.

    Words that point instead of counting stay words: "the one on the left", 三角形. So do, where digits stand
    in the text, those before a noun: "two sides add up to 5" states one number.
    """
    if not text.isascii():
        text = _han(text)
    if not re.search("[a-zA-Z]", text):
        return text
    text = _QUARTER.sub("one quarter", _TWICE.sub(", ", text))
    pointing = [match.span() for match in _POINTING.finditer(text)]
    if re.search("[0-9]", text):
        pointing += [match.span() for match in _BEFORE_NOUN.finditer(text)]
    text = _RUN.sub(lambda match: _english(match, pointing), text)
    text = _DIGIT_PARTS.sub(lambda match: f"{match[1]}/{_PARTS[match[2].casefold()]}", text)
    return _HALF.sub(_half, text)


def _english(match: re.Match[str], pointing: list[tuple[int, int]]) -> str:
    if any(start < match.end() and match.start() < end for start, end in pointing):
        return match[0]
    total = current = 0
    words = re.findall("[a-z]+", f"{match['start'] or 'one'}{match['more']}".casefold())
    previous = ""
    for word in words:
        if word in SCALES and SCALES[word] > 100:
            total, current = total + (current or 1) * SCALES[word], 0
        elif word == "hundred":
            current = (current or 1) * 100
        elif word == "and":
            if previous not in SCALES:
                return match[0]  # "sixty and five"
        else:
            value = _SMALL.get(word, _TENS.get(word, 0))
            if previous in _SMALL or (previous in _TENS and not 0 < value < 10):
                return match[0]  # "five six" is no number
            current += value
        previous = word
    value = Fraction(total + current)
    if match["point"]:
        digits = "".join(str(_SMALL[digit.casefold()]) for digit in match["point"].split()[1:])
        return f"{value}.{digits}"
    if match["dozen"]:
        value *= 12
    return f"{value}/{_PARTS[match['part'].casefold()]}" if match["part"] else str(value)


def _half(match: re.Match[str]) -> str:
    whole = match["whole"]
    if whole is None:
        return "1/2"
    return f"{whole} 1/2" if whole.isdigit() else match[0]


def _han(text: str) -> str:
    has_digits = re.search("[0-9]", text) is not None
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return "\0"

    def number(match: re.Match[str]) -> str:
        whole = match["whole"]
        if has_digits and len(whole) == 1:
            return match[0]
        value = _han_value(whole)
        if value is None:
            return match[0]
        digits = str(value) + (f".{_digits(match['point'])}" if match["point"] else "")
        digits += " 1/2" if match["half"] else ""
        return f"{digits}%" if match["percent"] else digits

    text = _HAN_OTHER.sub(keep, text)
    text = _HAN_FRACTION.sub(lambda m: f"{_han_value(m[2])}/{_han_value(m[1])}", text)
    text = _HAN_NUMBER.sub(number, text)
    text = re.sub("负(?=[0-9])", "-", text)
    others = iter(kept)
    return re.sub("\0", lambda _: next(others), text)


def _digits(text: str) -> str:
    return "".join(str(_HAN[character]) for character in text)


def _han_value(text: str) -> int | None:
    """The value of a Chinese numeral, such as 六十五 or 二〇二四; None for one without digits, such as 万."""
    if all(character in _HAN for character in text):
        return int(_digits(text))
    total = section = digit = 0
    seen = False
    for character in text:
        if character in _HAN:
            digit, seen = _HAN[character], True
        elif character in HAN_TENS:
            if character != "十" and not digit:
                return None
            section, digit, seen = section + (digit or 1) * HAN_TENS[character], 0, True
        else:
            if not section + digit:
                return None
            total, section, digit = (total + section + digit) * HAN_SCALES[character], 0, 0
    return total + section + digit if seen else None
