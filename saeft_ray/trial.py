"""`python -m saeft_ray.trial STORAGE TRIAL`: replays any trial of a sweep, compares its rows with the recorded ones."""

import argparse
import sys

from saeft_ray import door
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.orchestration.replay import recorded, replay
from saeft_ray.orchestration.trial import EpochReport


def main(arguments: list[str] | None = None) -> int:
    """Replays a recorded trial. Exit status: 0 equal rows, 1 different rows, else as `door.guarded`."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.trial", description="Replay one trial of a sweep.")
    parser.add_argument("storage", help="the sweep's folder, as `python -m saeft_ray.sweep` printed it")
    parser.add_argument("trial", help="a trial of the results table")
    options = parser.parse_args(arguments)
    return door.guarded(lambda: _replay(options.storage, options.trial))


def _replay(storage: str, name: str) -> int:
    plan, ledger, store = reopen(storage)
    spec, _ = recorded(ledger, name)
    print(f"{spec.id}: {spec.method} with seed {spec.seed}, settings {spec.values}")
    comparison = replay(plan, ledger, store, name, _show)
    print(comparison)
    return 0 if comparison.equal else 1


def _show(report: EpochReport) -> None:
    epoch = report.epoch
    print(f"epoch {epoch.epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in epoch.terms.items()))


if __name__ == "__main__":
    sys.exit(main())
