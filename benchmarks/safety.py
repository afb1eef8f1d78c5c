"""What safety costs a trial: verified end points, checkpoints and a checked ledger, at default settings.

    python benchmarks/safety.py [--rounds N]

The same trial as a sweep runs it, and as a replay, which reads the same and writes nothing. Rounds alternate.
"""

import argparse
import statistics
import tempfile
import time

from saeft_ray.config.sweep_file import parse
from saeft_ray.orchestration import artifacts, trial
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.store import Store
from saeft_ray.training.worker import Worker

SWEEP = """
name: safety
storage: {storage}
model: {{arch: digit-clip, pretrained: shipped}}
data: {{type: digit_world}}
train: {{epochs: 4, batch_size: 128, lr: 1e-3}}
methods: {{sae_ft: {{lambda_resid: 300, lambda_add: 300}}}}
report: {{baseline: sae_ft}}
confirm: {{seeds: {rounds}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as storage:
        config = parse(SWEEP.format(storage=storage, rounds=rounds))
        plan, store = Plan(config, find_facts(config)), Store(storage)
        for artifact in plan.artifacts():
            artifacts.ensure(artifact, plan, store, Worker().device)
        ledger = Ledger(store, config.name, lease=1)
        ledger.begin(None)
        specs = plan.confirm(config.methods)
        list(trial.run(plan, specs[0], store, Worker(), replay=True))  # renders the images once
        ratios = []
        for spec in specs:
            began = time.process_time()
            list(trial.run(plan, spec, store, Worker(), replay=True))
            bare = time.process_time() - began
            began = time.process_time()
            ledger.begin_trial(spec)
            for item in trial.run(plan, spec, store, Worker()):
                if isinstance(item, trial.Outcome):
                    ledger.finish(spec, item.rows)
            ratios.append((time.process_time() - began) / bare)
        print(
            f"a trial with all its safety ÷ the bare trial: {statistics.median(ratios):.3f} (CPU time, {rounds} rounds)"
        )


if __name__ == "__main__":
    main()
