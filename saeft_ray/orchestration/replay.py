"""One trial of a sweep run again, and where its rows differ from the recorded ones."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from saeft_ray.errors import UserError
from saeft_ray.orchestration import trial
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import Row
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.training.worker import Worker


class Difference(NamedTuple):
    """A row that differs; `recorded` or `replayed` is None where there is no such row. Rows of equal values may differ
    in their examples."""

    dataset: str
    metric: str
    recorded: Row | None
    replayed: Row | None


@dataclass(frozen=True)
class Comparison:
    """The recorded rows of a trial and those of its replay. Seconds always differ and are left out."""

    trial: str
    rows: int  # recorded rows that were compared
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether every row is the same to the last bit."""
        return not self.differences

    def __str__(self) -> str:
        lines = [
            f"{d.dataset} {d.metric}: recorded {_value(d.recorded)}, replayed {_value(d.replayed)}"
            for d in self.differences
        ]
        missing = sum(d.recorded is None for d in self.differences)
        equal = self.rows - len(self.differences) + missing
        return "\n".join([*lines, f"{equal} of {self.rows} rows equal the recorded ones"])


def recorded(ledger: Ledger, name: str) -> tuple[TrialSpec, list[Row]]:
    """The spec and the rows of a finished trial. Raises UserError if there is none of that name."""
    try:
        return ledger.spec(name), ledger.all_rows(name)
    except FileNotFoundError:
        raise UserError(ledger.no_trial(name)) from None


def replay(
    plan: Plan,
    ledger: Ledger,
    store: Store,
    name: str,
    on_epoch: Callable[[trial.EpochReport], None] = lambda report: None,
) -> Comparison:
    """Runs trial `name` again and compares. Nothing is written. Raises UserError if there is no such finished trial."""
    spec, before = recorded(ledger, name)
    after: list[Row] = []
    for item in trial.run(plan, spec, store, Worker.of(plan.config.compute), replay=True):
        if isinstance(item, trial.EpochReport):
            on_epoch(item)
        else:
            after = item.rows
    # A set that the data set got with a later version is no difference.
    known = {row.dataset for row in before} | {"selection", "train"} | ledger.record()["data"]["roles"].keys()
    old, new = _compared(before), _compared(row for row in after if row.dataset in known)
    different = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return Comparison(name, len(old), tuple(Difference(*key, old.get(key), new.get(key)) for key in different))


def _compared(rows: Iterable[Row]) -> Mapping[tuple[str, str], Row]:
    return {(row.dataset, row.metric): row for row in rows if row.metric != "seconds"}


def _value(row: Row | None) -> object:
    return row.value if row else "absent"
