"""How a trial went: where and when it ran, and all its epochs. The file of its rows carries this.

The tables `trials` and `epochs` of a sweep are made of it. Files from before it was kept have rows alone.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from saeft_ray.errors import Damaged

KEY = "course.json"  # of a Parquet file's metadata
SPEC = "spec.json"
_FIXED = pa.schema(
    [
        ("trial", pa.string()),
        ("phase", pa.string()),
        ("method", pa.string()),
        ("configuration", pa.string()),
        ("seed", pa.int64()),
        ("number", pa.int64()),
        ("status", pa.string()),
        ("selection", pa.float64()),
        ("epochs", pa.int64()),
        ("seconds", pa.float64()),
        ("node", pa.string()),
        ("device", pa.string()),
        ("began", pa.timestamp("s", "UTC")),
        ("ended", pa.timestamp("s", "UTC")),
        ("taken_from", pa.string()),
        ("error", pa.string()),
    ]
)
_EPOCHS = pa.schema(
    [
        ("trial", pa.string()),
        ("phase", pa.string()),
        ("method", pa.string()),
        ("configuration", pa.string()),
        ("seed", pa.int64()),
        ("epoch", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)


class Course(NamedTuple):
    """`began` and `ended` are seconds since 1970, of the attempt that ended the trial; `epochs` have the fields of
    `training.loop.Epoch`. `taken_from` names the trial of another sweep whose work it is, if it was not run again."""

    node: str
    device: str
    began: float
    ended: float
    epochs: list[dict[str, Any]]
    taken_from: str | None = None

    def json(self) -> str:
        return json.dumps(self._asdict())


def course_of(table: pa.Table, shown: str) -> Course | None:
    """What the file of `table` carries; None in files of before. Raises Damaged."""
    text = (table.schema.metadata or {}).get(KEY.encode())
    if text is None:
        return None
    try:
        return Course(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise Damaged(f"{shown}: how its trial went cannot be read ({error})") from error


def trials_table(files: Mapping[str, pa.Table]) -> pa.Table:
    """One line a trial, of each trial's file by its path: what it came to, where and when it ran, and each value of its
    settings in a column of its own."""
    lines, values = list[dict[str, Any]](), list[dict[str, Any]]()
    for path, table in files.items():
        if not table.num_rows:
            continue
        rows = table.to_pylist()
        line, course = {name: rows[0].get(name) for name in _FIXED.names}, course_of(table, path)
        selection = [row["value"] for row in rows if row["role"] == "selection" and row["metric"] == "accuracy"]
        line |= {"number": number_of(table), "selection": selection[0] if selection else None}
        if course:
            line |= {"node": course.node, "device": course.device, "epochs": len(course.epochs)}
            line |= {"taken_from": course.taken_from}
            line |= {"seconds": course.ended - course.began}
            line |= {name: datetime.fromtimestamp(getattr(course, name), UTC) for name in ("began", "ended")}
        lines.append(line)
        values.append(dict(scalars(json.loads(rows[0]["settings"]))))
    table = pa.Table.from_pylist(lines, schema=_FIXED)
    for name in sorted({name for one in values for name in one}):
        table = table.append_column(f"settings_{name}" if name in _FIXED.names else name, _column(values, name))
    return table


def epochs_table(files: Mapping[str, pa.Table]) -> pa.Table:
    """One line for each number of each epoch of each trial: `loss.*`, `selection` where it is known, `lr`, `seconds`,
    `clipped`, and monitors."""
    lines = []
    for path, table in files.items():
        course = course_of(table, path)
        if course is None or not table.num_rows:
            continue
        about = table.select(["trial", "phase", "method", "configuration", "seed"]).slice(0, 1).to_pylist()[0]
        for epoch in course.epochs:
            found = numbers_of(epoch).items()
            lines += [{**about, "epoch": epoch["epoch"], "metric": name, "value": value} for name, value in found]
    return pa.Table.from_pylist(lines, schema=_EPOCHS)


def numbers_of(epoch: Mapping[str, Any]) -> dict[str, float]:
    """What was measured in one epoch of a course, by the names that the table `epochs` has."""
    numbers: dict[str, float] = {f"loss.{name}": value for name, value in epoch["terms"].items()}
    numbers |= {name: epoch[name] for name in ("selection", "lr", "seconds", "clipped") if epoch.get(name) is not None}
    numbers |= epoch.get("monitors", {})
    return numbers


def number_of(table: pa.Table) -> int | None:
    """The number of a trial by the file of its rows; None in files of before."""
    spec = json.loads((table.schema.metadata or {}).get(SPEC.encode(), b"{}"))
    number: int | None = spec.get("number")
    return number


def scalars(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a method, those inside others too, by the names that the table `trials` has."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{before}{name}_")
        elif value is not None:
            yield f"{before}{name}", value


def _column(values: Iterable[Mapping[str, Any]], name: str) -> pa.Array:
    """Numbers where all are; else text."""
    found = [one.get(name) for one in values]
    if all(isinstance(each, int | float) and not isinstance(each, bool) for each in found if each is not None):
        return pa.array([None if each is None else float(each) for each in found], pa.float64())
    return pa.array([each if isinstance(each, str | None) else json.dumps(each) for each in found], pa.string())
