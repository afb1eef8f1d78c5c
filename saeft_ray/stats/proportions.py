"""Exact answers for counts out of a known number."""

from scipy import stats


def clopper_pearson(successes: int, attempts: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """The exact binomial interval of a proportion; None without attempts."""
    if not 0 <= successes <= attempts:
        raise ValueError(f"{successes} of {attempts} is not a proportion")
    if attempts == 0:
        return None
    found = stats.binomtest(successes, attempts).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact p that two checkpoints differ, from the items that one alone has right (docs/statistics.md 4.8).

    It is the sign test of `only_a` out of `only_a` + `only_b`. It speaks of these two checkpoints, never of the methods
    that made them.
    """
    if min(only_a, only_b) < 0:
        raise ValueError("counts are not negative")
    n = only_a + only_b
    return float(stats.binomtest(only_a, n).pvalue) if n else 1.0
