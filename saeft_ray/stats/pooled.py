"""A t test that borrows the spread of all methods: randomised blocks, the seeds being the blocks."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LARGEST_RATIO = 2.0
"""Largest ratio of two methods' residual spreads at which borrowing keeps its error (docs/statistics.md 3.3)."""


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

    docs/statistics.md 4.5: t = D̄/√(2·MSE/S), MSE = Σ r²/((S − 1)(M − 1)), with (S − 1)(M − 1) degrees of freedom,
    where r is what seed and method means leave. `ratio` is the largest residual spread over the smallest. None where
    it exceeds 2 or nothing varies: then spreads must not be borrowed.
    """
    a, squares = _residuals(scores)
    s, m = a.shape
    df = (s - 1) * (m - 1)
    ratio = _ratio(a, squares)
    if ratio is None or ratio > LARGEST_RATIO:
        return None
    se = math.sqrt(2 * float(squares.sum()) / df / s)
    d = np.delete(a.mean(axis=0) - a[:, baseline].mean(), baseline)
    t = d / se
    return Pooled(
        differences=tuple(d.tolist()), t=tuple(t.tolist()), p=tuple((2 * stats.t.sf(np.abs(t), df)).tolist()),
        df=df, se=se, ratio=ratio,
    )  # fmt: skip


def residual_ratio(scores: ArrayLike) -> float | None:
    """The largest over the smallest residual spread of the methods in `scores` (S ≥ 2, M ≥ 2); None where one method
    has none."""
    return _ratio(*_residuals(scores))


def _residuals(scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scores, and by method the sum of squares of what seed and method means leave."""
    a = np.asarray(scores, dtype=np.float64)
    if a.ndim != 2 or min(a.shape) < 2 or not np.isfinite(a).all():
        raise ValueError("needs finite scores of shape (seeds ≥ 2, methods ≥ 2)")
    left = a - a.mean(axis=1, keepdims=True) - a.mean(axis=0) + a.mean()
    return a, (left**2).sum(axis=0)


def _ratio(a: NDArray[np.float64], squares: NDArray[np.float64]) -> float | None:
    if squares.min() <= (1e-12 * float(np.abs(a).max())) ** 2:
        return None
    return math.sqrt(squares.max() / squares.min())
