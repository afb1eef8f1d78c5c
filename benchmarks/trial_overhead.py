"""What a trial costs on Ray Tune beyond its own training and evaluation.

    python benchmarks/trial_overhead.py [--trials N]

Runs one sweep of equal trials on a Ray of its own, one at a time, and compares the interval between the ends of later
trials with the same trials run in this process.
"""

import argparse
import statistics
import tempfile
import time

from saeft_ray.config.sweep_file import parse
from saeft_ray.on_ray.runner import RayRunner
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.store import Store

SWEEP = """
name: overhead
storage: {storage}
model: {{arch: digit-clip, pretrained: shipped}}
data: {{type: digit_world}}
train: {{epochs: 1, batch_size: 128, lr: 1e-3}}
methods: {{ft: }}
confirm: {{seeds: {trials}}}
compute: {{concurrent: 1}}
"""


class Clock(Quiet):
    """Notes when trials end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def ended(self, spec, selection, course=None):
        self.ends.append(time.perf_counter())

    def interval(self) -> float:
        """Median seconds from one end to the next, the first two left out."""
        return statistics.median(b - a for a, b in zip(self.ends[2:], self.ends[3:], strict=False))


def measure(runner_of, trials: int) -> float:
    clock = Clock()
    with tempfile.TemporaryDirectory() as storage:
        config = parse(SWEEP.format(storage=storage, trials=trials))
        plan = Plan(config, find_facts(config))
        store = Store(storage)
        ledger = Ledger(store, config.name)
        ledger.register(record_of(plan, None))
        runner_of(plan, store, ledger, clock)
    return clock.interval()


def on_ray(plan, store, ledger, clock):
    with RayRunner(plan, store, ledger) as runner:
        run_phases(plan, ledger, runner, clock)


def here(plan, store, ledger, clock):
    run_phases(plan, ledger, LocalRunner(plan, store, ledger), clock)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=12)
    trials = parser.parse_args().trials
    alone, nested = measure(here, trials), measure(on_ray, trials)
    print(f"one trial in this process {alone:.2f} s, on Ray Tune {nested:.2f} s: overhead {nested - alone:+.2f} s")


if __name__ == "__main__":
    main()
