"""Pairs of methods on one endpoint, families of such pairs, and their verdicts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saeft_ray import stats
from saeft_ray.report import verdicts
from saeft_ray.report.as_tuned import Tuned, difference, tuned
from saeft_ray.report.content import Comparison, NewImages, Point
from saeft_ray.report.numbers import in_list, seeds_in_words
from saeft_ray.report.scores import Score, Scores, Seed, Trials

_EQUIVALENCE_CONFIDENCE = 0.90
_JOINT_FROM = 8  # seeds; with fewer the least p of joint sign flips is too large to be worth it (docs/statistics.md 0)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One hypothesis: `method` against `against` on the mean of `datasets`, which a report calls `endpoint`."""

    method: Trials
    against: Trials
    endpoint: str
    datasets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Hypotheses that are corrected together. `size` may exceed their number where some have no rows yet. `new_images`
    asks for the interval over new images, too. Where seeds came until something was decided, `design` is the rule, and
    only numbers that hold at any look are given."""

    name: str
    pairs: tuple[Pair, ...]
    size: int = 0
    new_images: bool = True
    design: stats.Design | None = None


def pairs_of(
    scores: Scores, names: Iterable[tuple[str | None, str | None]], endpoint: str, datasets: tuple[str, ...]
) -> tuple[Pair, ...]:
    """The hypotheses of `names`; a method without rows takes part and is refused in words."""
    if not datasets:
        return ()
    trials = {name: scores.methods.get(name) or Trials(method=name) for pair in names for name in pair if name}
    return tuple(
        Pair(method=trials[a], against=trials[b], endpoint=endpoint, datasets=datasets) for a, b in names if a and b
    )


def compare(family: Family, alpha: float, margin: float | None) -> tuple[Comparison, ...]:
    """Every pair of `family` with its Holm-adjusted p and its verdict."""
    size = max(family.size, len(family.pairs))
    drafts = [_draft(pair, family, size, alpha, margin) for pair in family.pairs]
    one_by_one = family.design is not None or any(c.tuned for c in drafts)
    joint = _max_t(drafts) if family.name == "shifts" and not one_by_one and size == len(drafts) else None
    if joint is not None:
        drafts = [replace(c, correction="max-T") for c in drafts]
    return adjusted(drafts, family.pairs, size, alpha, joint, looked=family.design is not None)


def adjusted(
    drafts: Sequence[Comparison], pairs: Sequence[Pair], size: int, alpha: float,
    joint: Sequence[float | None] | None = None, looked: bool = False,
) -> tuple[Comparison, ...]:  # fmt: skip
    """`drafts` with their corrected p (Holm over `size` unless `joint` gives them) and what follows from it."""
    p_values = joint or _holm([_claimable(c, c.paired.p if c.paired else None) for c in drafts], size)
    within = [
        None if looked or c.margin is None or c.paired is None else stats.tost(c.paired, c.margin) for c in drafts
    ]
    equivalent = _holm([_claimable(c, p) for c, p in zip(drafts, within, strict=True)], size)
    return tuple(
        _decide(pair, c, p, q, alpha) for pair, c, p, q in zip(pairs, drafts, p_values, equivalent, strict=True)
    )


def item_mismatch(pair: Pair) -> str | None:
    """Why this pair's examples may not be paired one by one: another order, or an unknown one. None if they may be,
    or if the rows carry no bits."""
    for dataset in pair.datasets:
        used = _used(pair, dataset)
        if all(score.packed is None for score in used):
            continue
        orders = {score.examples for score in used}
        if len(orders) > 1 or orders == {None}:
            return f"{dataset}: trials saw its examples in different or unknown orders"
    return None


def unpaired(pair: Pair) -> str | None:
    """Why the runs of the two are no pairs: both were made elsewhere, with seeds of which none is in common. It asks
    which seeds were tried, so that no failure turns pairs into samples. None where they are pairs."""
    a, b = ({s for s in trials.seeds if s is not None} for trials in (pair.method, pair.against))
    if not (pair.method.elsewhere and pair.against.elsewhere and a and b) or a & b:
        return None
    return f"{pair.method.method} has {seeds_in_words(a)}, {pair.against.method} {seeds_in_words(b)}: none in common"


def _decide(pair: Pair, c: Comparison, p: float | None, q: float | None, alpha: float) -> Comparison:
    decided = replace(
        c, p_adjusted=p, p_equivalent=q, verdict=verdicts.verdict_of(c.paired, p, q, alpha, c.margin), sentence=""
    )
    failed = bool(pair.method.lacking or pair.against.lacking or c.dropped_seeds)
    constant = pair.method.deterministic or pair.against.deterministic
    return replace(decided, sentence=verdicts.sentence(decided, alpha, failed, constant))


def _draft(pair: Pair, family: Family, size: int, alpha: float, margin: float | None) -> Comparison:
    a, b = pair.method.means(pair.datasets), pair.against.means(pair.datasets)
    no_pairs = unpaired(pair)
    seeds, refused = _common(pair, a, b, no_pairs is not None)
    refused = refused or _sizes_differ(pair)
    points = tuple(Point(seed=s, method=_at(a, s), against=_at(b, s)) for s in seeds) if not refused else ()
    paired: stats.Paired | None = None
    beside: Tuned | None = None
    dealt = max(pair.method.choices, pair.against.choices) > 1
    if no_pairs and not refused:
        paired = stats.welch(list(a.values()), list(b.values()), 1 - alpha, floor_of(pair) / 2)
    elif points and dealt:
        of = (pair.method, pair.against)
        left, right = ({seed: _at(means, seed) for seed in seeds} for means in (a, b))
        paired = difference(left, right, seeds, of, 1 - alpha)
        beside = tuned(left, right, seeds, of, 1 - alpha, margin, floor_of(pair))
    elif points:
        paired = stats.paired(
            [p.method for p in points], [p.against for p in points], confidence=1 - alpha, variance_floor=floor_of(pair)
        )
    if paired and family.design:
        paired = at_any_look(paired, family.design)
    used = {*a, *b} if no_pairs else {p.seed for p in points}
    attempted = {s for s in pair.method.seeds | pair.against.seeds if s is not None}
    fixed = paired if family.design is None and not dealt else None
    new_images, item_se = _items(pair, seeds, fixed, alpha) if fixed and points and family.new_images else (None, None)
    detectable, needed = _planning(fixed, alpha, margin)
    return Comparison(
        method=pair.method.method, against=pair.against.method, endpoint=pair.endpoint, datasets=pair.datasets,
        family=family.name, family_size=size, paired=paired, refused=refused, points=points,
        dropped_seeds=tuple(sorted(attempted - used)),
        p_adjusted=None, p_equivalent=None, margin=margin,
        interval_90=paired.interval(_EQUIVALENCE_CONFIDENCE) if paired and family.design is None else None,
        new_images=new_images, item_se=item_se, detectable=detectable, seeds_needed=needed,
        verdict="undecided", sentence="", correction="Holm" if family.design is None else "looks", unpaired=no_pairs,
        tuned=beside,
    )  # fmt: skip


def at_any_look(paired: stats.Paired, design: stats.Design) -> stats.Paired:
    """`paired` with the repeated interval and a p that hold whenever one looks, and without what does not."""
    beyond = paired.n > design.last and design.engine != "anytime"
    if paired.se is None or paired.t is None or paired.n < design.first or beyond:
        return replace(paired, p=None, lo=None, hi=None, sign_flip_p=None)
    half = design.critical(paired.n, design.alpha) * paired.se
    ends = (paired.mean - half, paired.mean + half) if math.isfinite(half) else (None, None)
    return replace(
        paired, p=stats.p_at(design, paired.t, paired.n), lo=ends[0], hi=ends[1], sign_flip_p=None,
        confidence=1 - design.alpha,
    )  # fmt: skip


def _max_t(drafts: Sequence[Comparison]) -> list[float | None] | None:
    """Step-down max-T over all cells on the seeds that every cell has; None where these are too few."""
    if any(c.paired is None for c in drafts) or not drafts:
        return None
    common = sorted(set.intersection(*({p.seed for p in c.points} for c in drafts)), key=lambda seed: seed or 0)
    if len(common) < _JOINT_FROM:
        return None
    by_seed = [{p.seed: p.method - p.against for p in c.points} for c in drafts]
    matrix = np.array([[cell[seed] for cell in by_seed] for seed in common])
    return [float(p) for p in stats.max_t(matrix, np.random.default_rng(0))]


def _common(pair: Pair, a: dict[Seed, float], b: dict[Seed, float], no_pairs: bool) -> tuple[list[Seed], str | None]:
    """The seeds to compare on: the common ones, or all of the trained side's where the other has no training."""
    if not pair.datasets:
        return [], "there is no such test set"
    if not a or not b:
        empty = pair.method.method if not a else pair.against.method
        return [], f"{empty} finished no trial there"
    if pair.method.deterministic and pair.against.deterministic:
        return [], "neither is trained, so seeds cannot distinguish them"
    if no_pairs:
        return [], None
    seeds = set(b) if pair.method.deterministic else set(a) if pair.against.deterministic else set(a) & set(b)
    trained = sorted(s for s in seeds if s is not None)
    return list(trained), None if trained else "no seed was finished by both"


