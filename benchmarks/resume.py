"""How long a sweep with many finished trials takes until its first new trial could start.

    python benchmarks/resume.py [--trials N] [--s3]

Writes a ledger of search, rerank and confirm trials with rows as large as in digit world, then times what the same
command does before anything runs: the lease, checking every file, the record, the studies, the choice; and how long
`python -m saeft_ray.status` takes. With `--s3`, on the S3 server of the tests.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from saeft_ray.config.sweep_file import parse
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import read_rows
from saeft_ray.records.rows import pack
from saeft_ray.records.state import read_state
from saeft_ray.storage.store import Store

import s3_server

SWEEP = """
name: resumed
storage: {storage}
model: {{arch: digit-clip, pretrained: shipped}}
data: {{type: digit_world}}
train: {{epochs: 1}}
methods: {{ft: , mse: {{lambda_mse: {{low: 1, high: 1000}}}}, l1: {{lambda_l1: {{low: 1, high: 1000}}}}}}
search: {{trials: {search}}}
rerank: {{top: 2, seeds: 2}}
confirm: {{seeds: {seeds}}}
"""


class Instant:
    """A runner whose trials end at once, with rows of the usual size."""

    def __init__(self, plan: Plan, ledger: Ledger):
        self.plan, self.ledger, self.ran = plan, ledger, 0

    def build(self, artifacts, watcher):
        pass

    def run(self, queue, watcher):
        while queue.remaining:
            spec = queue.ask()
            self.ran += 1
            sets = {"selection": "selection", **(self.plan.config.data.test_sets() if spec.phase == "confirm" else {})}
            draw = np.random.default_rng(spec.number)
            rows = []
            for dataset, role in sets.items():
                right = draw.random(500) < 0.8
                rows.append(
                    spec.row("resumed", dataset, role, "accuracy", float(right.mean()), n=500, correct=pack(right))
                )
            rows += [spec.row("resumed", "train", "train", f"number {i}", 0.5) for i in range(12)]
            self.ledger.begin_trial(spec)
            self.ledger.finish(spec, rows)
            queue.tell(spec, rows[0].value)


def resume(plan: Plan, store: Store) -> int:
    """What `python -m saeft_ray.sweep` does before a trial starts; how many it would run."""
    with Lease(store, "sweeps/resumed") as lease:
        ledger = Ledger(store, "resumed", lease.token)
        ledger.begin(None)
        ledger.register(record_of(plan, None))
        runner = Instant(plan, ledger)
        run_phases(plan, ledger, runner, Quiet())
    return runner.ran


def measure(storage: str, trials: int) -> None:
    config = parse(SWEEP.format(storage=storage, search=trials // 4, seeds=trials // 6))
    plan = Plan(config, find_facts(config))
    began = time.perf_counter()
    written = resume(plan, Store(storage))
    wrote = time.perf_counter() - began
    began = time.perf_counter()
    ran = resume(plan, Store(storage))
    resumed = time.perf_counter() - began
    assert ran == 0
    began = time.perf_counter()
    rows = read_rows(f"{storage}/sweeps/resumed").num_rows
    table = time.perf_counter() - began
    began = time.perf_counter()
    state = read_state(f"{storage}/sweeps/resumed")
    asked = time.perf_counter() - began
    assert sum(state.ended.values()) == written
    print(
        f"{written} trials written in {wrote:.1f} s; resumed and ready after {resumed:.1f} s; "
        f"their {rows} rows read in {table:.1f} s; status answered in {asked:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--s3", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not options.s3:
            measure(folder, options.trials)
            return
        server, process = s3_server.start(Path(folder))
        try:
            os.environ |= {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
            os.environ |= {"AWS_ENDPOINT_URL": server.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
            measure(f"s3://{server.bucket()}", options.trials)
        finally:
            s3_server.stop(server, process)


if __name__ == "__main__":
    main()
