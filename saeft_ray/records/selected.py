"""What trials came to on the selection split, which chooses configurations: from their rows."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from saeft_ray.records.rows import Row


class Selection(NamedTuple):
    """The numbers of trials on the selection split by metric, None for what failed; `stopped` are those that somebody
    stopped on purpose."""

    numbers: dict[str, dict[str, float | None]]
    stopped: set[str]


def selection_of(trials: Mapping[str, list[Row]]) -> Selection:
    """The same of the rows of trials, by name."""
    found = Selection({}, set())
    for trial, rows in trials.items():
        found.numbers[trial] = {row.metric: row.value for row in rows if row.role == "selection"}
        accuracy = selected(rows)
        if accuracy.status == "stopped" and accuracy.value is None:
            found.stopped.add(trial)
    return found


def selected(rows: Iterable[Row]) -> Row:
    """The row of the selection accuracy of a trial."""
    (row,) = (row for row in rows if row.role == "selection" and row.metric == "accuracy")
    return row
