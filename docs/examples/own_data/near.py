"""A reward of your own: part of the credit for a number that is close."""

import math

from gpg_vl.registry import reward


@reward("near", bounds=(0, 1))
def near(completion, sample, *, scale: float = 1.0):
    """1 for the gold number, 1 / (1 + distance / scale) for another, 0 for what is no number."""
    if sample.answer_type != "number":
        return None
    try:
        distance = abs(float(completion.answer or "") - float(sample.answer))
    except ValueError:
        return 0.0
    return 1 / (1 + distance / scale) if math.isfinite(distance) else 0.0
