"""`python -m saeft_ray.trial STORAGE TRIAL`: replays any trial of a sweep, compares its rows with the recorded ones."""

import argparse
import sys

from saeft_ray.orchestration.reopen import reopen
from saeft_ray.orchestration.trial import EpochReport, run
from saeft_ray.records.rows import Row
from saeft_ray.training.worker import Worker


def main(arguments: list[str] | None = None) -> int:
    """Replays a recorded trial. Exit status: 0 equal rows, 1 different rows, 2 the user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.trial", description="Replay one trial of a sweep.")
    parser.add_argument("storage", help="the sweep's folder, as `python -m saeft_ray.sweep` printed it")
    parser.add_argument("trial", help="a trial of the results table")
    options = parser.parse_args(arguments)
    try:
        plan, ledger, store = reopen(options.storage)
        spec = ledger.spec(options.trial)
        recorded = ledger.rows(options.trial)
    except FileNotFoundError:
        print(f"{options.storage}: no finished trial {options.trial!r} there; see the trial column of its results")
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{spec.id}: {spec.method} with seed {spec.seed}, settings {spec.values}")
    replayed: list[Row] = []
    worker = Worker.of(plan.config.compute)
    for item in run(plan, spec, store, worker, replay=True):
        if isinstance(item, EpochReport):
            epoch = item.epoch
            print(f"epoch {epoch.epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in epoch.terms.items()))
        else:
            replayed = item.rows
    return _compare(recorded, replayed)


def _compare(recorded: list[Row], replayed: list[Row]) -> int:
    """Prints where two runs of a trial differ; seconds always do."""
    before = {(row.dataset, row.metric): row for row in recorded if row.metric != "seconds"}
    after = {(row.dataset, row.metric): row for row in replayed if row.metric != "seconds"}
    different = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    for key in different:
        values = [row.value if row else "absent" for row in (before.get(key), after.get(key))]
        print(f"{' '.join(key)}: recorded {values[0]}, replayed {values[1]}")
    print(f"{len(before) - len(different)} of {len(before)} rows equal the recorded ones")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
