"""How often the intervals of equal strength and of methods as tuned hold the truth, where it is known.

    python benchmarks/strength_simulations.py [--runs N] [--only PART]

Sweeps are drawn from a world of known curves. Its nodes, its noise and its concave curve of OOD accuracy over log KL
are those that were measured in digit world (271 trainings, five paired seeds); accuracies are in points.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray import draws, stats
from saeft_ray.stats.as_tuned import in_order

Floats = NDArray[np.float64]
Curve = Callable[[Floats], Floats]

# KL that the strengths of each arm reached, and the noise of a run: of log KL, of a seed, of a run.
NODES = {
    "mse": (0.160, 0.109, 0.057, 0.018),
    "trained": (0.129, 0.067, 0.0143),
    "random": (0.113, 0.056, 0.0135),
    "paper": (0.148, 0.105, 0.065),
    "wise_ft": (0.122, 0.072, 0.030),
}
PAIRS = (("trained", "random"), ("random", "mse"), ("trained", "mse"), ("paper", "mse"), ("wise_ft", "mse"))
JITTER, OF_SEED, OF_RUN = 0.05, 0.25, 0.2

# The search: accuracies over log lambda as measured for `mse`, and the noise of a score and of an OOD accuracy.
LAMBDAS = np.log([30, 100, 300, 1000])
SELECTION, OOD = (94.12, 94.02, 93.86, 92.90), (64.92, 66.87, 68.87, 69.56)
OF_SCORE, OF_OOD = 0.5, 0.3


def concave(log_kl: Floats) -> Floats:
    """The measured curve: flat near the frozen model, falling faster and faster."""
    beyond = log_kl - np.log(0.016)
    return 69.6 - 1.209 * np.clip(beyond, 0, None) ** 1.55 + 0.35 * np.clip(beyond, None, 0)


def logistic(log_kl: Floats) -> Floats:
    """A curve that no cubic follows: it falls by 6 points around KL .06."""
    return 69.6 - 6 / (1 + np.exp(-3 * (log_kl - np.log(0.06))))


class Sweep(NamedTuple):
    runs: stats.Runs
    y: Floats


def sweep(
    rng: np.random.Generator, seeds: int, curve: Curve = concave, offsets: Mapping[str, float] | None = None
) -> Sweep:
    """Arms at their strengths with so many seeds, on one curve and their own offset from it."""
    arm = np.repeat(list(NODES), [len(kl) for kl in NODES.values()])
    shape = seeds, len(arm)
    log = np.log(np.concatenate([*NODES.values()])) + JITTER * rng.standard_normal(shape)
    own = np.array([(offsets or {}).get(name, 0.0) for name in arm])
    y = curve(log) + own + OF_SEED * rng.standard_normal((seeds, 1)) + OF_RUN * rng.standard_normal(shape)
    seed = np.repeat(np.arange(seeds), len(arm))
    return Sweep(stats.runs(np.tile(arm, seeds).tolist(), seed, np.exp(log).ravel()), y.ravel())


def interpolated(drawn: Sweep, a: str, b: str) -> tuple[float, float, float]:
    """What not to do: the mean difference of two paths, linear in log KL between their runs, over the common range."""
    paths = {}
    for name in (a, b):
        for seed in drawn.runs.seeds:
            mine = (drawn.runs.arm == name) & (drawn.runs.seed == seed)
            order = np.argsort(drawn.runs.kl[mine])
            paths[name, seed] = np.log(drawn.runs.kl[mine][order]), drawn.y[mine][order]
    at = np.linspace(max(x[0] for x, _ in paths.values()), min(x[-1] for x, _ in paths.values()), 41)
    of_a, of_b = ([np.interp(at, *paths[name, seed]).mean() for seed in drawn.runs.seeds] for name in (a, b))
    return _ends(stats.mean_interval(np.array(of_a) - np.array(of_b)))


class Cover(NamedTuple):
    """Share of sweeps whose interval holds the truth, the mean error, and the median width."""

    share: float
    bias: float
    width: float


def cover(intervals: Sequence[tuple[float, float, float]], truth: float) -> Cover:
    """Of (mean, lo, hi) of many sweeps."""
    mean, lo, hi = np.array(intervals).T
    return Cover(
        float(((lo <= truth) & (truth <= hi)).mean()), float(mean.mean() - truth), float(np.median(hi - lo))
    )  # fmt: skip


class AtEqual(NamedTuple):
    """By estimator and pair: coverage. By estimator: how often one of the pairs is claimed to differ."""

    covers: dict[str, dict[tuple[str, str], Cover]]
    any_false: dict[str, float]


def equal_strength(seeds: int, runs: int, curve: Curve = concave) -> AtEqual:
    """Arms that are truly equal at equal KL, by curves of two degrees and by interpolation."""
    rng = np.random.default_rng(draws.seed_of("equal strength", seeds, curve.__name__))
    degrees = {"degree 3": 3, "degree 5": 5}
    found: dict[str, dict[tuple[str, str], list[tuple[float, float, float]]]]
    found = {name: {pair: [] for pair in PAIRS} for name in (*degrees, "interpolation")}
    false = dict.fromkeys(degrees, 0)
    for _ in range(runs):
        drawn = sweep(rng, seeds, curve)
        for name, degree in degrees.items():
            told = stats.at_equal_strength(drawn.runs, drawn.y, PAIRS, degree=degree)
            false[name] += any(d.p_adjusted is not None and d.p_adjusted < 0.05 for d in told)
            for d in told:
                found[name][d.a, d.b].append(_ends(d.comparison))
        for pair in PAIRS:
            found["interpolation"][pair].append(interpolated(drawn, *pair))
    covers = {name: {pair: cover(x, 0) for pair, x in by.items()} for name, by in found.items()}
    return AtEqual(covers, {name: count / runs for name, count in false.items()})


def equivalence_error(seeds: int, runs: int, margin: float = 0.5) -> float:
    """How often an arm that is truly `margin` off is called equivalent, at 5 %."""
    rng = np.random.default_rng(draws.seed_of("equivalence", seeds))
    told = 0
    for _ in range(runs):
        drawn = sweep(rng, seeds, offsets={"paper": -margin})
        (found,) = (d for d in stats.at_equal_strength(drawn.runs, drawn.y, PAIRS, margin) if d.a == "paper")
        told += found.equivalent_p is not None and found.equivalent_p < 0.05
    return told / runs


class Search(NamedTuple):
    """A search with its rerank: OOD accuracy of the reranked configurations, and their scores by seed."""

    ood: Floats
    scores: Floats

    @property
    def chosen(self) -> float:
        """The OOD accuracy of the best one."""
        return float(self.ood[in_order(self.scores)[0]])


def search(rng: np.random.Generator, top: int = 3, seeds: int = 3, trials: int = 8) -> Search:
    """`trials` random lambdas with one seed each, then the `top` of them with `seeds` more."""
    at = rng.uniform(LAMBDAS[0], LAMBDAS[-1], trials)
    score = np.interp(at, LAMBDAS, SELECTION)
    kept = np.argsort(-(score + OF_SCORE * rng.standard_normal(trials)))[:top]
    scores = score[kept, None] + OF_SCORE * rng.standard_normal((len(kept), seeds))
    return Search(np.interp(at[kept], LAMBDAS, OOD), scores)


class Tuned(NamedTuple):
    """Coverage of the mean over searches in sweeps that tell an interval: a share `told` had two tied configurations or
    more. Repeated searches always do."""

    told: float
    sd_of_choice: float
    fixed: Cover
    over_seeds: Cover
    tuned: Cover
    difference: Cover
    repeats: dict[int, Cover]


def as_tuned(seeds: int, runs: int, se: float = 1.0, top: int = 3, rerank: int = 3) -> Tuned:
    """A method as tuned against its true mean over searches. `fixed` confirms the best configuration alone,
    `over_seeds` is the usual t over seeds that each use one of the tied, `difference` of two methods that tune alike.
    """
    rng = np.random.default_rng(draws.seed_of("as tuned", seeds, str(se), top, rerank))
    choices = np.array([search(rng, top, rerank).chosen for _ in range(20_000)])
    kinds = ("fixed", "over_seeds", "tuned", "difference", 3, 5)
    found: dict[str | int, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    told = 0
    for _ in range(runs):
        one, other = search(rng, top, rerank), search(rng, top, rerank)
        mine, theirs = stats.tied(one.scores, se), stats.tied(other.scores, se)
        noise, shared = OF_OOD * rng.standard_normal((2, seeds)), OF_SEED * rng.standard_normal(seeds)
        dealt, against = np.array(stats.dealt(len(mine), seeds)), np.array(stats.dealt(len(theirs), seeds))
        y, z = one.ood[list(mine)][dealt] + noise[0], other.ood[list(theirs)][against] + noise[1]
        got = stats.as_tuned(y, dealt)
        told += got.reason is None
        if got.reason is None:
            found["fixed"].append(_ends(stats.mean_interval(one.chosen + noise[0])))
            found["over_seeds"].append(_ends(stats.mean_interval(y)))
            found["tuned"].append(_ends(got))
        both = stats.tuned_difference(y + shared, z + shared, dealt, against)
        if both.reason is None:
            found["difference"].append(_ends(both))
        for repeats in (3, 5):
            each = np.array([search(rng, top, rerank).chosen for _ in range(repeats)])
            label = np.arange(2 * repeats) // 2
            again = each[label] + OF_OOD * rng.standard_normal(2 * repeats)
            found[repeats].append(_ends(stats.as_tuned(again, label)))
    truth = float(choices.mean())
    covers = {kind: cover(x, 0.0 if kind == "difference" else truth) for kind, x in found.items()}
    return Tuned(
        told / runs, float(choices.std()), covers["fixed"], covers["over_seeds"], covers["tuned"], covers["difference"],
        {repeats: covers[repeats] for repeats in (3, 5)},
    )  # fmt: skip


def _ends(x: stats.Mean | stats.Paired | stats.AsTuned | None) -> tuple[float, float, float]:
    assert x is not None
    assert x.lo is not None
    assert x.hi is not None
    return x.mean, x.lo, x.hi


def print_equal_strength(runs: int, curve: Curve) -> None:
    print("| curve | seeds | pair | degree 3: coverage, bias (width) | degree 5 | interpolation |")
    print("|---|--:|---|--:|--:|--:|")
    for seeds in (5, 8):
        got = equal_strength(seeds, runs, curve)
        for pair in PAIRS:
            covers = (by[pair] for by in got.covers.values())
            words = " | ".join(f"{100 * c.share:.1f}, {c.bias:+.3f} ({c.width:.2f})" for c in covers)
            print(f"| {curve.__name__} | {seeds} | {' − '.join(pair)} | {words} |", flush=True)
        print(f"a false claim among {len(PAIRS)} pairs, Holm: {got.any_false}", flush=True)


def print_margin(runs: int) -> None:
    for seeds in (5, 8):
        print(f"equivalent at the margin, {seeds} seeds: {100 * equivalence_error(seeds, runs):.1f} %", flush=True)


def print_tuned(runs: int) -> None:
    print(
        "| seeds | tied within | rerank | told | sd | fixed | t over seeds | as tuned | difference | 3 | 5 searches |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for seeds, se, top, rerank in ((5, 1.0, 3, 3), (8, 1.0, 3, 3), (8, 2.0, 3, 3), (8, 1.0, 5, 4), (20, 1.0, 5, 4)):
        t = as_tuned(seeds, runs, se, top, rerank)
        covers = (t.fixed, t.over_seeds, t.tuned, t.difference, *t.repeats.values())
        words = " | ".join(f"{100 * c.share:.1f} ({c.width:.1f})" for c in covers)
        head = f"| {seeds} | {se:g} SE | {top} × {rerank} | {100 * t.told:.0f} %"
        print(f"{head} | {t.sd_of_choice:.2f} | {words} |", flush=True)


def main() -> None:
    parts: dict[str, Callable[[int], None]] = {
        "concave": partial(print_equal_strength, curve=concave),
        "logistic": partial(print_equal_strength, curve=logistic),
        "margin": print_margin,
        "tuned": print_tuned,
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--only", choices=parts)
    given = parser.parse_args()
    for name, part in parts.items():
        if given.only in (None, name):
            part(given.runs)


if __name__ == "__main__":
    main()
