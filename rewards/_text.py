"""Spelling of numbers and formulas that several rewards read."""

import re
import unicodedata

_SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹]+")
_DEGREE_SIGNS = str.maketrans("º˚", "°°")  # NFKC would make a letter of one, and an accent of the other
_SIGNS = str.maketrans("−⁄", "-/")


def plain(text: str) -> str:
    """`text` with one spelling of each character and single spaces.

    A superscript becomes ^{2}, so that 65⁰ is not 650; 3½ becomes 3 1/2; full-width digits become Latin.
    """
    text = _SUPERSCRIPT.sub(r"^{\g<0>}", text.translate(_DEGREE_SIGNS))
    # A space keeps 3½ apart, which would fold to 31/2; runs of spaces cost quadratic time in patterns.
    text = "".join(f" {c}" if unicodedata.category(c) == "No" and c not in "⁰¹²³⁴⁵⁶⁷⁸⁹" else c for c in text)
    return " ".join(unicodedata.normalize("NFKC", text).translate(_SIGNS).split())
