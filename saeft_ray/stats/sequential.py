"""Comparisons that continue until they are decided: looks at a growing number of pairs, with one error level over all.

`replay` is a function of the differences alone, so whoever has them can take every look again and must come to the same
decisions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saeft_ray.stats.anytime import critical, e_value
from saeft_ray.stats.paired import MIN_PAIRS, spread
from saeft_ray.stats.schedule import boundaries, sequential_p, spending

Engine = Literal["t", "exact", "anytime"]
Decision = Literal["better", "worse", "equivalent", "undecided"]
_RANDOM_PATHS = 1_999


@dataclass(frozen=True, kw_only=True)
class Design:
    """The rule that is fixed before the first pair: a look after each pair from `first` to `last`, the engine, the
    error level over all looks and all `size` hypotheses of the family, the margin of equivalence, and the seed of the
    sign paths.
    """

    first: int
    last: int
    size: int
    engine: Engine = "t"
    alpha: float = 0.05
    margin: float | None = None
    seed: int = 0

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of pairs at which a look is taken."""
        return tuple(range(self.first, self.last + 1))

    def critical(self, n: int, alpha: float) -> float:
        """The |t| that decides at `n` complete pairs and error `alpha`; for the engine `exact` that of `t`, which then
        serves the interval alone. Infinite before the first look, and beyond the last, where all error is spent."""
        if n < max(self.first, MIN_PAIRS):
            return math.inf
        if self.engine == "anytime":
            return critical(n, alpha)
        if n > self.last:
            return math.inf
        return boundaries(self.looks, alpha)[n - self.first]


@dataclass(frozen=True, kw_only=True)
class LookStep:
    """One hypothesis at one look: `pairs` complete pairs, their mean and spread, and what follows.

    `level` is the share of the error that it was tested at, `boundary` the |t| that this asked for (None where nothing
    could be rejected), `lo` to `hi` the repeated interval at the family's whole error level: it holds at all looks.
    """

    name: str
    pairs: int
    mean: float | None
    sd: float | None
    t: float | None
    level: float
    boundary: float | None
    lo: float | None
    hi: float | None
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Look:
    """All hypotheses that were open when `n` seeds were complete."""

    n: int
    steps: tuple[LookStep, ...]


def replay(
    design: Design, differences: Mapping[str, Sequence[float | None]], floors: Mapping[str, float] | None = None
) -> tuple[Look, ...]:
    """Every look that `differences` allow, from the first one on.

    `differences` holds, for each hypothesis, the difference of every ended seed in the registered order; None where a
    run of the pair failed. A look waits for all hypotheses that are still open. `floors` are the least variances of a
    difference (docs/statistics.md 5.2). A missing pair leaves a hypothesis at the boundary of the pairs that it has.

    A hypothesis is rejected at |t| ≥ the boundary for α/(m − r), r being those already rejected, repeated within the
    look (docs/statistics.md 4.11); it is equivalent where the repeated interval at α/(m − e) lies inside the
    margin, e being those already equivalent (docs/statistics.md 4.14).
    """
    if design.size < len(differences):
        raise ValueError(f"{len(differences)} hypotheses in a family of {design.size}")
    decided: dict[str, Decision] = {}
    found: list[Look] = []
    for n in design.looks:
        waiting = [name for name in differences if name not in decided]
        if not waiting or any(len(differences[name]) < n for name in waiting):
            break
        steps = {name: _measure(design, name, differences[name][:n], (floors or {}).get(name, 0)) for name in waiting}
        if design.engine == "exact":
            _reject_jointly(design, steps, differences, n, decided)
        else:
            _reject(design, steps, decided)
        _equate(design, steps, decided)
        taken = (replace(step, decision=decided.get(step.name, "undecided")) for step in steps.values())
        found.append(Look(n=n, steps=tuple(taken)))
    return tuple(found)


def running_p(design: Design, steps: Sequence[LookStep]) -> list[float | None]:
    """The sequential p of one hypothesis after each of its `steps`, before any correction for others.

    None where the engine has none: joint sign flips decide a family, not one hypothesis. For `anytime` it is
    min 1/E over the looks. Source: docs/statistics.md 4.10.
    """
    if design.engine == "exact":
        return [None] * len(steps)
    known = [(k, step) for k, step in enumerate(steps) if step.t is not None and step.pairs >= design.first]
    if design.engine == "anytime":
        raw = [min(1.0, 1 / e_value(step.t or 0, step.pairs)) for _, step in known]
        values = np.minimum.accumulate(raw).tolist() if raw else []
    else:
        values = sequential_p([step.t or 0 for _, step in known], [step.pairs for _, step in known], design.looks)
    out: list[float | None] = [None] * len(steps)
    for (k, _), value in zip(known, values, strict=True):
        out[k] = value
    for k in range(1, len(out)):
        out[k] = out[k - 1] if out[k] is None else out[k]
    return out


def p_at(design: Design, t: float, n: int) -> float:
    """The level whose boundary is `t` at `n` pairs, whatever came before: a p that holds at any look."""
    if design.engine == "anytime":
        return min(1.0, 1 / e_value(t, n))
    return sequential_p([t], [n], design.looks)[0]


