"""The secondary findings of a report: descriptions, effective robustness, trade-offs, single checkpoints."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from saeft_ray import stats
from saeft_ray.errors import UserError
from saeft_ray.report.comparisons import (
    Family,
    Pair,
    adjusted,
    compare,
    differences_by_example,
    item_mismatch,
    unpaired,
)
from saeft_ray.report.content import CheckpointPair, Comparison, Curve, Description, Front, MethodResults, OnFront
from saeft_ray.report.method_facts import MethodFacts
from saeft_ray.report.numbers import in_list
from saeft_ray.report.scores import Score, Scores, Seed, Trials

EFFECTIVE = "effective robustness"
RESAMPLES = 2_000
RESAMPLE_FROM = 10
"""Seeds; with fewer a bootstrap is too narrow (docs/statistics.md 3.1)."""


def described(primary: Iterable[Comparison], scores: Scores) -> tuple[Description, ...]:
    """Describes each comparison with the baseline in addition to its mean."""
    out = []
    for c in primary:
        if c.paired is None or c.unpaired:
            continue
        a, b = scores.methods[c.method], scores.methods[c.against]
        single = [
            _score(a, p.seed)[d].value - _score(b, p.seed)[d].value for p in c.points for d in c.datasets
        ]  # fmt: skip
        up = stats.improvement([p.method - p.against for p in c.points])
        fixed = c.correction != "looks"
        rho = c.paired.rho
        out.append(
            Description(
                method=c.method, n=up.n, iqm=stats.iqm(single), improvement=up.share, lo=up.lo if fixed else None,
                hi=up.hi if fixed else None, rho=rho,
                rho_interval=stats.rho_interval(rho, c.paired.n) if rho is not None and fixed else None,
            )
        )  # fmt: skip
    return tuple(out)


def _score(trials: Trials, seed: Seed) -> dict[str, Score]:
    return trials.scores[seed if seed in trials.scores else None]


def pool(comparisons: tuple[Comparison, ...], pairs: Sequence[Pair], alpha: float) -> tuple[Comparison, ...] | str:
    """`comparisons` with the spread of all trained methods in common (randomised blocks); or why that may not be."""
    constant = [pair for pair in pairs if pair.method.deterministic or pair.against.deterministic]
    trained = [pair for pair in pairs if pair not in constant and unpaired(pair) is None]
    means = [t.means(pairs[0].datasets) for t in [trained[0].against, *(p.method for p in trained)]] if trained else []
    seeds = sorted(set.intersection(*(set(m) for m in means)), key=lambda s: s or 0) if means else []
    if len(seeds) < stats.MIN_PAIRS or len(means) < 3:
        return f"it takes {stats.MIN_PAIRS} seeds that two methods and the baseline have in common"
    found = stats.pooled([[m[seed] for m in means] for seed in seeds])
    if found is None:
        return f"the methods' spreads differ by more than a factor of {stats.LARGEST_RATIO:g}, or one has none"
    place = {pair.method.method: k for k, pair in enumerate(trained)}
    drafts = []
    for c in comparisons:
        # A comparison on other seeds keeps its own spread.
        k = place.get(c.method)
        if k is None or c.paired is None or c.tuned or [p.seed for p in c.points] != seeds:
            drafts.append(c)
            continue
        shared = replace(c.paired, sd=found.se * math.sqrt(len(seeds)), df=found.df, t=found.t[k], p=found.p[k])
        ends = shared.interval(1 - alpha)
        assert ends is not None
        drafts.append(
            replace(
                c, paired=replace(shared, lo=ends[0], hi=ends[1]), interval_90=shared.interval(0.90), pooled=True,
                new_images=None,
            )
        )  # fmt: skip
    return adjusted(drafts, pairs, comparisons[0].family_size, alpha)


def lines(rules: Mapping[str, Any], datasets: Iterable[str]) -> dict[str, stats.Line]:
    """The declared lines of standard models by OOD set: `{"V2": [slope, intercept]}`, in logits of fractions.

    Raises UserError for a set that is not an OOD set of this sweep, or a line of numbers that are not finite.
    """
    known = sorted(datasets)
    out = {}
    for name, (slope, intercept) in sorted((rules.get("lines") or {}).items()):
        if name not in known:
            raise UserError(f"report: lines names {name!r}, which is not an OOD set; this sweep has {in_list(known)}")
        if not (math.isfinite(slope) and math.isfinite(intercept)):
            raise UserError(f"report: lines gives {name} the line {slope}, {intercept}; give two finite numbers")
        out[name] = stats.Line(slope=float(slope), intercept=float(intercept))
    return out


def effective(pairs: Sequence[Pair], lined: Mapping[str, stats.Line], id_sets: tuple[str, ...], size: int) -> Family:
    """Effective robustness, by seed: the mean over the sets with a line of accuracy beyond what the line expects of the
    ID accuracy. One more endpoint, so methods are compared by its paired difference (docs/statistics.md 3.7)."""

    def beyond(trials: Trials) -> Trials:
        wanted = (*id_sets, *lined)
        scores: dict[Seed, dict[str, Score]] = {}
        for seed, found in trials.scores.items():
            if not all(d in found for d in wanted):
                continue
            n = min((found[d].n or 1_000_000) for d in id_sets)
            identity = stats.inside(math.fsum(found[d].value for d in id_sets) / len(id_sets), n)
            above = [float(stats.effective_robustness(identity, found[d].value, lined[d])) for d in lined]
            value = math.fsum(above) / len(above)
            scores[seed] = {EFFECTIVE: Score(value=value, n=None, examples=None, packed=None)}
        return replace(trials, scores=scores)

    made = {t.method: beyond(t) for pair in pairs for t in (pair.method, pair.against)}
    return Family(
        name="effective", size=size, new_images=False,
        pairs=tuple(
            Pair(
                method=made[p.method.method], against=made[p.against.method], endpoint=EFFECTIVE, datasets=(EFFECTIVE,)
            )
            for p in pairs
        ),
    )  # fmt: skip


def checkpoints(pairs: Iterable[Pair], datasets: Sequence[str]) -> tuple[CheckpointPair, ...]:
    """McNemar's test on every test set for pairs of which only one seed exists (docs/statistics.md 5.1)."""
    out = []
    for pair in pairs:
        both = [s for s in pair.method.seeds | pair.against.seeds if s is not None]
        if len(both) != 1:
            continue
        for dataset in datasets:
            single = replace(pair, datasets=(dataset,))
            used = [t.scores.get(None if t.deterministic else both[0], {}) for t in (pair.method, pair.against)]
            if not all(dataset in found for found in used) or item_mismatch(single) is not None:
                continue
            matrix = differences_by_example(single, both, dataset)
            if matrix is None:
                continue
            a, b = int((matrix > 0).sum()), int((matrix < 0).sum())
            out.append(
                CheckpointPair(
                    method=pair.method.method, against=pair.against.method, seed=both[0], dataset=dataset,
                    only_method=a, only_against=b, p=stats.mcnemar(a, b),
                )
            )  # fmt: skip
    return tuple(out)


