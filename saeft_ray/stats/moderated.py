"""Tests of many quantities on few seeds: a t whose variances are shrunk to each other, against a least change.

Shapes: S seeds, F features. Sources: Smyth (2004) for the moderation, McCarthy and Smyth (2009) for the least change.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Floats = NDArray[np.float64]
_FEW = 10  # below so many features, there is nothing to borrow from
_TINY = np.finfo(np.float64).tiny


class Moderated(NamedTuple):
    mean: Floats  # (F,)
    se: Floats  # (F,) after moderation
    df: float  # of the t: residual and prior
    df_prior: float
    p: Floats  # (F,) two-sided
    lo: Floats  # (F,) interval, not adjusted for the number of features
    hi: Floats


def moderated(
    differences: ArrayLike, least: float = 0.0, confidence: float = 0.95, borrow: bool = True
) -> Moderated | None:
    """Tests |E d| > `least` of each column of `differences` (S, F), paired over seeds. Without `borrow`, or with fewer
    than 10 features, the plain t. None if there are fewer than two seeds, no features, or nothing varies over seeds:
    then nothing can be tested. Raises ValueError for numbers that are not finite."""
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2 or not np.isfinite(d).all() or least < 0:
        raise ValueError("needs finite differences of shape (seeds, features), and a least change of 0 or more")
    seeds, features = d.shape
    if seeds < 2 or not features:
        return None
    mean, variance = d.mean(0), d.var(0, ddof=1)
    variance[variance <= 1e-24 * np.square(d).mean(0)] = 0  # rounding
    if not variance.any():
        return None
    df, df_prior, post = seeds - 1, 0.0, variance
    if borrow and features >= _FEW:
        centre, df_prior = prior(variance, df)
        post = np.full(features, centre) if np.isinf(df_prior) else _shrunk(variance, df, centre, df_prior)
    total = min(df_prior + df, df * features)
    se = np.sqrt(np.maximum(post, _TINY) / seeds)
    p = stats.t.sf((np.abs(mean) - least) / se, total) + stats.t.sf((np.abs(mean) + least) / se, total)
    half = stats.t.ppf((1 + confidence) / 2, total) * se
    return Moderated(mean, se, total, df_prior, np.clip(p, 0, 1), mean - half, mean + half)


def prior(variance: Floats, df: int) -> tuple[float, float]:
    """The centre and the degrees of freedom, perhaps infinite, of the scaled F that sample variances (F,) of `df` each
    follow (Smyth 2004, section 6.2)."""
    positive = variance[variance > 0]
    log = np.log(np.maximum(positive, 1e-5 * np.median(positive)))
    e = log - special.digamma(df / 2) + np.log(df / 2)
    excess = e.var(ddof=1) - special.polygamma(1, df / 2) if len(e) > 1 else 0.0
    if excess <= 0:
        return float(np.exp(e.mean())), float("inf")
    df_prior = 2 * trigamma_inverse(float(excess))
    return float(np.exp(e.mean() + special.digamma(df_prior / 2) - np.log(df_prior / 2))), df_prior


def trigamma_inverse(x: float) -> float:
    """The y > 0 whose trigamma is `x` > 0, by Newton's iteration (Smyth 2004, appendix)."""
    if x > 1e7:
        return float(1 / np.sqrt(x))
    if x < 1e-6:
        return 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        slope = special.polygamma(1, y)
        step = float(slope * (1 - slope / x) / special.polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y


def _shrunk(variance: Floats, df: int, centre: float, df_prior: float) -> Floats:
    found: Floats = (df_prior * centre + df * variance) / (df_prior + df)
    return found
