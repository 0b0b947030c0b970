"""The format reward."""

import re

from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WHOLE = re.compile(r"\s*<think>.*</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)


@reward("format", kind="shaping", bounds=(0, 1), images=False)
def format_reward(completion: Completion, sample: Sample) -> float:
    """1 if the whole text is `<think>…</think><answer>…</answer>`, each tag once, in order; else 0.

    The answer must not be empty; the reasoning may be. Where the prompt already opened `<think>`, the text
    starts inside it and must not open it again. Source: format reward of GPG (arXiv 2504.02546) and of
    DeepSeek-R1; each tag once, and an answer in it, are ours.
    """
    text = f"<think>{completion.text}" if completion.think_opened else completion.text
    if any(text.count(tag) != 1 for tag in _TAGS):
        return 0.0
    whole = _WHOLE.fullmatch(text)
    return float(whole is not None and bool(whole[1].strip()))