def _measure(design: Design, name: str, differences: Sequence[float | None], floor: float) -> LookStep:
    d = np.array([value for value in differences if value is not None])
    step = LookStep(
        name=name, pairs=len(d), mean=None, sd=None, t=None, level=design.alpha, boundary=None, lo=None, hi=None,
        decision="undecided",
    )  # fmt: skip
    if len(d) == 0:
        return step
    mean = float(d.mean())
    same = not np.abs(d).max() > 1e-12
    variance, _ = spread(d, floor)
    if variance is None and not (same and len(d) > 1):
        return replace(step, mean=mean)
    sd = math.sqrt(variance or 0.0)
    se = sd / math.sqrt(len(d))
    c = design.critical(len(d), design.alpha)
    inside = math.isfinite(c)
    return replace(
        step, mean=mean, sd=sd, t=0.0 if same else mean / se,
        lo=mean - c * se if inside else None, hi=mean + c * se if inside else None,
    )  # fmt: skip


def _reject(design: Design, steps: dict[str, LookStep], decided: dict[str, Decision]) -> None:
    while True:
        level = design.alpha / (design.size - sum(d in ("better", "worse") for d in decided.values()) or 1)
        before = len(decided)
        for name, step in steps.items():
            if name in decided:
                continue
            boundary = design.critical(step.pairs, level)
            steps[name] = replace(step, level=level, boundary=boundary if math.isfinite(boundary) else None)
            if step.t is not None and abs(step.t) >= boundary:
                decided[name] = "better" if step.t > 0 else "worse"
        if len(decided) == before:
            return


def _reject_jointly(
    design: Design, steps: dict[str, LookStep], differences: Mapping[str, Sequence[float | None]], n: int,
    decided: dict[str, Decision],
) -> None:  # fmt: skip
    """Whole seeds' signs are flipped for all open hypotheses together. Once some are rejected the others are tested
    anew as a smaller family, on all looks so far: by closed testing that keeps the error."""
    looks = [look for look in design.looks if look <= n]
    paths = sign_paths(design.last, design.seed)
    while open_ := [name for name in steps if name not in decided]:
        d = np.array([[differences[name][s] or 0.0 for name in open_] for s in range(n)])
        rejected = flip_looks(d, looks, design.alpha, design.last, paths)
        if not rejected.any():
            return
        for name, is_rejected in zip(open_, rejected, strict=True):
            step = steps[name]
            if is_rejected and step.mean:
                decided[name] = "better" if step.mean > 0 else "worse"
        if all(name not in decided for name in open_):
            return


def _equate(design: Design, steps: Mapping[str, LookStep], decided: dict[str, Decision]) -> None:
    if design.margin is None:
        return
    while True:
        level = design.alpha / (design.size - sum(d == "equivalent" for d in decided.values()) or 1)
        before = len(decided)
        for name, step in steps.items():
            c = design.critical(step.pairs, level)
            if name in decided or step.mean is None or step.sd is None or not math.isfinite(c):
                continue
            if abs(step.mean) + c * step.sd / math.sqrt(step.pairs) < design.margin:
                decided[name] = "equivalent"
        if len(decided) == before:
            return


def sign_paths(n: int, seed: int, paths: int = _RANDOM_PATHS) -> NDArray[np.float64]:
    """(paths + 1, n) signs, the identity first and the others random, the same for the same seed."""
    drawn = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(paths, n))
    return np.vstack([np.ones((1, n)), drawn])


def flip_looks(
    differences: ArrayLike, looks: Sequence[int], alpha: float, n_max: int, paths: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Mark which of H hypotheses an exact test with looks rejects up to the last of `looks` (docs/statistics.md 4.12).

    `differences` (n, H) have at least as many rows as the last look; `paths` (R + 1, ≥ n) begin with the identity. At
    each look ⌊α·n/N·(R + 1)⌋ paths in all may have been rejected: those that live strictly above the next largest value
    of max over H of |Σ g·D|/√ΣD². What is not spent is kept. All zero (a failed pair) changes no sum.
    """
    d = np.asarray(differences, dtype=np.float64)
    total = len(paths)
    alive, used = np.ones(total, dtype=bool), 0
    for n in looks:
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.abs(paths[:, :n] @ d[:n]) / np.sqrt((d[:n] ** 2).sum(axis=0))
        # Sums in another order of additions are ties.
        each = np.round(np.nan_to_num(each), 9)
        largest = each.max(axis=1)
        budget = math.floor(spending(n, n_max, alpha) * total + 1e-9) - used
        living = np.sort(largest[alive])[::-1]
        if budget < 1:
            continue
        threshold = living[budget] if budget < len(living) else -1.0
        rejected = alive & (largest > threshold)
        used += int(rejected.sum())
        alive &= ~rejected
        if rejected[0]:
            return np.asarray(each[0] > threshold)
    return np.zeros(d.shape[1], dtype=bool)
