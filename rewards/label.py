"""The class-name reward (fine-grained classification: Flowers102, Pets37, FGVC-Aircraft, Cars196)."""

import re
import unicodedata

from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

_APOSTROPHE = re.compile("['’`]")
_ARTICLE = re.compile(r"^(?:an?|the) ")


@reward("label", bounds=(0, 1))
def label(completion: Completion, sample: Sample) -> float | None:
    """1 if `<answer>` is the gold class name, spelling aside, and nothing else; else 0.

    Case, width, punctuation, underscores, hyphens, spacing and a leading article do not count: "a
    Black-Eyed Susan." is black_eyed_susan. An answer that lists the name among others scores 0, and so does
    an empty one. None if the gold name is empty, or the sample asks for no class name. Range {0, 1}.
    Source: class match of GPG's classification runs (arXiv 2504.02546), where an empty answer was worth 1.
    """
    gold = normal_name(sample.answer)
    if not gold or sample.answer_type != "label":
        return None
    return float(completion.answer is not None and normal_name(completion.answer) == gold)


def normal_name(name: str) -> str:
    """One spelling of a class name; "" if it is only punctuation.

    Punctuation parts words, apostrophes do not, so TL 3.2 stays apart from TL 32, and "C++" from "C".
    """
    folded = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", name).casefold())
    spaced = "".join(" " if unicodedata.category(c).startswith("P") else c for c in folded)
    return _ARTICLE.sub("", " ".join(spaced.split()))
