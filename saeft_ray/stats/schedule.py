"""Critical |t| values for a test that looks again after each new pair, exact for normal differences."""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.integrate import cumulative_simpson
from scipy.interpolate import PchipInterpolator
from scipy.special import expit, logit

_GRID = 801
_NODES = 24
# Few, for each costs an integration over all looks; 0.05 among them, so that p ≤ .05 is what crosses its boundary.
_LEVELS = np.sort(np.append(expit(np.linspace(logit(1e-5), logit(0.9), 11)), 0.05))


def spending(n: int, n_max: int, alpha: float) -> float:
    """The error that may be spent up to `n` of `n_max` pairs: α·n/N (docs/statistics.md 4.9)."""
    return alpha * n / n_max


@lru_cache(maxsize=512)
def boundaries(looks: tuple[int, ...], alpha: float = 0.05, n_max: int | None = None) -> tuple[float, ...]:
    """Two-sided critical |t| at each of `looks` (numbers of pairs ≥ 2, rising).

    Under equality |t| reaches them for the first time at a look with the probability that the spending adds there, so
    at any look with probability α·(last look)/n_max (docs/statistics.md 4.9).

    No simulation: with u = ΣD/√ΣD², what happened up to n − 1 pairs depends on the later ones through u alone. Given
    u at n pairs, the last difference is that of a uniform direction with a known sum, and `_survival` carries
    P(no crossing so far | u) from n − 1 to n by one integral.
    """
    if len(looks) == 0 or looks[0] < 2 or any(b <= a for a, b in itertools.pairwise(looks)):
        raise ValueError(f"looks are rising numbers of pairs, the first at least 2; found {looks}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, not at {alpha}")
    limit = n_max or looks[-1]
    found: list[float] = []
    # P(no crossing before n | u) on a grid of angles, u = √n·sin(angle); and the bound on u at n − 1.
    angles = np.linspace(0, math.pi / 2, _GRID)
    survival, bound, spent = np.ones(_GRID), math.inf, 0.0
    for n in range(looks[0], looks[-1] + 1):
        if n > looks[0]:
            survival = _survival(survival, bound, angles, n)
        bound = math.sqrt(n)
        if n in looks:
            step = spending(n, limit, alpha) - spent
            spent += step
            if not found:
                angle = math.atan(float(stats.t.ppf(1 - step / 2, n - 1)) / math.sqrt(n - 1))
            else:
                tail = np.log(np.maximum(_tail(survival, angles, n), 1e-300))
                angle = float(np.interp(-math.log(step), -tail, angles))
            bound *= math.sin(angle)
            found.append(math.tan(angle) * math.sqrt(n - 1))
    return tuple(found)


def _survival(before: NDArray[np.float64], bound: float, angles: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """P(no crossing at n − 1 pairs or earlier | u at n pairs), on the grid.

    The last of n unit-norm differences with sum u is x = u/n + √(1 − u²/n)·√((n−1)/n)·sin(ω), where ω has density
    ∝ cos(ω)^(n−3); before it stood u' = (u − x)/√(1 − x²), and |u'| < bound in one interval of x.
    """
    u = math.sqrt(n) * np.sin(angles)[:, None]
    spread = np.sqrt(np.maximum(1 - u * u / n, 0) * (n - 1) / n)
    root = bound * np.sqrt(np.maximum(1 + bound * bound - u * u, 0))
    ends = (u + np.array([-1.0, 1.0]) * root) / (1 + bound * bound)
    with np.errstate(divide="ignore", invalid="ignore"):
        limits = np.arcsin(np.clip(np.where(spread > 0, (ends - u / n) / spread, np.sign(ends - u / n)), -1, 1))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    middle, half = limits.mean(axis=1, keepdims=True), np.diff(limits, axis=1) / 2
    omega = middle + half * nodes
    x = u / n + spread * np.sin(omega)
    earlier = np.abs(u - x) / np.sqrt(np.maximum(1 - x * x, 1e-300))
    at = np.arcsin(np.clip(earlier / math.sqrt(n - 1), 0, 1))
    density = np.cos(omega) ** (n - 3) / _wallis(n - 3)
    values: NDArray[np.float64] = (np.interp(at, angles, before) * density * weights).sum(axis=1) * half[:, 0]
    return np.clip(values, 0, 1)


def _tail(survival: NDArray[np.float64], angles: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """P(|u| ≥ √n·sin(angle), no crossing before n) on the grid; the angle has density ∝ cos(angle)^(n−2)."""
    density = 2 * np.cos(angles) ** (n - 2) / _wallis(n - 2) * survival
    below = cumulative_simpson(density, x=angles, initial=0)
    tail: NDArray[np.float64] = np.maximum.accumulate((below[-1] - below)[::-1])[::-1]
    return tail


def _wallis(power: int) -> float:
    """∫ cos(x)^power dx over (−π/2, π/2)."""
    return math.sqrt(math.pi) * math.exp(math.lgamma((power + 1) / 2) - math.lgamma(power / 2 + 1))


@lru_cache(maxsize=64)
def _levels(looks: tuple[int, ...]) -> tuple[PchipInterpolator, ...]:
    """For each of `looks` the error level whose boundary is c there, as a function of c's own p at that one look.

    Both in logits, where they are almost a line.
    """
    table = np.array([boundaries(looks, float(alpha)) for alpha in _LEVELS])
    nominal = [_nominal(table[:, k], n) for k, n in enumerate(looks)]
    return tuple(PchipInterpolator(x, logit(_LEVELS), extrapolate=False) for x in nominal)


def _nominal(t: ArrayLike, n: int) -> NDArray[np.float64]:
    return np.asarray(logit(np.maximum(2 * stats.t.sf(np.asarray(t), n - 1), 1e-300)))


def sequential_p(t: ArrayLike, looks: Sequence[int], schedule: tuple[int, ...]) -> list[float]:
    """The sequential p after each of `looks`, at which the statistics were `t`: the smallest level at which the
    boundary of `schedule` was reached at that look or an earlier one (docs/statistics.md 4.10). It can only fall.

    Interpolated between levels from 1e-5 to 0.9, to 1 % of itself; beyond them it is 1e-5 or 1.
    """
    place = dict(zip(schedule, _levels(schedule), strict=True))
    out, least = [], 1.0
    for value, n in zip(np.abs(np.asarray(t, dtype=np.float64)), looks, strict=True):
        # No t is infinite: replay and report put a floor under the spread, or show none.
        nominal = float(_nominal(value, n))
        if nominal <= place[n].x[-1]:
            least = min(least, float(expit(place[n](max(nominal, place[n].x[0])))))
        out.append(least)
    return out
