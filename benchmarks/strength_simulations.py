"""How often the intervals of equal strength and of methods as tuned hold the truth, where it is known.

    python benchmarks/strength_simulations.py [--runs N] [--only PART]

Sweeps are drawn from a world of known curves. Its nodes, its noise and its concave curve of OOD accuracy over log KL
are those that were measured in digit world (271 trainings, five paired seeds); accuracies are in points. Thousands of
sweeps are computed at once; tests/test_equal_strength.py and tests/test_as_tuned.py hold that to the package itself.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from saeft_ray import draws, stats

Floats = NDArray[np.float64]
Curve = Callable[[Floats], Floats]
Ends = tuple[Floats, Floats, Floats]

# KL that the strengths of each arm reached, and the noise of a run: of log KL, of a seed, of a run.
NODES = {
    "mse": (0.160, 0.109, 0.057, 0.018),
    "trained": (0.129, 0.067, 0.0143),
    "random": (0.113, 0.056, 0.0135),
    "paper": (0.148, 0.105, 0.065),
    "wise_ft": (0.122, 0.072, 0.030),
}
PAIRS = (("trained", "random"), ("random", "mse"), ("trained", "mse"), ("paper", "mse"), ("wise_ft", "mse"))
ARM = np.repeat([*NODES], [len(kl) for kl in NODES.values()])
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


class Sweeps(NamedTuple):
    """Many sweeps at once: (sweeps, seeds, runs of all arms) each."""

    log_kl: Floats
    y: Floats

    def one(self, number: int) -> tuple[stats.Runs, Floats]:
        """A single sweep as the package takes it."""
        log = self.log_kl[number]
        runs = stats.runs([*ARM] * len(log), np.repeat(np.arange(len(log)), len(ARM)), np.exp(log).ravel())
        return runs, self.y[number].ravel()


def sweeps(
    rng: np.random.Generator, runs: int, seeds: int, curve: Curve = concave, offsets: Mapping[str, float] | None = None
) -> Sweeps:
    """Sweeps of arms at their strengths, on one curve and their own offset from it."""
    shape = runs, seeds, len(ARM)
    log = np.log(np.concatenate([*NODES.values()])) + JITTER * rng.standard_normal(shape)
    own = np.array([(offsets or {}).get(name, 0.0) for name in ARM])
    of_seed = OF_SEED * rng.standard_normal((runs, seeds, 1))
    return Sweeps(log, curve(log) + own + of_seed + OF_RUN * rng.standard_normal(shape))


def by_curve(drawn: Sweeps, degree: int) -> dict[str, Floats]:
    """What `stats.at_equal_strength` does, for many sweeps at once: offsets (sweeps, seeds) by arm."""
    z = drawn.log_kl - drawn.log_kl.mean(-1, keepdims=True)
    z = (z / z.std(-1, keepdims=True))[..., None]
    belongs = np.broadcast_to(ARM[:, None] == np.array([*NODES]), (*z.shape[:-1], len(NODES)))
    design = np.concatenate([belongs, z ** np.arange(1, degree + 1)], axis=-1)
    turned = design.swapaxes(-1, -2)
    offsets = np.linalg.solve(turned @ design, turned @ drawn.y[..., None])[..., 0]
    return {name: offsets[..., k] for k, name in enumerate(NODES)}


def interpolated(drawn: Sweeps, a: str, b: str) -> Floats:
    """What not to do: the mean difference of two paths, linear in log KL between their runs, over the common range."""
    paths = []
    for name in (a, b):
        mine = drawn.log_kl[..., name == ARM]
        order = np.argsort(mine, axis=-1)
        paths.append(
            (np.take_along_axis(mine, order, -1), np.take_along_axis(drawn.y[..., name == ARM], order, -1))
        )  # fmt: skip
    low = np.max([x[..., 0].max(-1) for x, _ in paths], axis=0)[:, None, None]
    high = np.min([x[..., -1].min(-1) for x, _ in paths], axis=0)[:, None, None]
    at = low + (high - low) * np.linspace(0, 1, 41)
    of_a, of_b = (_line(x, y, at).mean(-1) for x, y in paths)
    return np.asarray(of_a - of_b)


def _line(x: Floats, y: Floats, at: Floats) -> Floats:
    left = np.clip((at[..., None] >= x[:, :, None, :]).sum(-1) - 1, 0, x.shape[-1] - 2)
    x0, x1, y0, y1 = (np.take_along_axis(v, left + k, -1) for v in (x, y) for k in (0, 1))
    return np.asarray(y0 + (y1 - y0) * (at - x0) / (x1 - x0))


def usual(values: Floats) -> Ends:
    """The t interval of each row of (sweeps, n)."""
    n = values.shape[1]
    mean, half = values.mean(1), student.ppf(0.975, n - 1) * values.std(1, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


class Cover(NamedTuple):
    """Share of sweeps whose interval holds the truth, the mean error, and the median width."""

    share: float
    bias: float
    width: float


def cover(ends: Ends, truth: float) -> Cover:
    """Of the mean, the lower and the upper end of many sweeps' intervals."""
    mean, lo, hi = ends
    held = (lo <= truth) & (truth <= hi)
    return Cover(float(held.mean()), float(mean.mean() - truth), float(np.median(hi - lo)))


