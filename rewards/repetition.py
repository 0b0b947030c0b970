"""The repetition penalty."""

import math
import re
from itertools import islice

from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

# Han characters and kana: written without spaces, each counts as a word.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORDS = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")


@reward("repetition", kind="shaping", bounds=(-math.inf, 0), images=False)
def repetition(completion: Completion, sample: Sample, *, ngram: int = 3, max_penalty: float = 1.0) -> float:
    """−max_penalty · (1 − distinct n-grams / n-grams), over the words of the whole text, case folded.

    0 where nothing is said twice or the text is shorter than `ngram` words; nearly −max_penalty for a loop.
    Words end at spaces; a Chinese or Japanese character is a word. Range (−max_penalty, 0]. Raises
    ConfigurationError for `ngram` below 1 or a negative `max_penalty`. Source: arXiv 2502.03373, appendix
    C.2, as in open-r1 (whose max_penalty has the other sign).
    """
    if ngram < 1 or not 0 <= max_penalty < math.inf:
        raise ConfigurationError(
            "reward 'repetition' needs ngram >= 1 and a finite max_penalty >= 0, "
            f"got ngram {ngram} and max_penalty {max_penalty}"
        )
    words = _WORDS.findall(completion.text.casefold())
    ngrams = list(zip(*(islice(words, first, None) for first in range(ngram)), strict=False))
    repeated = 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
    return 0.0 - max_penalty * repeated  # never -0.0
