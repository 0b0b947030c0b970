"""The order of an epoch by difficulty: pure functions of recorded pass rates."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpg_vl.data.difficulty import PassRate
from gpg_vl.difficulty_config import Curriculum

Order = np.ndarray[Any, np.dtype[np.int64]]
"""Row indices, (N,)."""
Arrange = Callable[[Order, np.random.Generator], Order]
"""An epoch's order from the one it would have had, and its own random numbers."""
_UNKNOWN = 0.5
"""Where a question without a record stands among pass rates."""


def arrangement(curriculum: Curriculum, rates: Sequence[PassRate | None]) -> Arrange | None:
    """How `data.curriculum` orders rows with these rates, None for no record; None leaves the order alone."""
    if curriculum == "none":
        return None
    return easy_first(rates) if curriculum == "easy_first" else weighted(rates)


def easy_first(rates: Sequence[PassRate | None]) -> Arrange:
    """From the highest pass rate to the lowest; equal ones stay in the order they come in.

    A question without a record stands where a rate of 1/2 does.
    """
    hardness = np.array([-(_UNKNOWN if rate is None else rate.share) for rate in rates])

    def arrange(order: Order, _: np.random.Generator) -> Order:
        return order[np.argsort(hardness[order], kind="stable")]

    return arrange


def weighted(rates: Sequence[PassRate | None]) -> Arrange:
    """Drawn one after the other by `variance_weight`, without putting back: all rows once an epoch.

    Row i comes at the place of e_i / w_i in ascending order, e_i ~ Exp(1). Source: Efraimidis and Spirakis,
    Information Processing Letters 97 (2006), 181-185.
    """
    weights = np.array([variance_weight(rate) for rate in rates])

    def arrange(order: Order, random: np.random.Generator) -> Order:
        return np.argsort(random.exponential(size=len(order)) / weights, kind="stable")

    return arrange


def variance_weight(rate: PassRate | None) -> float:
    """E[p (1 - p)], what is to be expected of a 0/1 reward's variance after k of K answers were right.

    p has a uniform prior, so it is (k + 1) (K - k + 1) / ((K + 2) (K + 3)): above 0 for k = 0 and k = K, for
    a few samples prove neither, and 1/6 without a record (K = 0).
    """
    right, samples = (0, 0) if rate is None else (rate.right, rate.samples)
    return (right + 1) * (samples - right + 1) / ((samples + 2) * (samples + 3))
