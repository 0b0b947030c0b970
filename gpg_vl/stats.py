"""Intervals around measured shares: Wilson for independent questions, else a cluster bootstrap.

Accuracies of a few hundred questions move by several points by chance, and questions that share an
image or a statement are not independent. Every number that is reported carries its interval.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import numpy as np
import numpy.typing as npt

from gpg_vl.errors import ConfigurationError, DataError

_DRAWS_AT_ONCE = 4_000_000
"""Bounds the memory of the bootstrap: 8 bytes each."""


_ROUNDING = 1e-9
"""Share of all that is added up by which sums of the same numbers may differ."""


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; shares lie in [0, 1], differences in [-1, 1]."""

    mean: float
    low: float
    """Lower end, at most `mean`."""
    high: float
    """Upper end, at least `mean`."""
    count: int
    """Values behind the mean, at least 1."""


def wilson(successes: float, count: int, confidence: float = 0.95) -> Interval:
    """Score interval of a share of independent right answers; stays within [0, 1] at 0 and at 1.

    successes: right answers of `count`, not a share. Raises DataError if count is below 1 (no
    answers say nothing, and a made-up interval would hide that) or if successes lies outside
    [0, count]. Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927),
    209-212.
    """
    _check(count, confidence)
    if not 0 <= successes <= count:
        raise DataError(f"successes must lie between 0 and count = {count}, got {successes}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    mean = successes / count
    shrink = 1 + z * z / count
    centre = (mean + z * z / (2 * count)) / shrink
    half = z * math.sqrt(mean * (1 - mean) / count + (z / (2 * count)) ** 2) / shrink
    # At 0 and at 1 an end equals the mean, but for rounding.
    low, high = max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
    return Interval(mean, low, high, count)


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the mean that draws whole clusters with replacement.

    values, clusters: one entry per question; the mean of a resample is the ratio of its sums, since
    clusters differ in size. Where all clusters have the same mean (or there is one only) the
    interval has no width. Deterministic for a seed. Raises DataError without values, if one is not
    finite, or if the lengths differ. Source: Efron and Tibshirani, An Introduction to the Bootstrap
    (1993), 13.3.
    """
    _check(len(values), confidence)
    if resamples < 1:
        raise ConfigurationError(f"resamples must be at least 1, got {resamples}")
    if not all(map(math.isfinite, values)):
        raise DataError("cannot put an interval around values of which some are not finite")
    sums, sizes = _cluster_sums(values, clusters)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    mean = float(sums.sum() / sizes.sum())
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, min(mean, float(low)), max(mean, float(high)), len(values))


def estimate(values: Sequence[float], clusters: Sequence[str | None]) -> Interval:
    """95 % interval of scores in [0, 1], by the method that fits them.

    Wilson where all values are 0 or 1 and no cluster repeats, otherwise the cluster bootstrap; None
    as a cluster means a question by itself. Where the bootstrap has no width, as all clusters
    agree, Wilson with one trial per cluster takes its place: ten questions about one image, all
    right, are no proof of a share of 1. Raises DataError without values or for one outside [0, 1].
    """
    if not all(0 <= value <= 1 for value in values):
        raise DataError(f"scores must lie in [0, 1], got {min(values)} to {max(values)}")
    labels = _labels(clusters)
    distinct = len(set(labels))
    if distinct == len(values) and all(value in (0, 1) for value in values):
        return wilson(sum(values), len(values))
    interval = cluster_bootstrap(values, labels)
    if interval.low < interval.high:
        return interval
    wide = wilson(min(interval.mean, 1.0) * distinct, distinct)
    return Interval(interval.mean, wide.low, wide.high, interval.count)


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of one figure per seed with Student's t interval, which takes them for draws of a normal law.

    Raises DataError with fewer than two values, or if one is not finite.
    """
    _check(len(values), confidence)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        raise DataError(f"an interval over seeds needs at least two finite values, got {list(values)}")
    from scipy.stats import t  # slow to import, and the workers that score do without

    mean = fmean(values)
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half, len(values))


def paired_difference(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[str | None]
) -> Interval:
    """95 % interval of the mean of `after` minus `before`, scores of the same questions in order.

    Much tighter than two separate intervals, as the questions' difficulty cancels out. Bootstrap
    over clusters; None as a cluster means a question by itself. Raises DataError as
    `cluster_bootstrap` does.
    """
    if len(before) != len(after):
        raise DataError(f"pairs need equal lengths, got {len(before)} and {len(after)} scores")
    changes = [late - early for early, late in zip(before, after, strict=True)]
    return cluster_bootstrap(changes, _labels(clusters))