def front(scores: Scores, record: Mapping[str, Any], descriptive: bool) -> Front | None:
    """The front of mean ID and OOD accuracy over the seeds that all trained methods have, above a guess on both.

    `descriptive`: seeds came until something was decided, so they are not drawn anew.
    """
    if not scores.id_sets or not scores.ood_sets:
        return None
    found = {}
    for name, trials in scores.methods.items():
        x, y = trials.means(scores.id_sets), trials.means(scores.ood_sets)
        if both := {seed: (x[seed], y[seed]) for seed in x if seed in y}:
            found[name] = both
    if len(found) < 2:
        return None
    with_seeds = [set(points) for points in found.values() if None not in points]
    seeds = sorted(set.intersection(*with_seeds), key=lambda s: s or 0) if with_seeds else []
    if with_seeds and not seeds:
        return None
    # (seeds, methods, 2); a method without training is the same with every seed.
    all_points = np.array(
        [[points[None] if None in points else points[seed] for points in found.values()] for seed in seeds or [None]]
    )
    means = all_points.mean(axis=0)
    classes = (record.get("data") or {}).get("classes")
    reference = (1 / classes, 1 / classes) if classes else (0.0, 0.0)
    shares: list[float | None] = [None] * len(found)
    if len(seeds) >= RESAMPLE_FROM and not descriptive:
        drawn = np.random.default_rng(0).integers(0, len(seeds), size=(RESAMPLES, len(seeds)))
        counts = np.stack([(drawn == k).sum(axis=1) for k in range(len(seeds))], axis=1) / len(seeds)
        resampled = np.einsum("rs,smc->rmc", counts, all_points)
        shares = np.mean([stats.front(points) for points in resampled], axis=0).tolist()
    on_front = stats.front(means)
    return Front(
        reference=reference,
        area=stats.hypervolume(means, reference),
        seeds=len(seeds),
        methods=tuple(
            OnFront(method=name, id=float(x), ood=float(y), on_front=bool(best), share=share)
            for name, (x, y), best, share in zip(found, means, on_front, shares, strict=True)
        ),
    )


