"""Planning: what a number of pairs can detect, and how many pairs a difference needs."""

import math
from functools import lru_cache

import numpy as np
from scipy import stats

_LARGEST_N = 10_000
# Correlation above which pairing pays for the degrees of freedom that it loses (measured, docs/statistics.md 3.4).
_BREAK_EVEN = ((3, 0.56), (4, 0.37), (5, 0.27), (8, 0.15), (10, 0.11))


def power(d: float, n: int, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t test with `n` pairs at a standardised difference `d` = mean/sd.

    1 − F(t*) + F(−t*) of the noncentral t with n − 1 degrees of freedom and noncentrality d√n (docs/statistics.md 4.6).
    """
    if n < 2:
        return 0.0
    critical, shift = float(stats.t.ppf(1 - alpha / 2, n - 1)), abs(d) * math.sqrt(n)
    if shift > 35:
        # The noncentral t underflows to NaN here, where the power has long been 1.
        return 1.0
    value = float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))
    return min(1.0, value) if math.isfinite(value) else 1.0


def smallest_n(d: float, target: float = 0.8, alpha: float = 0.05) -> int | None:
    """The fewest pairs with power ≥ `target` at `d`; None beyond 10,000."""
    low, high = 1, 2
    while power(d, high, alpha) < target:
        low, high = high, 2 * high
        if high > 2 * _LARGEST_N:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(d, middle, alpha) >= target else (middle, high)
    return high if high <= _LARGEST_N else None


@lru_cache(maxsize=1024)
def detectable(n: int, target: float = 0.8, alpha: float = 0.05) -> float | None:
    """The least standardised difference that `n` pairs detect with power `target`; None for n < 2."""
    if n < 2:
        return None
    low, high = 0.0, 1.0
    while power(high, n, alpha) < target:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, n, alpha) >= target else (middle, high)
    return high


def sd_range(sd: float, n: int, confidence: float = 0.8) -> tuple[float, float]:
    """The χ² interval of a standard deviation `sd` that was estimated from `n` ≥ 2 values."""
    tail = (1 - confidence) / 2
    high, low = stats.chi2.ppf([tail, 1 - tail], n - 1)
    return sd * math.sqrt((n - 1) / low), sd * math.sqrt((n - 1) / high)


def break_even_rho(n: int) -> float:
    """The correlation of two methods over seeds below which `n` pairs would have been as good unpaired."""
    known, values = zip(*_BREAK_EVEN, strict=True)
    if n > known[-1]:
        return values[-1] * known[-1] / n
    return float(np.interp(n, known, values))
