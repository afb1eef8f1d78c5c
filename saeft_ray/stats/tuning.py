"""The expected best score of a search's budget."""

import numpy as np
from numpy.typing import ArrayLike
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
