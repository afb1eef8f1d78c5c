"""How close the second configuration was, and where an interval lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from saeft_ray.stats.as_tuned import in_order
from saeft_ray.stats.paired import spread

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class RunnerUp:
    """The configuration `second` to `best`, which leads by `lead`: the mean difference over paired seeds (negative
    where a rule prefers the less accurate one) and its standard error, None where there is none."""

    best: int
    second: int
    lead: float
    se: float | None


class Side(StrEnum):
    """Where an interval of a difference lies."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


def runner_up(scores: ArrayLike, variance_floor: float = 0.0, by: Sequence[int] | None = None) -> RunnerUp | None:
    """The second of `scores` (configurations, seeds), selection accuracies of the rerank, in the order `by` of a rule;
    by its mean over seeds unless given.

    One with a None or NaN failed. None where fewer than two finished. `variance_floor` as in `tied`.
    """
    a = np.asarray(scores, dtype=np.float64)
    if a.ndim != 2 or not a.shape[1]:
        raise ValueError("needs scores of shape (configurations, seeds ≥ 1)")
    order = in_order(a)
    order = [k for k in by if k in order] if by is not None else order
    if len(order) < 2:
        return None
    lead = a[order[0]] - a[order[1]]
    variance = spread(lead, variance_floor)[0]
    se = None if variance is None else math.sqrt(variance / len(lead))
    return RunnerUp(best=order[0], second=order[1], lead=float(lead.mean()), se=se)


def side(interval: Interval, margin: float | None = None) -> Side:
    """Where `interval` lies: off 0, else inside ±`margin`, else nowhere. For the package's verdict of equivalence
    ask with the 90 % interval (docs/statistics.md 4.14)."""
    low, high = interval
    if not low <= high:
        raise ValueError(f"({low}, {high}) is not an interval")
    if low > 0 or high < 0:
        return Side.BETTER if low > 0 else Side.WORSE
    return Side.EQUIVALENT if margin is not None and -margin < low and high < margin else Side.UNDECIDED
