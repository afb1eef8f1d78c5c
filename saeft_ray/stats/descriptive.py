"""Descriptions of paired differences in addition to their mean. None of them decides anything."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from saeft_ray.stats.proportions import clopper_pearson


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """The share of pairs that rise, a tie counting half, and its exact 95 % interval (ties against either end)."""

    n: int
    share: float
    lo: float
    hi: float


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter (⌊n/4⌋ values each).

    Of paired differences only, and as a robustness row: it does not see a gain confined to one test set, and of raw
    scores it mixes the levels of the test sets (docs/statistics.md 3.7).
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    if len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("needs finite numbers")
    return float(stats.trim_mean(x, 0.25))


def improvement(differences: ArrayLike) -> Improvement:
    """P̂ = (#{D > 0} + ½·#{D = 0})/n with the interval of Clopper and Pearson (docs/statistics.md 3.7)."""
    d = np.asarray(differences, dtype=np.float64).ravel()
    if len(d) == 0 or not np.isfinite(d).all():
        raise ValueError("needs finite differences")
    wins, ties, n = int((d > 0).sum()), int((d == 0).sum()), len(d)
    low, high = clopper_pearson(wins, n), clopper_pearson(wins + ties, n)
    assert low is not None
    assert high is not None
    return Improvement(n=n, share=(wins + ties / 2) / n, lo=low[0], hi=high[1])


def rho_interval(rho: float, n: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Fisher's interval of a correlation from `n` pairs; None below four, or at ±1 where it has no width."""
    if n < 4 or abs(rho) >= 1:
        return None
    half = float(stats.norm.ppf((1 + confidence) / 2)) / math.sqrt(n - 3)
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
