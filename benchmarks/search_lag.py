"""How long workers wait in a search, because suggestions wait for results.

    python benchmarks/search_lag.py [--methods M] [--trials N] [--runs R]

Deals the trials of a real `SearchQueue` to simulated workers, for each `search.lag`; the last has no trial that waits.
A trial takes its method's mean, which methods have between 1 and 1.5, times a draw from 0.7 to 1.3. Prints the share of
the time of all workers in which they had nothing to do, in percent, until the last trial ended.
"""

import argparse
import heapq
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from saeft_ray.methods.facts import Facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.search import SearchQueue

import sweeps

FACTS = Facts({"arch": "a", "weights": "w"}, 28, 64, "data", "train", {"train": 1500, "selection": 100, "ID": 100}, 10)


def plan(methods: int, trials: int, lag: int) -> Plan:
    """A search with so many methods, whose one open value has one choice: suggestions cost nothing."""
    made = {f"mse_{i}": {"type": "mse", "lambda_mse": {"choices": [1]}} for i in range(methods)}
    return Plan(sweeps.config("runs", methods={"ft": {}, **made}, search={"trials": trials, "lag": lag}), FACTS)


def idle(made: Plan, workers: int, seed: int) -> float:
    """The share of the workers' time without work."""
    chance, queue = random.Random(seed), SearchQueue(made)
    mean = {label: 1 + chance.random() / 2 for label in made.tunable()}
    running: list[tuple[float, str]] = []
    specs, now, worked = {}, 0.0, 0.0
    while queue.remaining or running:
        spec = queue.ask() if queue.remaining and len(running) < workers else None
        if spec is None:
            now, name = heapq.heappop(running)
            queue.tell(specs[name], 0.5)
            continue
        seconds = mean[spec.method] * (0.7 + 0.6 * chance.random())
        worked += seconds
        specs[spec.id] = spec
        heapq.heappush(running, (now + seconds, spec.id))
    return 1 - worked / (workers * now)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", type=int, default=4)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    lags = (1, 2, 3, 4, options.trials)
    print(f"{options.methods} methods, {options.trials} trials each; idle share in %, mean of {options.runs}")
    print("workers", *(f"lag {lag}" for lag in lags), sep="\t")
    plans = [plan(options.methods, options.trials, lag) for lag in lags]
    for workers in range(1, 9):
        shares = [sum(idle(made, workers, run) for run in range(options.runs)) / options.runs for made in plans]
        print(workers, *(f"{100 * share:.1f}" for share in shares), sep="\t", flush=True)


if __name__ == "__main__":
    main()
