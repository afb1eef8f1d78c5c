"""What a search is worth: the expected best of a budget, and how optimistic the best score is."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, stats
from scipy.special import gammaln


def expected_best(scores: ArrayLike, budget: int) -> float:
    """The expected maximum of `budget` of the N `scores`, drawn without replacement (docs/statistics.md 4.15).

    Σ v₍ᵢ₎·[C(i, b) − C(i − 1, b)]/C(N, b) over the sorted scores. Valid for random search, where order does not matter.
    Raises ValueError for a budget beyond N, of which the scores know nothing.
    """
    v = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(v)
    if not 1 <= budget <= n:
        raise ValueError(f"a budget of {budget} out of {n} trials: give one from 1 to {n}")
    i = np.arange(budget, n + 1)
    # C(i, b) − C(i − 1, b) = C(i − 1, b − 1).
    log = gammaln(i) - gammaln(budget) - gammaln(i - budget + 1)
    log -= gammaln(n + 1) - gammaln(budget + 1) - gammaln(n - budget + 1)
    return float(np.exp(log) @ v[budget - 1 :])


def largest_of(m: int) -> float:
    """The expected maximum of `m` standard normal values."""
    if m == 1:
        return 0.0
    value, _ = integrate.quad(
        lambda x: x * m * math.exp(stats.norm.logpdf(x) + (m - 1) * stats.norm.logcdf(x)), -9, 9, limit=200
    )
    return float(value)


def optimism(configurations: int, seeds: int, sd_seed: float, sd_quality: float) -> float:
    """By how much the best mean of `configurations`, each over its own `seeds`, exceeds that configuration's true value
    on average: (σ²/k)/√(τ² + σ²/k)·E[max of m normals] (docs/statistics.md 3.5)."""
    noise = sd_seed**2 / seeds
    total = sd_quality**2 + noise
    return noise / math.sqrt(total) * largest_of(configurations) if total > 0 else 0.0
