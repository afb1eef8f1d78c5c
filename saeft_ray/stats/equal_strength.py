"""Penalties compared where they moved the model equally far: the difference of two methods at equal KL.

An *arm* is a method run at several strengths. Its *reach* is the range of KL(frozen ‖ tuned) that these strengths got
to. All arms share one curve of accuracy over log KL, each with its own offset; two arms differ by their offsets. No
accuracy decides which run, arm, seed or range is used: only the KL does.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saeft_ray.stats.multiplicity import holm
from saeft_ray.stats.paired import MIN_PAIRS, Mean, Paired, mean_interval, paired, tost

Floats = NDArray[np.float64]
Pair = tuple[str, str]

MIN_STRENGTHS = 3
"""Fewest strengths (different KL) of an arm with one seed."""
DEGREE = 3
"""Of the curve in log KL, where the caller asks for no other."""

_LEAST_RESIDUALS = 3


class Reason(StrEnum):
    """Why there is no estimate. Where several seeds have several reasons, the most frequent one is told."""

    NOT_RUN = "not run with the same seed"
    TOO_FEW_STRENGTHS = "too few strengths"
    NO_COMMON_RANGE = "no common range"
    TOO_FEW_POINTS = "too few points"
    UNEQUAL_GRIDS = "unequal numbers of strengths"


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of arms at several strengths, in any order: (n,) each. `kl` is positive: where a run reached, in nats."""

    arm: NDArray[np.str_]
    seed: NDArray[np.int64]
    kl: Floats

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(np.unique(self.seed).tolist())


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Arm `a` less arm `b` over `seeds`: either a `comparison` or a `reason` why there is none."""

    a: str
    b: str
    comparison: Paired | None
    reason: Reason | None
    seeds: tuple[int, ...]
    left_out: Mapping[int, Reason]


@dataclass(frozen=True, kw_only=True)
class AtEqualStrength(Contrast):
    """A contrast at equal KL. `comparison.mean_a` and `.mean_b` are the arms' accuracies at the seed's mean log KL.

    `p_adjusted` is Holm's over all declared pairs. `equivalent_p` is that of "within ±margin", `equivalent_adjusted`
    Holm's; None without a margin. `common` is the range of KL that both arms cover (geometric mean over seeds of its
    ends). `slope` is how much faster a's accuracy grows with log KL than b's: where its interval leaves 0 out, the two
    curves are not parallel, and the difference is an average over the strengths that were run.
    """

    p_adjusted: float | None
    equivalent_p: float | None
    equivalent_adjusted: float | None
    common: tuple[float, float] | None
    slope: Mean | None


def runs(arm: Sequence[str], seed: ArrayLike, kl: ArrayLike) -> Runs:
    """Runs of (n,) names, seeds and KL. Raises ValueError for other shapes, or a KL that is not positive and finite."""
    names, seeds = np.asarray(arm, dtype=np.str_), np.asarray(seed, dtype=np.int64)
    reached = np.asarray(kl, dtype=np.float64)
    if names.ndim != 1 or not names.shape == seeds.shape == reached.shape:
        raise ValueError(f"arms {names.shape}, seeds {seeds.shape} and KL {reached.shape} are not rows of one length")
    if not (np.isfinite(reached) & (reached > 0)).all():
        raise ValueError("a strength is a positive, finite KL; leave out runs that equal the frozen model")
    return Runs(arm=names, seed=seeds, kl=reached)


def at_equal_strength(
    points: Runs, y: ArrayLike, pairs: Sequence[Pair], margin: float | None = None, confidence: float = 0.95,
    variance_floor: float = 0.0, degree: int = DEGREE,
) -> tuple[AtEqualStrength, ...]:  # fmt: skip
    """The difference in `y` (n,), an accuracy, at equal KL, of every one of `pairs`, in their order.

    Per seed, least squares of y = a_arm + b₁z + b₂z² + b₃z³ over the compared arms, z being the standardised log KL
    that was reached; D_s = a_A − a_B, then the paired t over seeds (docs/statistics.md 4.17). An arm counts with a seed
    where it has 3 strengths and shares a range with the arm that it is compared with, and a seed where it has at least
    6 runs (`degree` + 3) more than such arms. `variance_floor` is the least variance of one value of y (tick²/12). An
    estimate that changes with a `degree` of 5 had a curve that is no cubic (3.11). Raises ValueError for a pair of one
    arm.
    """
    values = _values(points, y)
    if degree < 1:
        raise ValueError(f"a curve has a degree of 1 or more, not {degree}")
    if twice := [a for a, b in pairs if a == b]:
        raise ValueError(f"{twice[0]} is not compared with itself")
    seeds = {seed: _fit(points, values, seed, pairs, degree) for seed in points.seeds}
    drafts = [_draft(pair, seeds, margin, confidence, variance_floor) for pair in pairs]
    p = _holm(drafts, [d.comparison.p if d.comparison else None for d in drafts])
    equivalent = _holm(drafts, [d.equivalent_p for d in drafts])
    return tuple(
        replace(d, p_adjusted=one, equivalent_adjusted=other)
        for d, one, other in zip(drafts, p, equivalent, strict=True)
    )


def contrast(a: str, b: str, reasons: Mapping[int, Reason | None], comparison: Paired | None) -> Contrast:
    """The contrast of which the seeds without a reason are used. One without seeds tells the most frequent reason."""
    left = {seed: reason for seed, reason in reasons.items() if reason}
    counts = Counter(left.values())
    most = max(Reason, key=lambda reason: counts[reason]) if counts else Reason.NOT_RUN
    used = tuple(seed for seed, reason in reasons.items() if reason is None)
    return Contrast(
        a=a, b=b, comparison=comparison, reason=None if comparison else most, seeds=used, left_out=left
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Seed:
    """One seed's fit: offsets by arm, and by pair why not, the weights' squares, the slope and the common range."""

    reasons: Mapping[Pair, Reason | None]
    offsets: Mapping[str, float]
    squares: Mapping[Pair, float]
    slopes: Mapping[Pair, float | None]
    common: Mapping[Pair, tuple[float, float]]


def _fit(points: Runs, y: Floats, seed: int, pairs: Sequence[Pair], degree: int) -> _Seed:
    here = points.seed == seed
    log = {arm: np.log(points.kl[here & (points.arm == arm)]) for arm in {arm for pair in pairs for arm in pair}}
    reasons = {pair: _refused(log[pair[0]], log[pair[1]]) for pair in pairs}
    arms = sorted({arm for pair, reason in reasons.items() if reason is None for arm in pair})
    used = here & np.isin(points.arm, arms)
    if used.sum() < len(arms) + degree + _LEAST_RESIDUALS:
        reasons = {pair: reason or Reason.TOO_FEW_POINTS for pair, reason in reasons.items()}
    fitted = [pair for pair, reason in reasons.items() if reason is None]
    if not fitted:
        return _Seed(reasons=reasons, offsets={}, squares={}, slopes={}, common={})
    z = np.log(points.kl[used])
    scale = float(z.std())
    z = (z - z.mean()) / scale
    belongs = (points.arm[used][:, None] == np.array(arms)).astype(float)
    design = np.hstack([belongs, z[:, None] ** np.arange(1, degree + 1)])
    weights = np.linalg.pinv(design)
    column = {arm: k for k, arm in enumerate(arms)}
    squares, slopes, common = {}, {}, {}
    for a, b in fitted:
        squares[a, b] = float(((weights[column[a]] - weights[column[b]]) ** 2).sum())
        own = belongs[:, [column[a], column[b]]] * z[:, None]
        slopes[a, b] = _slope(np.hstack([design, own]), y[used], scale)
        common[a, b] = max(log[a].min(), log[b].min()), min(log[a].max(), log[b].max())
    offsets = dict(zip(arms, (weights @ y[used]).tolist(), strict=False))
    return _Seed(reasons=reasons, offsets=offsets, squares=squares, slopes=slopes, common=common)


def _refused(a: Floats, b: Floats) -> Reason | None:
    """Why two arms that reached log KL `a` and `b` with one seed are not compared there."""
    if not len(a) or not len(b):
        return Reason.NOT_RUN
    if min(len(np.unique(a)), len(np.unique(b))) < MIN_STRENGTHS:
        return Reason.TOO_FEW_STRENGTHS
    return None if max(a.min(), b.min()) < min(a.max(), b.max()) else Reason.NO_COMMON_RANGE


def _slope(design: Floats, y: Floats, scale: float) -> float | None:
    """The last coefficient but one less the last, per unit of log KL; None where the runs do not determine it."""
    weights = np.linalg.pinv(design)
    of_two = np.zeros(design.shape[1])
    of_two[-2:] = 1, -1
    known = np.allclose(of_two @ weights @ design, of_two, atol=1e-6)
    return float(of_two @ weights @ y) / scale if known else None


def _draft(
    pair: Pair, fits: Mapping[int, _Seed], margin: float | None, confidence: float, floor: float
) -> AtEqualStrength:
    reasons = {seed: fit.reasons[pair] for seed, fit in fits.items()}
    used = [fit for fit in fits.values() if fit.reasons[pair] is None]
    comparison = common = slope = None
    if used:
        of_a, of_b = ([fit.offsets[arm] for fit in used] for arm in pair)
        least = floor * float(np.mean([fit.squares[pair] for fit in used]))
        comparison = paired(of_a, of_b, confidence, least)
        low, high = np.exp(np.mean([fit.common[pair] for fit in used], axis=0)).tolist()
        common = (low, high)
        slopes = [fit.slopes[pair] for fit in used]
        known = [s for s in slopes if s is not None]
        slope = mean_interval(known, confidence) if len(known) == len(slopes) else None
    within = tost(comparison, margin) if comparison and margin is not None else None
    got = contrast(*pair, reasons, comparison)
    return AtEqualStrength(
        **vars(got), p_adjusted=None, equivalent_p=within, equivalent_adjusted=None, common=common, slope=slope
    )


def _holm(drafts: Sequence[AtEqualStrength], p_values: Sequence[float | None]) -> list[float | None]:
    """Holm over all declared pairs: one that cannot be claimed takes its place in the family with p = 1."""
    claimable = [d.comparison is not None and d.comparison.n >= MIN_PAIRS for d in drafts]
    filled = [p if p is not None and can else 1.0 for p, can in zip(p_values, claimable, strict=True)]
    adjusted = holm(filled).tolist() if filled else []
    return [None if p is None else float(q) for p, q in zip(p_values, adjusted, strict=True)]


def _values(points: Runs, y: ArrayLike) -> Floats:
    values = np.asarray(y, dtype=np.float64)
    if values.shape != points.kl.shape or not np.isfinite(values).all():
        raise ValueError(f"needs {len(points.kl)} finite accuracies, one a run")
    return values