def weighted_sum(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """Σ weight · mean of independent parts, with the interval that theirs imply; weights at least 0.

    The distances from mean to end add up as standard errors do. Source: Zou and Donner, Statistics in
    Medicine 27 (2008), 1693-1702.
    """
    mean = sum(weight * part.mean for weight, part in parts)
    below = math.hypot(*(weight * (part.mean - part.low) for weight, part in parts))
    above = math.hypot(*(weight * (part.high - part.mean) for weight, part in parts))
    return Interval(mean, mean - below, mean + above, sum(part.count for _, part in parts))


def mean_interval(values: Sequence[float], clusters: Sequence[str | None]) -> Interval:
    """95 % interval of the mean of scores of any range, such as a reward's.

    `estimate` where all lie in [0, 1], else the cluster bootstrap; None as a cluster means a question by
    itself. Raises DataError without values or for one that is not finite.
    """
    if all(0 <= value <= 1 for value in values):
        return estimate(values, clusters)
    return cluster_bootstrap(values, _labels(clusters))


def pass_at_k(count: int, right: int, k: int) -> float:
    """Chance that at least one of `k` answers is right, from `right` of `count` sampled ones.

    Unbiased: 1 − C(count − right, k) / C(count, k). Raises DataError unless 0 ≤ right ≤ count and
    1 ≤ k ≤ count. Source: Chen et al. 2021, arXiv 2107.03374, equation 1.
    """
    if not (0 <= right <= count and 1 <= k <= count):
        raise DataError(f"pass@k needs 0 <= right <= count and 1 <= k <= count; got {right}, {count}, k {k}")
    return 1 - math.comb(count - right, k) / math.comb(count, k)


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided p-value of McNemar's exact test: could as many flips one way be luck?

    fixed, broken: pairs that went from wrong to right and back; with neither it is 1. Takes pairs for
    independent. Source: Q. McNemar, Psychometrika 12 (1947), 153-157, with the exact binomial.
    """
    if not fixed + broken:
        return 1.0
    from scipy.stats import binomtest  # slow to import, and the workers that score do without

    return float(binomtest(fixed, fixed + broken, 0.5).pvalue)


def sign_flip(changes: Sequence[float], clusters: Sequence[str | None], draws: int = 10_000) -> float:
    """Two-sided p-value of the paired randomization test: could a mean change as large be luck?

    changes: of scores of any range, one a question; under the null hypothesis a cluster's could as well have
    the other sign. All signs are tried where they are no more than `draws`, else so many are drawn, the same
    ones each time. Of right and wrong answers by themselves it is McNemar's exact test. Raises DataError
    without values. Source: Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9
    (2010), article 39; the test is Fisher's, The Design of Experiments (1935), section 21.
    """
    _check(len(changes), 0.95)
    sums, _ = _cluster_sums(changes, _labels(clusters))
    sums = sums[sums != 0]
    exact = 2 ** len(sums) <= draws
    flipped = np.zeros(1) if exact else _flipped_sums(sums, draws)
    for size in sums if exact else ():
        flipped = np.concatenate([flipped - size, flipped + size])
    least = abs(sums.sum()) - _ROUNDING * np.abs(sums).sum()
    reached = int((np.abs(flipped) >= least).sum())
    return reached / len(flipped) if exact else (reached + 1) / (draws + 1)


def _flipped_sums(sums: npt.NDArray[np.float64], draws: int) -> npt.NDArray[np.float64]:
    """sums: (K,). Returns (draws,) sums with signs drawn at random."""
    rng, block = np.random.default_rng(0), max(1, _DRAWS_AT_ONCE // len(sums))
    parts = [
        rng.choice((-1.0, 1.0), size=(min(block, draws - start), len(sums))) @ sums
        for start in range(0, draws, block)
    ]
    return np.concatenate(parts)


def _check(count: int, confidence: float) -> None:
    if count < 1:
        raise DataError("there is no interval around no values; leave the row out")
    if not 0 < confidence < 1:
        raise ConfigurationError(f"confidence must lie between 0 and 1, got {confidence}")


def _labels(clusters: Sequence[str | None]) -> list[Hashable]:
    """Every None as a cluster of its own: its position, which equals no text."""
    return [place if cluster is None else cluster for place, cluster in enumerate(clusters)]


def _cluster_sums(
    values: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Sum and number of the values of each of K clusters: (K,), (K,)."""
    if len(values) != len(clusters):
        raise DataError(f"got {len(values)} values but {len(clusters)} clusters; one each is needed")
    place: dict[Hashable, int] = {}
    index = [place.setdefault(cluster, len(place)) for cluster in clusters]
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64))
    return np.asarray(sums, dtype=np.float64), np.bincount(index).astype(np.int64)


def _resampled_means(
    sums: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.int64],
    resamples: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """sums, sizes: (K,). Returns (resamples,) ratios of sums over K drawn clusters."""
    block = max(1, _DRAWS_AT_ONCE // len(sums))
    parts = []
    for start in range(0, resamples, block):
        drawn = rng.integers(len(sums), size=(min(block, resamples - start), len(sums)))
        parts.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(parts)
