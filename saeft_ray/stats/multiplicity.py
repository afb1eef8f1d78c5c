"""Corrections for testing many hypotheses at once."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from saeft_ray.stats.paired import patterns

_ENUMERATE_UP_TO = 14
_RANDOM_FLIPS = 9_999


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p (m,) of `p_values` (m,): p₍ᵢ₎ = max over j ≤ i of min(1, (m − j + 1)·p₍ⱼ₎).

    Source: docs/statistics.md 4.4.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values are a row of numbers in [0, 1]")
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1.0, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    out = np.empty_like(p)
    out[order] = adjusted
    return out


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Benjamini and Hochberg's adjusted p (m,): p₍ᵢ₎ = min over j ≥ i of min(1, m·p₍ⱼ₎/j) (docs/statistics.md 4.4).

    It bounds the share of false discoveries, not the chance of any: for exploration alone.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values are a row of numbers in [0, 1]")
    return np.asarray(stats.false_discovery_control(p))


def max_t(differences: ArrayLike, generator: np.random.Generator | None = None) -> NDArray[np.float64]:
    """Step-down max-T adjusted p (H,) of `differences` (S seeds, H hypotheses), by flipping whole seeds.

    Flipping a seed flips all of its differences together, so whatever dependence the hypotheses have is kept. Exact up
    to 14 seeds; beyond, 9,999 random patterns of `generator` and the identity. The least p is 2^(1−S) for any H.
    Source: docs/statistics.md 4.3.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2 or d.shape[0] < 2 or not np.isfinite(d).all():
        raise ValueError("needs finite differences of shape (seeds ≥ 2, hypotheses)")
    s, h = d.shape
    if s <= _ENUMERATE_UP_TO:
        flips = patterns(np.arange(1 << (s - 1)), s)
    elif generator is None:
        raise ValueError(f"sign flips of {s} seeds are drawn, not listed: pass a generator")
    else:
        flips = np.vstack([np.ones((1, s)), generator.choice(np.array([-1.0, 1.0]), size=(_RANDOM_FLIPS, s))])
    t = _abs_t(flips @ d / s, (d * d).sum(axis=0), s)
    observed = t[0]
    order = np.argsort(-observed, kind="stable")
    # Column j: the largest |t| of the hypotheses ranked j or lower.
    largest = np.maximum.accumulate(t[:, order][:, ::-1], axis=1)[:, ::-1]
    p = np.maximum.accumulate((largest >= observed[order] * (1 - 1e-9)).mean(axis=0))
    out = np.empty(h)
    out[order] = p
    return out


def _abs_t(means: NDArray[np.float64], squares: NDArray[np.float64], s: int) -> NDArray[np.float64]:
    """|t| (patterns, H) from flipped means; ΣD² does not change under flips."""
    variance = (squares - s * means**2) / (s - 1)
    variance = np.where(variance <= 1e-12 * squares / s, 0.0, variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(means) / np.sqrt(variance / s)
    return np.where(np.isnan(t), 0.0, t)