def _at(means: dict[Seed, float], seed: Seed) -> float:
    return means[seed] if seed in means else means[None]


def _used(pair: Pair, dataset: str) -> list[Score]:
    return [s[dataset] for t in (pair.method, pair.against) for s in t.scores.values() if dataset in s]


def _sizes_differ(pair: Pair) -> str | None:
    for dataset in pair.datasets:
        sizes = sorted({score.n for score in _used(pair, dataset) if score.n is not None})
        if len(sizes) > 1:
            return f"trials were scored on different numbers of examples of {dataset} ({in_list(sizes)})"
    return None


def floor_of(pair: Pair) -> float:
    """The least variance of a difference: Σ w²·tick²/6 (docs/statistics.md 5.2); 0 if a test set's size is unknown."""
    ticks = []
    for dataset in pair.datasets:
        n = next((score.n for score in _used(pair, dataset) if score.n), None)
        if n is None:
            return 0.0
        ticks.append(1 / n)
    return sum(tick**2 for tick in ticks) / (6 * len(ticks) ** 2)


def _items(
    pair: Pair, seeds: Sequence[Seed], paired: stats.Paired, alpha: float
) -> tuple[NewImages | None, float | None]:
    """The interval for new images (two seeds or more), or the items' standard error (one seed)."""
    if item_mismatch(pair) is not None:
        return None, None
    differences = []
    for dataset in pair.datasets:
        matrix = differences_by_example(pair, seeds, dataset)
        if matrix is None or matrix.shape[1] < 2:
            return None, None
        differences.append(matrix)
    weight = 1 / len(differences)
    if len(seeds) == 1:
        return None, math.sqrt(sum(weight**2 * float(d.var(ddof=1)) / d.shape[1] for d in differences))
    analysis = stats.crossed_mean(differences, [weight] * len(differences), 1 - alpha, floor_of(pair))
    share = analysis.seed_variance / analysis.variance if analysis.variance > 0 else 1.0
    # Its degrees of freedom can make it narrower than the interval for these images; new images never add certainty.
    fixed = paired.interval(1 - alpha) or (analysis.lo, analysis.hi)
    found = NewImages(
        lo=min(analysis.lo, fixed[0]), hi=max(analysis.hi, fixed[1]), confidence=analysis.confidence,
        df=analysis.df, seed_share=share, enough_seeds=stats.seeds_until_items_dominate(analysis),
        se_seeds=math.sqrt(analysis.seed_variance), se_images=math.sqrt(analysis.item_variance),
    )  # fmt: skip
    return found, None


