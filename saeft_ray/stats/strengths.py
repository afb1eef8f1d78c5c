"""Beside a comparison at equal strength: one curve or not, the reach of arms, equal lambdas, the area above a point."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saeft_ray.stats.equal_strength import Contrast, Pair, Reason, Runs, contrast
from saeft_ray.stats.paired import Paired, paired
from saeft_ray.stats.robustness import hypervolume


@dataclass(frozen=True, kw_only=True)
class OneCurve:
    """How well one curve of log KL fits the runs of all arms: `r2` within seeds, and the spread around the curve."""

    n: int
    r2: float
    residual_sd: float


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The least and the greatest KL that any of the arm's runs reached, and the number of its runs."""

    runs: int
    least: float
    greatest: float


def one_curve(points: Runs, y: ArrayLike) -> OneCurve | None:
    """The fit of y (n,) = intercept of the seed + b₁z + b₂z² + b₃z³, z being the standardised log KL, to all `points`.

    R² = 1 − Σ r²/Σ (y − mean of the seed)²; the residual sd is √(Σ r²/(n − seeds − 3)). A high R² says that strength
    explains y, whatever the arm. None where nothing is left to tell: too few runs, one KL, or y that varies in no seed.
    """
    values, log = np.asarray(y, dtype=np.float64), np.log(points.kl)
    seeds = np.array(points.seeds)
    df = len(log) - len(seeds) - 3
    if values.shape != log.shape or not np.isfinite(values).all():
        raise ValueError(f"needs {len(log)} finite accuracies, one a run")
    if df < 1 or np.ptp(log) == 0:
        return None
    z = (log - log.mean()) / log.std()
    intercepts = (points.seed[:, None] == seeds).astype(float)
    within = values - intercepts @ ((intercepts.T @ values) / intercepts.sum(axis=0))
    design = np.hstack([intercepts, z[:, None] ** np.arange(1, 4)])
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    total, rest = float(within @ within), float(left @ left)
    if total <= 1e-24 * float(values @ values):
        return None
    return OneCurve(n=len(log), r2=1 - rest / total, residual_sd=math.sqrt(rest / df))


def reach(points: Runs) -> dict[str, Reach]:
    """The reach of every arm."""
    of = {arm: points.kl[points.arm == arm] for arm in np.unique(points.arm).tolist()}
    return {arm: Reach(runs=len(kl), least=float(kl.min()), greatest=float(kl.max())) for arm, kl in of.items()}


def at_equal_lambda(
    arm: Sequence[str], seed: ArrayLike, scale: ArrayLike, y: ArrayLike, pair: Pair, confidence: float = 0.95
) -> dict[float, Paired]:
    """The paired difference of `pair` at each `scale` (n,), the common factor of an arm's lambdas, that both have run.

    Described and not tested: one lambda is another strength for every penalty. A seed with two runs of an arm at one
    scale counts with their mean.
    """
    names, seeds = np.asarray(arm, dtype=np.str_), np.asarray(seed, dtype=np.int64)
    scales, values = np.asarray(scale, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not names.shape == seeds.shape == scales.shape == values.shape or not np.isfinite(values).all():
        raise ValueError("arms, seeds, scales and finite accuracies are rows of one length")
    found = {}
    for at in np.unique(scales).tolist():
        of_a, of_b = (_by_seed(seeds, values, (names == arm) & (scales == at)) for arm in pair)
        common = sorted(of_a.keys() & of_b.keys())
        if common:
            found[at] = paired([of_a[s] for s in common], [of_b[s] for s in common], confidence)
    return found


def hypervolume_difference(
    points: Runs, identity: ArrayLike, shifted: ArrayLike, reference: Mapping[int, tuple[float, float]], pair: Pair,
    confidence: float = 0.95,
) -> Contrast:  # fmt: skip
    """The difference of the areas that the two arms' (ID, OOD) accuracies dominate above `reference`, paired by seed.

    `reference` gives for each seed the frozen model's ID and plain fine-tuning's OOD accuracy. The area rewards dense
    grids, so seeds count in which both arms ran equally many strengths (docs/statistics.md 4.15).
    """
    both = np.column_stack([np.asarray(identity, dtype=np.float64), np.asarray(shifted, dtype=np.float64)])
    if both.shape != (len(points.kl), 2) or not np.isfinite(both).all():
        raise ValueError(f"needs {len(points.kl)} finite ID and OOD accuracies, one a run")
    reasons: dict[int, Reason | None] = {}
    areas: list[tuple[float, float]] = []
    for seed in points.seeds:
        of_a, of_b = (both[(points.seed == seed) & (points.arm == arm)] for arm in pair)
        if not len(of_a) or not len(of_b) or seed not in reference:
            reasons[seed] = Reason.NOT_RUN
        elif len(of_a) != len(of_b):
            reasons[seed] = Reason.UNEQUAL_GRIDS
        else:
            reasons[seed] = None
            areas.append((hypervolume(of_a, reference[seed]), hypervolume(of_b, reference[seed])))
    comparison = paired([a for a, _ in areas], [b for _, b in areas], confidence) if areas else None
    return contrast(*pair, reasons, comparison)


def _by_seed(seeds: NDArray[np.int64], values: NDArray[np.float64], which: NDArray[np.bool_]) -> dict[int, float]:
    seed, value = seeds[which], values[which]
    return {s: float(value[seed == s].mean()) for s in np.unique(seed).tolist()}
