"""The mean of a few values, and the mean of a few paired differences."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MIN_PAIRS = 3
"""Below this many pairs an interval may be shown, but nothing is claimed."""

_RELATIVE_ZERO = 1e-12
_ENUMERATE_UP_TO = 20
_RANDOM_FLIPS = 9_999


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean with its Student t interval. `sd`, `lo` and `hi` are None where one value gives no spread."""

    n: int
    mean: float
    sd: float | None
    lo: float | None
    hi: float | None
    confidence: float

    @property
    def half_width(self) -> float | None:
        """Half the interval's width."""
        return None if self.lo is None or self.hi is None else (self.hi - self.lo) / 2


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A paired comparison of `a` against `b`; differences are a − b.

    `sd` is the spread of the differences after the floor, `floored` says whether the floor acted. `t`, `p`, `lo` and
    `hi` are None where no spread can be estimated: one pair, or differences that are all equal on test sets of unknown
    size. `rho` correlates a with b (None if either is constant or n < 3), `skewness` is the moment coefficient g1 of
    the differences, `sign_flip_p` the exact companion of `p`.
    """

    n: int
    mean: float
    mean_a: float
    mean_b: float
    sd: float | None
    floored: bool
    identical: bool
    t: float | None
    df: float | None
    p: float | None
    lo: float | None
    hi: float | None
    confidence: float
    d_z: float | None
    rho: float | None
    skewness: float | None
    sign_flip_p: float | None
    wins: int
    losses: int
    ties: int

    @property
    def se(self) -> float | None:
        """Standard error of the mean difference."""
        return None if self.sd is None else self.sd / math.sqrt(self.n)

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """The t interval at another confidence; None where there is none."""
        if self.se is None or self.df is None:
            return None
        half = float(stats.t.ppf((1 + confidence) / 2, self.df)) * self.se
        return self.mean - half, self.mean + half


def mean_interval(values: ArrayLike, confidence: float = 0.95, variance_floor: float = 0.0) -> Mean:
    """Mean of `values` (n,) with the t interval of n − 1 degrees of freedom.

    `variance_floor` is the least variance that the values can have been measured with (tick²/12 for a count out of
    1/tick examples), so that equal values do not pose as certainty.
    """
    x = finite(values)
    n, mean = len(x), float(x.mean())
    variance = spread(x, variance_floor)[0]
    if variance is None:
        return Mean(n=n, mean=mean, sd=None, lo=None, hi=None, confidence=confidence)
    sd = math.sqrt(variance)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return Mean(n=n, mean=mean, sd=sd, lo=mean - half, hi=mean + half, confidence=confidence)


def paired(a: ArrayLike, b: ArrayLike, confidence: float = 0.95, variance_floor: float = 0.0) -> Paired:
    """Compare `a` (n,) with `b` (n,), paired by position; a `b` of one value is a constant without variance.

    Paired t test: t = D̄√n/s, p = 2·T₍ₙ₋₁₎(−|t|), interval D̄ ± t₍₁₋α⁄₂,ₙ₋₁₎·s/√n (docs/statistics.md 4.1).
    `variance_floor` is the least variance of a difference: tick²/6 for one test set, Σ w²·tick²/6 for a weighted mean
    of several (docs/statistics.md 5.2).
    """
    x, y = finite(a), finite(b)
    if len(y) == 1:
        y = np.full(len(x), y[0])
    elif len(x) == 1:
        x = np.full(len(y), x[0])
    if len(x) != len(y):
        raise ValueError(f"{len(x)} values cannot be paired with {len(y)}")
    d = x - y
    n, mean = len(d), float(d.mean())
    scale = float(max(np.abs(x).max(), np.abs(y).max(), np.finfo(float).tiny))
    sign = np.where(np.abs(d) <= _RELATIVE_ZERO * scale, 0.0, np.sign(d))
    identical = not sign.any()
    variance, floored = spread(d, variance_floor)
    t = df = p = lo = hi = sd = d_z = None
    if variance is not None or (identical and n > 1):
        sd, df = math.sqrt(variance or 0.0), n - 1
        if identical:
            t, p, mean = 0.0, 1.0, 0.0
        else:
            t = mean * math.sqrt(n) / sd
            p = float(2 * stats.t.sf(abs(t), df))
            d_z = mean / sd
        half = float(stats.t.ppf((1 + confidence) / 2, df)) * sd / math.sqrt(n)
        lo, hi = mean - half, mean + half
    return Paired(
        n=n, mean=mean, mean_a=float(x.mean()), mean_b=float(y.mean()), sd=sd, floored=floored, identical=identical,
        t=t, df=df, p=p, lo=lo, hi=hi, confidence=confidence, d_z=d_z, rho=_rho(x, y), skewness=_skewness(d),
        sign_flip_p=sign_flip(d) if 1 < n <= _ENUMERATE_UP_TO else None,
        wins=int((sign > 0).sum()), losses=int((sign < 0).sum()), ties=int((sign == 0).sum()),
    )  # fmt: skip


def sign_flip(differences: ArrayLike, generator: np.random.Generator | None = None) -> float:
    """Two-sided sign-flip p of `differences` (n,): the share of sign patterns with a sum as far from 0.

    Exact up to n = 20, where its least value is 2^(1−n). Beyond, 9,999 random patterns of `generator` and the identity.
    Source: docs/statistics.md 4.2.
    """
    d = finite(differences)
    n, total, size = len(d), abs(float(d.sum())), float(np.abs(d).sum())
    # Patterns that reach the same sum by another order of additions count as ties.
    least = total - max(1e-9 * total, _RELATIVE_ZERO * size)
    if least <= 0:
        return 1.0
    if n <= _ENUMERATE_UP_TO:
        # Sums of the first half's patterns (its first sign is +1) against sorted sums of the second half's.
        middle = (n + 1) // 2
        left, right = d[0] + _signed_sums(d[1:middle]), np.sort(_signed_sums(d[middle:]))
        above = len(right) - np.searchsorted(right, least - left, side="left")
        below = np.searchsorted(right, -least - left, side="right")
        return float((above + below).sum()) / (1 << (n - 1))
    if generator is None:
        raise ValueError(f"sign flips of {n} differences are drawn, not listed: pass a generator")
    flips = generator.choice(np.array([-1.0, 1.0]), size=(_RANDOM_FLIPS, n))
    return (1 + int((np.abs(flips @ d) >= least).sum())) / (_RANDOM_FLIPS + 1)


def _signed_sums(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ ±d for all 2^len(d) sign patterns."""
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def patterns(codes: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Sign patterns (len(codes), n) of ±1 with the first sign +1; bit j of a code flips sign j + 1."""
    bits = (codes[:, None] >> np.arange(n - 1)) & 1
    return np.hstack([np.ones((len(codes), 1)), 1.0 - 2.0 * bits])


def tost(comparison: Paired, margin: float) -> float | None:
    """p of "the mean difference lies within ±`margin`": the larger of two one-sided t tests (docs/statistics.md 4.14).

    Below α exactly when the 1 − 2α interval lies inside (−margin, margin). None where there is no standard error.
    """
    if not margin > 0:
        raise ValueError(f"a margin is a positive number, not {margin}")
    se, df = comparison.se, comparison.df
    if se is None or df is None:
        return None
    if se == 0:
        return 0.0 if abs(comparison.mean) < margin else 1.0
    above = float(stats.t.sf((comparison.mean + margin) / se, df))
    below = float(stats.t.cdf((comparison.mean - margin) / se, df))
    return max(above, below)


def against_published(values: ArrayLike, number: float, runs: int = 1, confidence: float = 0.95) -> Paired:
    """`values` (n ≥ 2,) against a published `number` that is the mean of `runs` runs, 1 where unstated.

    The standard error is s·√(1/n + 1/k) with n − 1 degrees of freedom: the published method is taken to vary like this
    one (docs/statistics.md 3.9). Without the 1/k an equal method "differs" up to half of the time.
    """
    got = paired(values, [number], confidence)
    if got.sd is None or got.df is None or got.identical or runs < 1:
        return got
    se = got.sd * math.sqrt(1 / got.n + 1 / runs)
    t = got.mean / se
    half = float(stats.t.ppf((1 + confidence) / 2, got.df)) * se
    p = float(2 * stats.t.sf(abs(t), got.df))
    return replace(got, t=t, p=p, lo=got.mean - half, hi=got.mean + half, sign_flip_p=None)


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """`values` as a row of numbers; raises ValueError for none, or others."""
    x = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("needs a non-empty row of finite numbers")
    return x


def spread(x: NDArray[np.float64], floor: float) -> tuple[float | None, bool]:
    """Sample variance, at least `floor`, and whether the floor acted; None where neither gives a spread."""
    if len(x) < 2:
        return None, False
    variance = float(x.var(ddof=1))
    # Equal fractions differ in their last bit after averaging; that does not count as spread.
    if math.sqrt(variance) <= _RELATIVE_ZERO * max(1.0, float(np.abs(x).max())):
        variance = 0.0
    if variance < floor:
        return floor, True
    return (variance, False) if variance > 0 else (None, False)


def _rho(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    if len(x) < MIN_PAIRS or spread(x, 0)[0] is None or spread(y, 0)[0] is None:
        return None
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def _skewness(d: NDArray[np.float64]) -> float | None:
    if len(d) < MIN_PAIRS or spread(d, 0)[0] is None:
        return None
    return float(stats.skew(d))