def curves(methods: Sequence[MethodResults], facts: Mapping[str, MethodFacts]) -> tuple[Curve, ...]:
    """The methods between the frozen model and each fine-tuned one, as a curve in the order of alpha."""
    frozen = next((m.name for m in methods if facts[m.name].family == "frozen"), None)
    out = []
    for end in methods:
        between: list[tuple[float, str]] = []
        for m in methods:
            alpha = m.settings.get("alpha")
            known = facts[m.name]
            is_between = known.family == "interpolation" and known.derived_from == end.name
            if is_between and isinstance(alpha, int | float):
                between.append((float(alpha), m.name))
        if between:
            points = sorted([*([(0.0, frozen)] if frozen else []), *between, (1.0, end.name)])
            out.append(Curve(alphas=tuple(a for a, _ in points), methods=tuple(name for _, name in points)))
    return tuple(out)


def discoveries(cells: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    """`cells` with p adjusted for the share of false discoveries; hypotheses without a test count as p = 1."""
    p = [c.paired.p if c.paired and c.paired.p is not None and c.paired.n >= stats.MIN_PAIRS else 1.0 for c in cells]
    if not cells:
        return cells
    full = stats.benjamini_hochberg([*p, *[1.0] * (cells[0].family_size - len(p))])[: len(p)]
    return tuple(replace(c, discovery_p=float(q)) for c, q in zip(cells, full, strict=True))


def sensitivity(
    primary: Family, record: Mapping[str, Any], alpha: float, margin: float | None
) -> tuple[Comparison, ...]:
    """The primary comparisons with every run that failed or was stopped on purpose scored as a guess (1/classes), where
    there is any (docs/statistics.md 5.6)."""
    classes = (record.get("data") or {}).get("classes")
    lacking = [bool(pair.method.lacking or pair.against.lacking) for pair in primary.pairs]
    if not classes or not any(lacking):
        return ()
    filled = {t.method: _guessing(t, 1 / classes, pair) for pair in primary.pairs for t in (pair.method, pair.against)}
    pairs = tuple(
        replace(pair, method=filled[pair.method.method], against=filled[pair.against.method]) for pair in primary.pairs
    )
    family = Family(name="sensitivity", pairs=pairs, size=primary.size)
    compared = compare(family, alpha, margin)
    return tuple(c for c, any_lacking in zip(compared, lacking, strict=True) if any_lacking)


def _guessing(trials: Trials, chance: float, pair: Pair) -> Trials:
    guess = {d: Score(value=chance, n=None, examples=None, packed=None) for d in pair.datasets}
    scores: dict[Seed, dict[str, Score]] = {**trials.scores, **dict.fromkeys(trials.lacking, guess)}
    return replace(trials, scores=scores, failed={}, stopped={})
