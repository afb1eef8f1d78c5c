"""Two sources of variance at once: every seed is scored on the same items, so seeds × items is a crossed layout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A mean difference with its interval for new seeds *and* new items.

    `seed_variance` and `item_variance` are the parts of the variance of the mean that more seeds and more items shrink.
    """

    seeds: int
    items: int
    mean: float
    variance: float
    df: float
    lo: float
    hi: float
    confidence: float
    ms_seed: float | None
    ms_item: float | None
    ms_error: float | None
    seed_variance: float
    item_variance: float


def crossed(differences: ArrayLike, confidence: float = 0.95) -> Crossed:
    """The crossed analysis of `differences` (S ≥ 2 seeds, N ≥ 2 items), each in {−1, 0, 1} (docs/statistics.md 4.7).

    Var(D̄) = (MS_s + MS_i − MS_e)/(SN), at least max(MS_s, MS_i)/(SN), with Satterthwaite's degrees of freedom, at least
    S − 1.
    """
    d = _matrix(differences)
    s, n = d.shape
    ms_s, ms_i, ms_e = _mean_squares(d)
    variance = max(ms_s + ms_i - ms_e, ms_s, ms_i) / (s * n)
    spread = ms_s**2 / (s - 1) + ms_i**2 / (n - 1) + ms_e**2 / ((s - 1) * (n - 1))
    df = max((ms_s + ms_i - ms_e) ** 2 / spread, s - 1.0) if spread > 0 else s - 1.0
    mean = float(d.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * math.sqrt(variance)
    return Crossed(
        seeds=s, items=n, mean=mean, variance=variance, df=df, lo=mean - half, hi=mean + half, confidence=confidence,
        ms_seed=ms_s, ms_item=ms_i, ms_error=ms_e,
        seed_variance=ms_s / (s * n), item_variance=max(0.0, ms_i - ms_e) / (s * n),
    )  # fmt: skip


def crossed_mean(
    differences: Sequence[ArrayLike], weights: Sequence[float], confidence: float = 0.95, variance_floor: float = 0.0
) -> Crossed:
    """The same for a weighted mean of K test sets: `differences` holds (S, N_k) arrays of the same S ≥ 2 seeds.

    Var = s²/S + Σ w_k²·max(0, MS_i,k − MS_e,k)/(S·N_k), where s² is the variance over seeds of the weighted mean, at
    least `variance_floor` (4.7). The degrees of freedom are Satterthwaite's over these parts, at least S − 1.
    """
    sets = [_matrix(d) for d in differences]
    s = sets[0].shape[0]
    if any(d.shape[0] != s for d in sets) or len(sets) != len(weights):
        raise ValueError("every test set needs the same seeds and one weight")
    by_seed = sum((w * d.mean(axis=1, dtype=np.float64) for w, d in zip(weights, sets, strict=True)), np.zeros(s))
    seed_part = max(float(by_seed.var(ddof=1)), variance_floor) / s
    item_part, spread = 0.0, seed_part**2 / (s - 1)
    for w, d in zip(weights, sets, strict=True):
        n = d.shape[1]
        _, ms_i, ms_e = _mean_squares(d)
        scale = w**2 / (s * n)
        item_part += scale * max(0.0, ms_i - ms_e)
        if ms_i > ms_e:
            spread += scale**2 * (ms_i**2 / (n - 1) + ms_e**2 / ((s - 1) * (n - 1)))
    variance = seed_part + item_part
    df = max(variance**2 / spread, s - 1.0) if spread > 0 else s - 1.0
    mean = float(by_seed.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * math.sqrt(variance)
    return Crossed(
        seeds=s, items=sum(d.shape[1] for d in sets), mean=mean, variance=variance, df=df, lo=mean - half,
        hi=mean + half, confidence=confidence, ms_seed=None, ms_item=None, ms_error=None,
        seed_variance=seed_part, item_variance=item_part,
    )  # fmt: skip


def seeds_until_items_dominate(analysis: Crossed) -> int | None:
    """The number of seeds after which the seeds' standard error is at most half the items'; None if items add none."""
    if analysis.item_variance <= 0:
        return None
    needed = 4 * analysis.seed_variance * analysis.seeds / analysis.item_variance
    return max(2, math.ceil(needed * (1 - 1e-12)))


def _matrix(differences: ArrayLike) -> NDArray[Any]:
    d = np.asarray(differences)
    if d.ndim != 2 or min(d.shape) < 2 or not np.isfinite(d).all():
        raise ValueError("needs finite differences of shape (seeds ≥ 2, items ≥ 2)")
    return d


def _mean_squares(d: NDArray[Any]) -> tuple[float, float, float]:
    """Mean squares of seeds, items and the rest, from sums alone: int8 input is never widened to a float matrix."""
    s, n = d.shape
    whole = d.dtype.kind in "iu"
    by_seed = d.sum(axis=1, dtype=np.int64 if whole else np.float64) / n
    by_item = d.sum(axis=0, dtype=np.int32 if whole else np.float64) / s
    small = d.dtype == np.int8 and abs(d).max(initial=0) <= 1
    squares = float(np.count_nonzero(d)) if small else float((d.astype(np.float64) ** 2).sum())
    mean = float(by_seed.mean())
    ss_s = n * float(((by_seed - mean) ** 2).sum())
    ss_i = s * float(((by_item - mean) ** 2).sum())
    ss_e = max(0.0, squares - s * n * mean**2 - ss_s - ss_i)
    return ss_s / (s - 1), ss_i / (n - 1), ss_e / ((s - 1) * (n - 1))
