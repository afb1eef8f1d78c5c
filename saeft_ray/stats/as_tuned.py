"""The choice of a configuration as a source of variance: the method *as tuned*, beside *this configuration*.

A search that is made again may choose another configuration. Which one is noise of the choice, and an interval of the
chosen configuration does not contain it. Here every seed of the confirm phase names its *choice*: a member of the tied
set, or one of several searches; what differs between choices widens the interval of the method as tuned.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from saeft_ray.stats.paired import Mean, Paired, finite, mean_interval, paired, spread

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class NoChoice(StrEnum):
    """Why the method as tuned has no interval."""

    ONE_CHOICE = "one choice tells nothing of how choices differ"
    NO_SPREAD = "no spread can be estimated"


@dataclass(frozen=True, kw_only=True)
class AsTuned:
    """The mean of a method as tuned. `by_choice` has the mean of each choice's seeds, by its label, ascending.

    `within` is the sd of seeds of one choice (None where each choice has one seed), `between` that of true means of
    choices, 0 where the seeds explain all of it. `lo`, `hi`, `df` and `se` are None where there is a `reason`.
    """

    n: int
    choices: int
    mean: float
    by_choice: dict[int, Mean]
    within: float | None
    between: float | None
    se: float | None
    df: int | None
    lo: float | None
    hi: float | None
    confidence: float
    reason: NoChoice | None


@dataclass(frozen=True, kw_only=True)
class TunedDifference(Paired):
    """Two methods as tuned, which reads like a paired comparison where the two are alike.

    `choices_a` and `choices_b` count the choices, 0 for a method that had nothing to choose. `df` is no whole number
    where both chose. `t`, `p`, `lo` and `hi` are None where there is a `reason`; `d_z` and `sign_flip_p` always, for
    seeds with the same choice are no independent pairs.
    """

    choices_a: int
    choices_b: int
    tuned_se: float | None
    reason: NoChoice | None

    @property
    def se(self) -> float | None:
        """Standard error of the mean difference, the choice's part included."""
        return self.tuned_se


def tied(scores: ArrayLike, se: float = 1.0, variance_floor: float = 0.0, to: int | None = None) -> tuple[int, ...]:
    """The configurations that the rerank cannot tell from configuration `to` (the best, unless given): those whose mean
    difference from it over paired seeds is at most `se` of its standard errors, on either side. That one is first, then
    by mean; equal means as first asked.

    `scores` is (configurations, seeds) of selection accuracies; one with a None or NaN failed and is never tied.
    `variance_floor` is the least variance of a difference (docs/statistics.md 5.2). With one seed a difference has no
    standard error, so that only equal scores are tied. Empty if every configuration failed.
    """
    a = np.asarray(scores, dtype=np.float64)
    if a.ndim != 2 or not a.shape[1] or not se >= 0:
        raise ValueError(
            "needs scores of shape (configurations, seeds ≥ 1) and a number of standard errors of 0 or more"
        )
    order = in_order(a)
    if to is not None:
        order = [to, *(k for k in order if k != to)] if to in order else []
    return tuple(k for k in order if _alike(a[order[0]] - a[k], se, variance_floor))


def in_order(scores: Floats) -> list[int]:
    """The configurations of `scores` that did not fail, best mean first; equal means as first asked."""
    means = scores.mean(axis=1)
    order: list[int] = np.argsort(-means, kind="stable").tolist()
    return [k for k in order if np.isfinite(means[k])]


def dealt(choices: int, seeds: int) -> tuple[int, ...]:
    """Which of so many choices each confirm seed uses: seed i takes choice i mod `choices`."""
    if choices < 1:
        raise ValueError("there is no choice to deal out")
    return tuple(i % choices for i in range(seeds))


def as_tuned(values: ArrayLike, choice: ArrayLike, confidence: float = 0.95) -> AsTuned:
    """The mean of `values` (n seeds,) with an interval for what other choices would give.

    `choice` (n,) says which member of the tied set, or which repeated search, each seed used. The mean is over seeds,
    so a choice has the weight w = its share of them. With s² the variance of the k choices' means and σ̂² that within
    choices, the variance of the mean is s²·Σw² + σ̂²/n, with k − 1 degrees of freedom (docs/statistics.md 4.18). s²·Σw²
    alone is unbiased; the second part is a margin for the few and skewed choices that a search makes (3.12).
    """
    x, labels = finite(values), _labels(choice)
    if len(x) != len(labels):
        raise ValueError(f"{len(x)} values and {len(labels)} choices are not one a seed")
    by = {k: mean_interval(x[labels == k], confidence) for k in np.unique(labels).tolist()}
    mean, within = float(x.mean()), _within(x, labels)
    parts = _part(x, labels)
    draft = AsTuned(
        n=len(x), choices=len(by), mean=mean, by_choice=by, within=None if within is None else math.sqrt(within),
        between=None, se=None, df=None, lo=None, hi=None, confidence=confidence, reason=NoChoice.ONE_CHOICE,
    )  # fmt: skip
    if parts is None:
        return draft
    between = max(0.0, parts.squares - (within or 0.0) * float(np.mean([1 / m.n for m in by.values()])))
    draft = replace(draft, between=math.sqrt(between))
    variance = parts.variance + (within or 0.0) / len(x)
    if not variance:
        return replace(draft, reason=NoChoice.NO_SPREAD)
    half = float(stats.t.ppf((1 + confidence) / 2, parts.df)) * math.sqrt(variance)
    return replace(draft, se=math.sqrt(variance), df=parts.df, lo=mean - half, hi=mean + half, reason=None)


