"""The class-name reward (fine-grained classification: Flowers102, Pets37, FGVC-Aircraft, Cars196)."""

import re
import unicodedata

from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._patterns import alternatives
from ._text import bare, gold_answers, without_article

# How a sentence leads to a name and states nothing else: "The species is", "This is a photo of", "Answer:".
_KIND = alternatives(
    """answer species breed class label name category type kind variety genus object item thing subject
    animal dog cat pet bird insect fish flower plant tree fruit food dish car vehicle make model variant
    aircraft airplane aeroplane plane jet picture image photo photograph texture scene place
    landmark disease"""
)
_QUALITY = "final|correct|right|best|exact|most likely|predicted|shown|depicted|main"
_IS = alternatives(
    """is are was looks_like appears_to_be seems_to_be must_be should_be would_be is_called is_named
    belongs_to shows? depicts? contains? features? is_classified_as is_identified_as is_known_as"""
)
_LEAD = re.compile(
    rf"\W*(?:(?:(?:the|this|that|its|my) )?(?:(?:{_QUALITY}) )*(?:{_KIND})"
    r"(?: (?:name|class|species|breed|model|type))?"
    rf"(?: (?:shown|depicted|pictured|seen))?(?: (?:in|of|on) (?:the|this) (?:{_KIND}))?"
    r"|it|this|that|these|those|here|i (?:think|believe)(?: (?:it|this|that))?)"
    rf"(?: ?[:=] ?|['’](?:s|re) | (?:{_IS}):? )(?:most likely )?(?:(?:a|an|the) )?"
    r"(?:(?:photo|picture|image|photograph|close-up|species|breed|variety|kind|type|member|model) of "
    r"(?:(?:a|an|the) )?)?",
    re.IGNORECASE,
)
_HAN_LEAD = re.compile(
    "(?:[这那](?:[张幅]?图[片中里]?|[只个种朵条辆架])?(?:的?[是为]|叫)|(?:答案|品种|种类|名称)[是为:])"
    "(?:一[只个种朵条辆架])?"
)
_OBJECT = re.compile(r"\{ ?[\"'](?:answer|label|class|name)[\"'] ?: ?[\"'](.+)[\"'] ?\}", re.IGNORECASE)
_LONG = 500
"""Characters; a longer answer names nothing."""

_APOSTROPHE = re.compile("['’`]")


def unreadable(sample: Sample) -> str:
    """Why the gold answer is no class name; "" if it is one."""
    if sample.answer_type != "label":
        return "no class name is asked for"
    return "" if normal_name(sample.answer) else "gold answer is only punctuation"


@reward("label", bounds=(0, 1), unreadable=unreadable, images=False)
def label(completion: Completion, sample: Sample) -> float | None:
    r"""1 if `<answer>` is the gold class name, spelling aside, and nothing else; else 0.

    Case, width, punctuation, underscores, hyphens, spacing and a leading article do not count: "a
    Black-Eyed Susan." is black_eyed_susan. Nor does a lead that names nothing: "It is an oak", "Answer: oak",
    `\boxed{oak}`. Names that `meta["alternatives"]` lists are right too. An answer that lists the name among
    others scores 0, and so does an empty one. None if the gold name is empty, or the sample asks for no class
    name. Range {0, 1}. Source: class match of GPG's classification runs (arXiv 2504.02546), where an empty
    answer was worth 1.
    """
    if unreadable(sample):
        return None
    if completion.answer is None:
        return 0.0
    stated = {normal_name(completion.answer), normal_name(_stated(completion.answer))} - {""}
    return float(not stated.isdisjoint(map(normal_name, gold_answers(sample))))


def _stated(answer: str) -> str:
    """`answer` without markup and what leads to the name."""
    if len(answer) > _LONG:
        return answer
    answer = bare(answer)
    if table := _OBJECT.fullmatch(answer):
        answer = table[1]
    lead = _LEAD.match(answer) or _HAN_LEAD.match(answer)
    return answer[lead.end() :] if lead else answer


def normal_name(name: str) -> str:
    """One spelling of a class name; "" if it is only punctuation.

    Punctuation parts words, apostrophes do not, so TL 3.2 stays apart from TL 32, and "C++" from "C".
    """
    folded = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", name).casefold())
    spaced = "".join(" " if unicodedata.category(c).startswith("P") else c for c in folded)
    return without_article(" ".join(spaced.split()))
