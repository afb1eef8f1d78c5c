"""What the tests of features find, where the truth is known, and how often they are wrong.

    python benchmarks/feature_power.py [--runs N] [--sd SD]

Effects over seeds are drawn around known changes and go through `features.testing.assess` as a sweep's do. One feature
in five changed. The others moved too, by no more than the least change, a quarter of them by exactly that. Variances
differ between features; half of the runs' noise may be shared by all features, as one seed moves many of them.
"""

import argparse
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray import draws
from saeft_ray.features.testing import assess

LEAST = 0.1
RATIOS = (1.15, 1.3, 2.0)
SEEDS = (5, 10, 20)


class Told(NamedTuple):
    """Means over runs."""

    false: float  # share of the features found that did not change
    found: float  # share of the features that changed and were found, on their side


def simulate(
    ratio: float, seeds: int, runs: int, sd: float = 0.2, common: float = 0.0, features: int = 300, seed: int = 0
) -> Told:
    """`runs` sweeps of so many seeds and features, a fifth of which hold `ratio` times the mass, or its inverse. `sd`
    is the typical deviation of an effect, in log2, from seed to seed, and `common` the share of its variance that all
    features have in common."""
    generator = np.random.default_rng(draws.seed_of("feature power", seed, ratio, seeds, common))
    false, found = np.zeros(runs), np.zeros(runs)
    changed = np.arange(features) < features // 5
    for run in range(runs):
        mean = _means(ratio, changed, generator)
        noise = sd * np.sqrt(4 / generator.chisquare(4, features))
        each, all_features = generator.standard_normal((seeds, features)), generator.standard_normal((seeds, 1))
        effects = mean + noise * (np.sqrt(1 - common) * each + np.sqrt(common) * all_features)
        told = assess(effects, None, np.ones(features, bool), LEAST)
        verdicts = np.array([told.verdict(feature) for feature in range(features)])
        side = verdicts == np.where(mean > 0, "grew", "shrank")
        said = np.isin(verdicts, ("grew", "shrank"))
        false[run] = (said & ~(changed & side)).sum() / max(1, said.sum())
        found[run] = (changed & side).sum() / changed.sum()
    return Told(float(false.mean()), float(found.mean()))


def _means(ratio: float, changed: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.float64]:
    border = np.log2(1 + LEAST)
    still = generator.uniform(-border, border, len(changed))
    still[generator.random(len(changed)) < 0.25] = border
    sign = generator.choice([-1.0, 1.0], len(changed))
    return np.where(changed, np.log2(ratio) * sign, still)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--sd", type=float, default=0.2)
    given = parser.parse_args()
    print("| change | seeds | found | false of those found | the same with half the variance in common |")
    print("|---|--:|--:|--:|--:|")
    for ratio in RATIOS:
        for seeds in SEEDS:
            alone, shared = (simulate(ratio, seeds, given.runs, given.sd, common) for common in (0.0, 0.5))
            print(f"| {ratio:g}× | {seeds} | {alone.found:.1%} | {alone.false:.1%} | {shared.false:.1%} |", flush=True)


if __name__ == "__main__":
    main()
