"""Counts out of a known number."""

from scipy import stats


def clopper_pearson(successes: int, attempts: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """The exact binomial interval of a proportion; None without attempts."""
    if not 0 <= successes <= attempts:
        raise ValueError(f"{successes} of {attempts} is no proportion")
    if attempts == 0:
        return None
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, attempts - successes + 1))
    high = 1.0 if successes == attempts else float(stats.beta.ppf(1 - tail, successes + 1, attempts - successes))
    return low, high


def mcnemar(only_a: int, only_b: int, mid_p: bool = False) -> float:
    """Exact p that two checkpoints differ, from the items that one alone has right (docs/statistics.md 4.8).

    Twice the Bin(b + c, ½) tail, at most 1; `mid_p` counts half of the observed outcome. It speaks of these two
    checkpoints, never of the methods that made them.
    """
    if min(only_a, only_b) < 0:
        raise ValueError("counts are not negative")
    n, least = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0
    p = 2 * float(stats.binom.cdf(least, n, 0.5))
    if mid_p:
        p -= float(stats.binom.pmf(least, n, 0.5))
    return min(1.0, p)
