import math

import pytest

from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.stats import (
    Interval,
    cluster_bootstrap,
    estimate,
    mcnemar,
    mean_interval,
    over_seeds,
    paired_difference,
    pass_at_k,
    sign_flip,
    weighted_sum,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        # z = 1.959964, z² = 3.841459; for 8 of 10: centre (0.8 + 0.192073) / 1.384146 = 0.716740,
        # half width 1.959964 · sqrt(0.016 + 0.009604) / 1.384146 = 0.226577.
        (8, 10, 0.490163, 0.943318),
        (0, 10, 0.0, 0.277533),  # z² / (n + z²)
        (10, 10, 0.722467, 1.0),  # n / (n + z²)
        (1, 1, 0.206549, 1.0),
        (50, 100, 0.403832, 0.596168),
        # Graded answers may add up to a fraction: centre 0.442073 / 1.384146 = 0.319383, half width
        # 1.959964 · sqrt(0.01875 + 0.009604) / 1.384146 = 0.238435.
        (2.5, 10, 0.080948, 0.557818),
    ],
)
def test_wilson_gives_the_numbers_computed_by_hand(successes, count, low, high):
    interval = wilson(successes, count)
    assert interval.mean == successes / count
    assert interval.count == count
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=2e-6)


def test_wilson_is_wider_for_more_confidence():
    # z = 2.575829, z² = 6.634897
    interval = wilson(0, 10, confidence=0.99)
    assert interval.high == pytest.approx(6.634897 / 16.634897, abs=1e-6)


@pytest.mark.parametrize("successes", range(0, 481, 48))
def test_wilson_holds_its_mean(successes):
    interval = wilson(successes, 480)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (11, 10), (-1, 10), (float("nan"), 10)])
def test_wilson_refuses_what_is_no_share(successes, count):
    with pytest.raises(DataError):
        wilson(successes, count)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_share(confidence):
    with pytest.raises(ConfigurationError, match="confidence"):
        wilson(1, 2, confidence=confidence)


def test_bootstrap_of_independent_values_is_close_to_the_normal_interval():
    values = [1.0] * 60 + [0.0] * 40
    interval = cluster_bootstrap(values, range(100))
    half = 1.959964 * (0.6 * 0.4 / 100) ** 0.5  # 0.0960
    assert interval.mean == 0.6
    assert (interval.low, interval.high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.015)


def test_bootstrap_is_wider_when_clusters_agree_within():
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * 25
    alone = cluster_bootstrap(values, range(200))
    together = cluster_bootstrap(values, [place // 4 for place in range(200)])
    # 50 clusters of four equal values: the standard error doubles.
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert together.mean == alone.mean == 0.5
    assert ratio == pytest.approx(2, rel=0.12)


def test_bootstrap_weights_clusters_by_their_size():
    # A resample is both times the large cluster, both times the small one, or one of each.
    values, clusters = [1.0, 1.0, 1.0, 0.0], ["large", "large", "large", "small"]
    assert cluster_bootstrap(values, clusters) == Interval(0.75, low=0.0, high=1.0, count=4)
    # The middle half of the resamples is one of each: 3 of 4, not the mean of 1 and 0.
    middle = cluster_bootstrap(values, clusters, confidence=0.2)
    assert (middle.low, middle.high) == (0.75, 0.75)


def test_bootstrap_is_deterministic_and_does_not_depend_on_blocks(monkeypatch):
    values, clusters = [0.0, 0.5, 1.0, 1.0, 0.25], [0, 0, 1, 2, 3]
    whole = cluster_bootstrap(values, clusters)
    monkeypatch.setattr("gpg_vl.stats._DRAWS_AT_ONCE", 12)
    assert cluster_bootstrap(values, clusters) == whole
    assert cluster_bootstrap(values, clusters, seed=1).mean == whole.mean


def test_bootstrap_of_one_cluster_has_no_width():
    assert cluster_bootstrap([1.0, 0.0], ["a", "a"]) == Interval(0.5, 0.5, 0.5, 2)


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], []), ([float("nan"), 1.0], [0, 1])])
def test_bootstrap_refuses_what_it_cannot_draw_from(values, clusters):
    with pytest.raises(DataError):
        cluster_bootstrap(values, clusters)


def test_bootstrap_needs_resamples():
    with pytest.raises(ConfigurationError, match="resamples"):
        cluster_bootstrap([1.0], [0], resamples=0)


def test_estimate_is_wilson_for_independent_right_and_wrong():
    values = [1.0] * 8 + [0.0] * 2
    assert estimate(values, [None] * 10) == wilson(8, 10)
    assert estimate(values, [f"image {place}" for place in range(10)]) == wilson(8, 10)


def test_estimate_is_the_bootstrap_for_shared_images_and_for_graded_scores():
    values, clusters = [1.0, 1.0, 0.0, 0.0], ["a", "a", "b", None]
    assert estimate(values, clusters) == cluster_bootstrap(values, [0, 0, 1, 2])
    graded = [0.25, 0.5, 1.0]
    assert estimate(graded, [None] * 3) == cluster_bootstrap(graded, [0, 1, 2])


def test_estimate_does_not_take_one_image_for_proof():
    interval = estimate([1.0] * 10, ["a"] * 10)
    assert (interval.low, interval.high) == pytest.approx((0.206549, 1.0), abs=1e-6)
    assert interval.count == 10


