"""The difference of the means of two samples that have nothing in common."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from saeft_ray.stats.paired import Paired, finite, spread


@dataclass(frozen=True, kw_only=True)
class Welch(Paired):
    """An unpaired comparison of `n_a` values with `n_b` others, which reads like a paired one where the two are alike.

    `n` is the smaller of the two numbers, and `df`, which is no whole number, that of Welch and Satterthwaite. What
    only pairs have is None or 0: `sd`, `d_z`, `rho`, `skewness`, `sign_flip_p`, `wins`, `losses`, `ties`; and values
    without a partner are never called `identical`.
    """

    n_a: int
    n_b: int
    welch_se: float | None

    @property
    def se(self) -> float | None:
        """Standard error of the difference of the means."""
        return self.welch_se


def welch(a: ArrayLike, b: ArrayLike, confidence: float = 0.95, variance_floor: float = 0.0) -> Welch:
    """Compare the mean of `a` (n,) with that of `b` (m,), whose spreads may differ.

    t = (ā − b̄)/√(s_a²/n + s_b²/m), with (s_a²/n + s_b²/m)²/((s_a²/n)²/(n − 1) + (s_b²/m)²/(m − 1)) degrees of freedom
    (docs/statistics.md 4.16). `variance_floor` is the least variance of a value. No t, p and interval where a sample
    has one value, or neither has a spread.
    """
    x, y = finite(a), finite(b)
    mean = float(x.mean() - y.mean())
    (of_a, floored_a), (of_b, floored_b) = spread(x, variance_floor), spread(y, variance_floor)
    se = t = df = p = lo = hi = None
    if min(len(x), len(y)) > 1 and (of_a or of_b):
        parts = np.array([(of_a or 0.0) / len(x), (of_b or 0.0) / len(y)])
        shares = parts / parts.sum()
        se, df = math.sqrt(parts.sum()), float(1 / (shares**2 / [len(x) - 1, len(y) - 1]).sum())
        t = mean / se
        p = float(2 * stats.t.sf(abs(t), df))
        half = float(stats.t.ppf((1 + confidence) / 2, df)) * se
        lo, hi = mean - half, mean + half
    return Welch(
        n=min(len(x), len(y)), n_a=len(x), n_b=len(y), mean=mean, mean_a=float(x.mean()), mean_b=float(y.mean()),
        welch_se=se, sd=None, floored=floored_a or floored_b, identical=False, t=t, df=df, p=p, lo=lo, hi=hi,
        confidence=confidence, d_z=None, rho=None, skewness=None, sign_flip_p=None, wins=0, losses=0, ties=0,
    )  # fmt: skip
