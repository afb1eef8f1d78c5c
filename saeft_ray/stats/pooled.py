"""A t test that borrows the spread of all methods: randomised blocks, the seeds being the blocks."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LARGEST_RATIO = 2.0
"""Largest ratio of two methods' residual spreads at which borrowing keeps its error (measured, STATISTICS 3.3)."""


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """The comparisons (M − 1,) of the other columns with the baseline's, in their order."""

    differences: tuple[float, ...]
    t: tuple[float, ...]
    p: tuple[float, ...]
    df: int
    se: float
    ratio: float


def pooled(scores: ArrayLike, baseline: int = 0) -> Pooled | None:
    """Every method of `scores` (S seeds, M methods) against column `baseline`, with one spread for all.

    STATISTICS 4.5: t = D̄/√(2·MSE/S), MSE = Σ r²/((S − 1)(M − 1)), with (S − 1)(M − 1) degrees of freedom, where r is
    what seed and method means leave. `ratio` is the largest residual spread over the smallest. None where it exceeds 2
    or nothing varies: then spreads must not be borrowed.
    """
    a = np.asarray(scores, dtype=np.float64)
    if a.ndim != 2 or min(a.shape) < 2 or not np.isfinite(a).all():
        raise ValueError("needs finite scores of shape (seeds ≥ 2, methods ≥ 2)")
    s, m = a.shape
    residuals = a - a.mean(axis=1, keepdims=True) - a.mean(axis=0) + a.mean()
    squares = (residuals**2).sum(axis=0)
    df = (s - 1) * (m - 1)
    scale = float(np.abs(a).max())
    if squares.min() <= (1e-12 * scale) ** 2:
        return None
    ratio = math.sqrt(squares.max() / squares.min())
    if ratio > LARGEST_RATIO:
        return None
    se = math.sqrt(2 * float(squares.sum()) / df / s)
    d = np.delete(a.mean(axis=0) - a[:, baseline].mean(), baseline)
    t = d / se
    return Pooled(
        differences=tuple(d.tolist()), t=tuple(t.tolist()), p=tuple((2 * stats.t.sf(np.abs(t), df)).tolist()),
        df=df, se=se, ratio=ratio,
    )  # fmt: skip