def tuned_difference(
    a: ArrayLike, b: ArrayLike, choice_a: ArrayLike | None, choice_b: ArrayLike | None, confidence: float = 0.95
) -> TunedDifference:
    """Method `a` less method `b` (n seeds, paired), both as tuned; None for the choices of one that had none to make.

    The variance is the sum, over the methods that chose, of s²·Σw² of the differences grouped by the method's choice,
    and σ̂²/n; two methods whose choices change together are one group. Degrees of freedom by Satterthwaite, at least the
    smaller k − 1 (docs/statistics.md 4.18).
    """
    plain = paired(a, b, confidence)
    labels = [None if given is None else _labels(given) for given in (choice_a, choice_b)]
    if any(given is not None and len(given) != plain.n for given in labels):
        raise ValueError(f"{plain.n} pairs need {plain.n} choices of each method, one a seed")
    x = np.broadcast_to(finite(a), plain.n) - np.broadcast_to(finite(b), plain.n)
    factors = _factors([given for given in labels if given is not None])
    counts = [0 if given is None else len(np.unique(given)) for given in labels]
    draft = TunedDifference(
        **(vars(plain) | {"t": None, "df": None, "p": None, "lo": None, "hi": None, "d_z": None, "sign_flip_p": None}),
        choices_a=counts[0], choices_b=counts[1], tuned_se=None, reason=NoChoice.ONE_CHOICE,
    )  # fmt: skip
    if 1 in counts:
        return draft
    if not factors:
        told = replace(draft, t=plain.t, df=plain.df, p=plain.p, lo=plain.lo, hi=plain.hi, tuned_se=plain.se)
        return replace(told, reason=NoChoice.NO_SPREAD if plain.p is None else None)
    parts = [part for part in (_part(x, factor) for factor in factors) if part]
    between = sum(part.variance for part in parts)
    variance = (
        between + (_within(x, np.unique(np.column_stack(factors), axis=0, return_inverse=True)[1]) or 0) / plain.n
    )
    if not variance:
        return replace(draft, reason=NoChoice.NO_SPREAD)
    df = between**2 / sum(part.variance**2 / part.df for part in parts) if between else min(p.df for p in parts)
    se = math.sqrt(variance)
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * se
    t = plain.mean / se
    return replace(
        draft, t=t, df=df, p=float(2 * stats.t.sf(abs(t), df)), lo=plain.mean - half, hi=plain.mean + half,
        tuned_se=se, reason=None,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What the choices add: the variance of their means, and its part in the variance of the mean over seeds."""

    squares: float
    variance: float
    df: int


def _part(x: Floats, labels: Labels) -> _Part | None:
    kinds, counts = np.unique(labels, return_counts=True)
    if len(kinds) < 2:
        return None
    means = np.array([x[labels == kind].mean() for kind in kinds])
    squares = spread(means, 0)[0] or 0.0
    return _Part(squares=squares, variance=squares * float(((counts / len(x)) ** 2).sum()), df=len(kinds) - 1)


def _within(x: Floats, labels: Labels) -> float | None:
    """The pooled variance of seeds that share a choice; None where none do."""
    groups = [x[labels == kind] for kind in np.unique(labels)]
    df = len(x) - len(groups)
    return sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / df if df else None


def _factors(given: list[Labels]) -> list[Labels]:
    """The groupings of seeds that differ as groupings, whatever their labels."""
    if len(given) == 2:
        joint = len(np.unique(np.column_stack(given), axis=0))
        finer = max(given, key=lambda labels: len(np.unique(labels)))
        if joint == len(np.unique(finer)) == len(np.unique(given[0])) == len(np.unique(given[1])):
            return [finer]
    return given


def _labels(choice: ArrayLike) -> Labels:
    labels = np.asarray(choice, dtype=np.int64)
    if labels.ndim != 1:
        raise ValueError("choices are a row of numbers, one a seed")
    return labels


def _alike(differences: Floats, se: float, floor: float) -> bool:
    variance = spread(differences, floor)[0] or 0.0
    return abs(float(differences.mean())) <= se * math.sqrt(variance / len(differences)) + 1e-12