@pytest.mark.parametrize("values", [[], [1.5], [-0.1, 1.0], [float("nan")]])
def test_estimate_refuses_what_is_no_score(values):
    with pytest.raises(DataError):
        estimate(values, [None] * len(values))


def test_paired_difference_lets_difficulty_cancel_out():
    before = [0.0, 1.0] * 50
    after = [0.0, 1.0] * 45 + [1.0, 1.0] * 5
    interval = paired_difference(before, after, [None] * 100)
    assert interval.mean == pytest.approx(0.05)
    assert interval.low > 0  # five mended, none broken
    assert interval.count == 100


def test_paired_difference_needs_pairs():
    with pytest.raises(DataError, match="2 and 1"):
        paired_difference([0.0, 1.0], [1.0], [None, None])


def test_ends_of_a_weighted_sum_add_up_in_squares():
    parts = [(0.5, Interval(0.5, 0.44, 0.62, 40)), (0.25, Interval(1.0, 0.68, 1.0, 8))]
    # Below: hypot(0.5 · 0.06, 0.25 · 0.32) = hypot(0.03, 0.08); above: 0.5 · 0.12.
    total = weighted_sum(parts)
    assert (total.mean, total.count) == (0.5, 48)
    assert (total.low, total.high) == pytest.approx((0.5 - 0.0854400, 0.56), abs=1e-7)


@pytest.mark.parametrize(
    ("count", "right", "k", "chance"),
    [
        (5, 2, 1, 0.4),
        (5, 2, 3, 0.9),  # 1 - C(3,3)/C(5,3)
        (5, 2, 4, 1.0),  # four of five cannot all be wrong
        (5, 0, 5, 0.0),
        (64, 1, 8, 0.125),
        (1, 1, 1, 1.0),
    ],
)
def test_pass_at_k_is_unbiased(count, right, k, chance):
    assert pass_at_k(count, right, k) == pytest.approx(chance, rel=1e-12)


@pytest.mark.parametrize(("count", "right", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5)])
def test_pass_at_k_refuses_what_was_not_sampled(count, right, k):
    with pytest.raises(DataError, match="pass@k"):
        pass_at_k(count, right, k)


@pytest.mark.parametrize(
    ("fixed", "broken", "p"),
    [
        (8, 2, 0.109375),  # 2 * (1 + 10 + 45) / 2^10
        (2, 8, 0.109375),
        (6, 0, 0.03125),  # 2 / 2^6
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemars_exact_test(fixed, broken, p):
    assert mcnemar(fixed, broken) == pytest.approx(p, rel=1e-12)


def test_a_mean_of_any_range_has_an_interval():
    values = [0.0, 1.0, 1.0, 0.0]
    assert mean_interval(values, [None] * 4) == wilson(2, 4)
    wide = mean_interval([-3.0, 2.0, 4.0, 5.0], [None] * 4)
    assert wide == cluster_bootstrap([-3.0, 2.0, 4.0, 5.0], range(4))
    assert wide.low < wide.mean == 2.0 < wide.high
    with pytest.raises(DataError, match="not finite"):
        mean_interval([2.0, math.inf], [None, None])


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 0), (5, 0), (8, 2), (3, 3)])
def test_sign_flips_of_right_and_wrong_are_mcnemars_test(fixed, broken):
    changes = [1.0] * fixed + [-1.0] * broken + [0.0] * 7
    assert sign_flip(changes, [None] * len(changes)) == pytest.approx(mcnemar(fixed, broken))


def test_sign_flips_of_graded_scores_by_hand():
    # Of the sums ±1 ±2 ±4, two of eight are as far from 0 as 7; four as far as 5 = -1 + 2 + 4.
    assert sign_flip([1.0, 2.0, 4.0], [None] * 3) == 2 / 8
    assert sign_flip([-1.0, 2.0, 4.0], [None] * 3) == 4 / 8
    assert sign_flip([0.1, 0.2, -0.3], [None] * 3) == 1.0  # the sum is 0 but for rounding


def test_sign_flips_drawn_agree_with_all_of_them():
    changes = [0.3, -0.1, 0.5, 0.2, -0.4, 0.6, 0.1, 0.2, -0.2, 0.4]
    clusters = [None] * 10
    exact, drawn = sign_flip(changes, clusters), sign_flip(changes, clusters, draws=1000)
    assert drawn == pytest.approx(exact, abs=0.04) and drawn != exact
    assert sign_flip([1.0] * 100, [None] * 100) == 1 / 10_001  # never 0


def test_sign_flips_keep_a_cluster_together():
    assert sign_flip([1.0, 1.0, 1.0], ["a", "a", "b"]) == 2 / 4
    with pytest.raises(DataError, match="no values"):
        sign_flip([], [])


def test_seeds_have_students_interval():
    """By hand: mean 3, standard deviation 1, t of two degrees of freedom 4.302653."""
    interval = over_seeds([2.0, 3.0, 4.0])
    assert (interval.mean, interval.count) == (3.0, 3)
    assert interval.high - 3 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6) == 3 - interval.low


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_seeds_need_two_figures(values):
    with pytest.raises(DataError):
        over_seeds(values)
