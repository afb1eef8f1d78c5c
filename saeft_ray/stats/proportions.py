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
