"""Orders by difficulty: by hand where they are fixed, by counts where they are drawn."""

from collections import Counter

import numpy as np
import pytest

from gpg_vl.data.curriculum import arrangement, variance_weight
from gpg_vl.data.difficulty import PassRate
from gpg_vl.data.prepared import Sampler

RATES = [PassRate(0, 4), PassRate(4, 4), PassRate(2, 4), None, PassRate(3, 4), PassRate(1, 2)]


def sampler(curriculum, rates=RATES, seed=0, **options):
    return Sampler(len(rates), seed, arrange=arrangement(curriculum, rates), **options)


def test_without_a_curriculum_the_order_is_what_it_was():
    assert arrangement("none", RATES) is None
    plain = np.random.default_rng([5, 0]).permutation(6).tolist()
    assert sampler("none", seed=5).draw(6) == Sampler(6, 5).draw(6) == plain


def test_easy_first_goes_from_high_to_low_and_shuffles_equals():
    orders = [sampler("easy_first", seed=seed).draw(6) for seed in range(60)]
    for order in orders:
        assert order[:2] == [1, 4] and set(order[2:5]) == {2, 3, 5} and order[5] == 0
    assert len({tuple(order) for order in orders}) == 6
    assert sampler("easy_first", shuffle=False).draw(12) == [1, 4, 2, 3, 5, 0] * 2


@pytest.mark.parametrize(
    ("rate", "weight"),
    [
        (None, 1 / 6),
        (PassRate(0, 4), 5 / 42),
        (PassRate(4, 4), 5 / 42),
        (PassRate(2, 4), 9 / 42),
        (PassRate(500_000, 1_000_000), 0.25),
        (PassRate(100_000, 1_000_000), 0.09),
    ],
)
def test_weights_by_hand(rate, weight):
    assert variance_weight(rate) == pytest.approx(weight, rel=1e-4)


def test_the_weight_is_the_mean_of_the_variance_under_what_was_seen():
    draws = np.random.default_rng(0).beta(2 + 1, 6 + 1, size=1_000_000)  # 2 of 8 right, a uniform prior
    assert variance_weight(PassRate(2, 8)) == pytest.approx((draws * (1 - draws)).mean(), rel=1e-3)


def test_weighted_comes_first_in_proportion_and_each_row_once_an_epoch():
    rates = [PassRate(0, 8), PassRate(4, 8), None]
    weights = np.array([variance_weight(rate) for rate in rates])
    firsts = Counter()
    for seed in range(4000):
        order = sampler("weighted", rates, seed).draw(3)
        assert sorted(order) == [0, 1, 2]
        firsts[order[0]] += 1
    shares = np.array([firsts[row] for row in range(3)]) / 4000
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.03)


@pytest.mark.parametrize("curriculum", ["easy_first", "weighted"])
def test_any_draw_goes_on_exactly(curriculum):
    """Over three epochs, cut anywhere; what is read ahead does not draw."""
    whole = sampler(curriculum, seed=3).draw(18)
    assert len({tuple(whole[start : start + 6]) for start in (0, 6, 12)}) > 1
    for consumed in range(18):
        resumed = sampler(curriculum, seed=3)
        resumed.consumed = consumed
        ahead = resumed.upcoming()
        assert [next(ahead) for _ in range(9)][: 18 - consumed] == whole[consumed : consumed + 9]
        assert resumed.draw(18 - consumed) == whole[consumed:]