def differences_by_example(pair: Pair, seeds: Sequence[Seed], dataset: str) -> NDArray[np.int8] | None:
    """Differences of correctness (seeds, items) in {−1, 0, 1}."""
    rows = []
    for seed in seeds:
        both = []
        for trials in (pair.method, pair.against):
            score = trials.scores[seed if seed in trials.scores else None].get(dataset)
            bits = score.correct() if score else None
            if bits is None:
                return None
            both.append(bits.view(np.int8))
        rows.append(both[0] - both[1])
    return np.stack(rows)


def _planning(
    paired: stats.Paired | None, alpha: float, margin: float | None
) -> tuple[float | None, tuple[int, int | None] | None]:
    if paired is None or not paired.sd or paired.n < stats.MIN_PAIRS:
        return None, None
    d = stats.detectable(paired.n, alpha=alpha)
    least = None if d is None else d * paired.sd
    if margin is None:
        return least, None
    low, high = (stats.smallest_n(margin / sd, alpha=alpha) for sd in stats.sd_range(paired.sd, paired.n))
    return least, None if low is None else (low, high)


def _claimable(c: Comparison, p: float | None) -> float | None:
    return p if c.paired is not None and c.paired.n >= stats.MIN_PAIRS else None


def _holm(p_values: Sequence[float | None], size: int) -> list[float | None]:
    """Holm over `size` hypotheses, of which those without a test count as p = 1."""
    full = [1.0 if p is None else p for p in p_values] + [1.0] * (size - len(p_values))
    adjusted = stats.holm(full)
    return [None if p is None else float(q) for p, q in zip(p_values, adjusted[: len(p_values)], strict=True)]