class AtEqual(NamedTuple):
    """By estimator and pair: coverage. By estimator: how often one of the pairs is claimed to differ."""

    covers: dict[str, dict[tuple[str, str], Cover]]
    any_false: dict[str, float]


def equal_strength(seeds: int, runs: int, curve: Curve = concave) -> AtEqual:
    """Arms that are truly equal at equal KL, by curves of two degrees and by interpolation."""
    drawn = sweeps(generator("equal strength", seeds, curve.__name__), runs, seeds, curve)
    covers, any_false = {}, {}
    for degree in (3, 5):
        offsets = by_curve(drawn, degree)
        differences = {(a, b): offsets[a] - offsets[b] for a, b in PAIRS}
        covers[f"degree {degree}"] = {pair: cover(usual(d), 0) for pair, d in differences.items()}
        t = np.array([np.abs(d.mean(1)) / d.std(1, ddof=1) * np.sqrt(seeds) for d in differences.values()])
        # Holm rejects one at least where Bonferroni does.
        any_false[f"degree {degree}"] = float((t.max(0) > student.ppf(1 - 0.025 / len(PAIRS), seeds - 1)).mean())
    covers["interpolation"] = {(a, b): cover(usual(interpolated(drawn, a, b)), 0) for a, b in PAIRS}
    return AtEqual(covers, any_false)


def equivalence_error(seeds: int, runs: int, margin: float = 0.5) -> float:
    """How often an arm that is truly `margin` off is called equivalent, at 5 %: the 90 % interval is inside."""
    offsets = by_curve(sweeps(generator("equivalence", seeds), runs, seeds, offsets={"paper": -margin}), 3)
    d = offsets["paper"] - offsets["mse"]
    half = student.ppf(0.95, seeds - 1) * d.std(1, ddof=1) / np.sqrt(seeds)
    return float((np.abs(d.mean(1)) + half < margin).mean())


class Searches(NamedTuple):
    """Many searches with their reranks, best mean score first: OOD accuracy of the reranked configurations (searches,
    top), and which of them are tied with the first."""

    ood: Floats
    tied: NDArray[np.bool_]

    def dealt(self, seeds: int) -> tuple[Floats, NDArray[np.int64]]:
        """OOD accuracy (searches, seeds) of what each seed uses, and the number of tied configurations."""
        first = np.take_along_axis(self.ood, np.argsort(~self.tied, axis=1, kind="stable"), 1)
        k = self.tied.sum(1)
        return np.take_along_axis(first, np.arange(seeds) % k[:, None], 1), k


