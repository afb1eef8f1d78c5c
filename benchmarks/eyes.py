"""What it costs a trial to be watched: signs of life, the pulse of the driver, and the numbers of its epochs as rows.

    python benchmarks/eyes.py [--trials N]

Runs trials of four epochs in digit world and adds up the time that is spent in what only the watching needs. Prints it
as a share of the trials' time.
"""

import argparse
import functools
import tempfile
import time

from saeft_ray.config.sweep_file import parse
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.pulse import Pulse
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.course import Course
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.store import Store

SWEEP = """
name: watched
storage: {storage}
model: {{arch: digit-clip, pretrained: shipped}}
data: {{type: digit_world}}
train: {{epochs: 4, batch_size: 128}}
methods: {{ft: }}
confirm: {{seeds: {trials}}}
"""
spent = [0.0]


def timed(owner: type, name: str) -> None:
    """Adds the time that a method takes to `spent`."""
    plain = getattr(owner, name)

    @functools.wraps(plain)
    def method(*arguments, **named):
        began = time.perf_counter()
        try:
            return plain(*arguments, **named)
        finally:
            spent[0] += time.perf_counter() - began

    setattr(owner, name, method)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=5)
    options = parser.parse_args()
    for owner, name in ((Ledger, "show_life"), (Ledger, "show_progress"), (Course, "json"), (Pulse, "ended")):
        timed(owner, name)
    with tempfile.TemporaryDirectory() as folder:
        config = parse(SWEEP.format(storage=folder, trials=options.trials))
        plan, store = Plan(config, find_facts(config)), Store(folder)
        ledger = Ledger(store, config.name)
        ledger.register(record_of(plan, None))
        with Pulse(Quiet(), ledger) as watcher:
            began = time.perf_counter()
            run_phases(plan, ledger, LocalRunner(plan, store, ledger), watcher)
            whole = time.perf_counter() - began
    print(f"{options.trials} trials of 4 epochs: {whole:.1f} s, of which {100 * spent[0] / whole:.2f} % to be watched")


if __name__ == "__main__":
    main()
