"""Small sweeps of digit world for the tests."""

from pathlib import Path
from typing import Any

import yaml

from saeft_ray.config.schema import SweepConfig
from saeft_ray.config.sweep_file import parse
from saeft_ray.methods import Method
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import read_rows
from saeft_ray.storage.store import Store

SMALL: dict[str, Any] = {
    "name": "small",
    "model": {"arch": "digit-clip", "pretrained": "shipped"},
    "data": {"type": "digit_world"},
    "train": {"epochs": 1, "batch_size": 128, "lr": 1e-3, "warmup": 0.15},
    "dictionary": {"width": 128, "k": 8, "steps": 40, "batch_size": 256, "seeds": 2},
    "methods": {
        "zero_shot": {},
        "ft": {},
        "wise_ft": {"of": "ft", "alpha": {"choices": [0.3, 0.6]}},
        "sae_ft": {"lambda_resid": {"low": 30, "high": 3000}, "lambda_add": 300},
    },
    "search": {"trials": 3},
    "rerank": {"top": 2, "seeds": 1},
    "confirm": {"seeds": 2},
}


def config(storage: object, **sections: Any) -> SweepConfig:
    """SMALL with `sections` in place of its own, stored at `storage`."""
    return parse(yaml.safe_dump({**SMALL, "storage": str(storage), **sections}))


def file(path: Path, storage: object, **sections: Any) -> str:
    """The same as a sweep file at `path`."""
    path.write_text(yaml.safe_dump({**SMALL, "storage": str(storage), **sections}))
    return str(path)


def opened(config: SweepConfig) -> tuple[Plan, Store, Ledger]:
    plan = Plan(config, find_facts(config))
    store = Store(config.storage.url, endpoint=config.storage.endpoint)
    ledger = Ledger(store, config.name)
    ledger.register(record_of(plan, None))
    return plan, store, ledger


def run_here(config: SweepConfig) -> tuple[Plan, Ledger, dict[str, Method]]:
    """The whole sweep, serially in this process."""
    plan, store, ledger = opened(config)
    return plan, ledger, run_phases(plan, ledger, LocalRunner(plan, store, ledger), Quiet())


def comparable(url: object) -> list[dict[str, Any]]:
    """The rows of a sweep that do not depend on the machine, in one order."""
    return sorted((row for row in read_rows(str(url)).to_pylist() if row["metric"] != "seconds"), key=str)


class Begun(Quiet):
    """Calls something once two trials of a sweep have been started."""

    def __init__(self, then):
        self.then, self.trials = then, 0

    def started(self, spec):
        self.trials += 1
        if self.trials == 2:
            self.then()
