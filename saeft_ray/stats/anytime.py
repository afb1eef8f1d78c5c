"""Evidence that may be looked at after every pair and without an end: a t e-process and its confidence sequence.

Both follow Wang & Ramdas (arXiv 2310.03722): the standardised difference has a normal prior of variance `g`, and the
spread is integrated out, so nothing depends on the unit of measurement (docs/statistics.md 4.13).
"""

import math

PRIOR = 1.0
"""g: with 1 the first possible rejection at 5 % comes with five pairs, with 10 at three."""

_HUGE = 1e12


def e_value(t: float, n: int, g: float = PRIOR) -> float:
    """E_n = (1 + ng)^(−½)·[(1 + t²/ν)/(1 + t²/(ν(1 + ng)))]^(n/2), ν = n − 1; equality is rejected at 1/α or more."""
    if n < 2:
        return 1.0
    squared, growth = min(t * t / (n - 1), _HUGE), 1 + n * g
    return math.exp(-0.5 * math.log(growth) + 0.5 * n * (math.log1p(squared) - math.log1p(squared / growth)))


def critical(n: int, alpha: float = 0.05, g: float = PRIOR) -> float:
    """The |t| at which the e-value of `n` pairs is 1/`alpha`: mean ± critical·s/√n covers at all n at once with
    probability 1 − α. Infinite while n is too small."""
    if n < 2:
        return math.inf
    growth = 1 + n * g
    c = math.exp(2 / n * (0.5 * math.log(growth) - math.log(alpha)))
    return math.sqrt((n - 1) * (c - 1) * growth / (growth - c)) if c < growth else math.inf