def searches(
    rng: np.random.Generator, runs: int, top: int = 3, seeds: int = 3, se: float = 1.0, trials: int = 8
) -> Searches:
    """`trials` random lambdas with one seed each, then the `top` of them with `seeds` more."""
    at = rng.uniform(LAMBDAS[0], LAMBDAS[-1], (runs, trials))
    first = np.interp(at, LAMBDAS, SELECTION) + OF_SCORE * rng.standard_normal(at.shape)
    at = np.take_along_axis(at, np.argsort(-first, axis=1)[:, :top], 1)
    scores = np.interp(at, LAMBDAS, SELECTION)[..., None] + OF_SCORE * rng.standard_normal((runs, top, seeds))
    order = np.argsort(-scores.mean(2), axis=1)
    at, scores = np.take_along_axis(at, order, 1), np.take_along_axis(scores, order[..., None], 1)
    lead = scores[:, :1] - scores
    tied = lead.mean(2) <= se * lead.std(2, ddof=1) / np.sqrt(seeds) + 1e-12
    return Searches(np.interp(at, LAMBDAS, OOD), tied)


def tuned(values: Floats, *groupings: NDArray[np.int64]) -> Ends:
    """What `stats.as_tuned` (one grouping) and `stats.tuned_difference` (one or two) do, for rows of (sweeps, n)."""
    n = values.shape[1]
    variances, dfs = [], []
    for labels in groupings:
        means, sizes = _groups(values, labels)
        variances.append(means.var(1, ddof=1) * ((sizes / n) ** 2).sum())
        dfs.append(len(sizes) - 1)
    joint = np.unique(np.column_stack(groupings), axis=0, return_inverse=True)[1].ravel()
    means, sizes = _groups(values, joint)
    left = n - len(sizes)
    within = ((values - means[:, joint]) ** 2).sum(1) / left if left else np.zeros(len(values))
    between = np.sum(variances, axis=0)
    df = between**2 / np.sum([v**2 / k for v, k in zip(variances, dfs, strict=True)], axis=0)
    mean, half = values.mean(1), student.ppf(0.975, df) * np.sqrt(between + within / n)
    return mean, mean - half, mean + half


def _groups(values: Floats, labels: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    kinds, sizes = np.unique(labels, return_counts=True)
    return np.column_stack([values[:, labels == kind].mean(1) for kind in kinds]), sizes


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
    rng = generator("as tuned", seeds, str(se), top, rerank)
    chosen = searches(rng, 100_000, top, rerank).ood[:, 0]
    truth = float(chosen.mean())
    one, other = (searches(rng, runs, top, rerank, se) for _ in range(2))
    (of_one, k), (of_other, m) = one.dealt(seeds), other.dealt(seeds)
    noise = OF_OOD * rng.standard_normal((2, runs, seeds))
    told, both = k > 1, (k > 1) & (m > 1)
    mine, difference = [], []
    at = np.arange(seeds)
    for number in range(2, top + 1):
        mine.append(tuned((of_one + noise[0])[k == number], at % number))
        for against in range(2, top + 1):
            rows = (k == number) & (m == against)
            groupings = [at % number] if number == against else [at % number, at % against]
            difference.append(tuned((of_one + noise[0] - of_other - noise[1])[rows], *groupings))
    assert both.sum() == sum(len(mean) for mean, _, _ in difference)
    repeats = {}
    for number in (3, 5):
        again = searches(rng, runs * number, top, rerank).ood[:, 0].reshape(runs, number)
        label = np.arange(2 * number) // 2
        values = again[:, label] + OF_OOD * rng.standard_normal((runs, 2 * number))
        repeats[number] = cover(tuned(values, label), truth)
    return Tuned(
        float(told.mean()), float(chosen.std()), cover(usual((one.ood[:, :1] + noise[0])[told]), truth),
        cover(usual((of_one + noise[0])[told]), truth), cover(_joined(mine), truth), cover(_joined(difference), 0),
        repeats,
    )  # fmt: skip


def _joined(ends: Sequence[Ends]) -> Ends:
    mean, lo, hi = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    return mean, lo, hi


def generator(*parts: str | int) -> np.random.Generator:
    return np.random.default_rng(draws.seed_of(*parts))


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
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--only", choices=parts)
    given = parser.parse_args()
    for name, part in parts.items():
        if given.only in (None, name):
            part(given.runs)


if __name__ == "__main__":
    main()
