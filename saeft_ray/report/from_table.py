"""Anyone's numbers, from a CSV file with one line per run and test set, as the rows of a report."""

import csv
import math
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from saeft_ray.errors import UserError
from saeft_ray.records.rows import Row, table
from saeft_ray.report.numbers import in_list

_NEEDED = ("method", "seed", "dataset", "accuracy")


def read_table(
    path: Path, baseline: str | None, identity: Iterable[str], alpha: float, **rules: Any
) -> tuple[pa.Table, dict[str, Any]]:
    """The rows and the record of a CSV file with the columns method, seed, dataset, accuracy and maybe role.

    `identity` names the ID sets where no `role` column does (`id` or `ood`); all others are OOD sets. An empty seed is
    a method without training, an empty accuracy a run that failed. `rules` are further entries of a sweep file's
    section `report`: margin, variance, compare, lines. Raises UserError, with the line, for what it cannot read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a text file ({error})") from error
    lines = list(csv.DictReader(text.splitlines()))
    columns = lines[0].keys() if lines else set()
    if absent := [name for name in _NEEDED if name not in columns]:
        raise UserError(f"{path}: needs lines under the columns {in_list(_NEEDED)}; missing: {in_list(absent)}")
    datasets = list(dict.fromkeys(_cell(line, "dataset") for line in lines))
    identity = set(identity)
    if unknown := sorted(identity - set(datasets)):
        raise UserError(f"--id {in_list(unknown)}: no such dataset; the table has {in_list(datasets)}")
    roles = {name: "id" if name in identity else "ood" for name in datasets}
    rows, given = [], dict[str, str]()
    for number, line in enumerate(lines, 2):
        place = f"{path}, line {number}"
        role = _cell(line, "role").lower()
        if role and role not in ("id", "ood"):
            raise UserError(f"{place}: role {role!r}; allowed: id, ood")
        if role and not identity:
            dataset = _cell(line, "dataset")
            if given.setdefault(dataset, role) != role:
                raise UserError(f"{place}: {dataset} is {role} here and {given[dataset]} above")
            roles[dataset] = role
        rows.append(_row(line, place, path.stem))
    methods = list(dict.fromkeys(row.method for row in rows))
    if baseline is None:
        raise UserError(f"--baseline is missing: which of {in_list(methods)} are the others compared with?")
    rows = [_with_role(row, roles) for row in rows]
    record = {
        "name": path.stem,
        "source": f"{path.name}, SHA-256 {sha256(path.read_bytes()).hexdigest()[:16]}",
        "config": {
            "methods": {name: {"type": "table"} for name in methods},
            "report": {"baseline": baseline, "alpha": alpha, **rules},
        },
        "data": {"roles": roles},
    }
    return table(rows), record


def _row(line: Mapping[str, Any], place: str, name: str) -> Row:
    method, dataset, seed, text = (_cell(line, column) for column in ("method", "dataset", "seed", "accuracy"))
    if not method or not dataset:
        raise UserError(f"{place}: method and dataset must not be empty")
    try:
        number = int(seed) if seed else None
    except ValueError:
        raise UserError(
            f"{place}: seed {seed!r} is not a whole number; leave it empty for a method without one"
        ) from None
    try:
        value = float(text) if text else math.nan
    except ValueError:
        raise UserError(f"{place}: accuracy {text!r} is not a number; leave it empty for a run that failed") from None
    if not math.isnan(value) and not 0 <= value <= 1:
        hint = "; it looks like a percentage, divide by 100" if 1 < value <= 100 else ""
        raise UserError(f"{place}: accuracy {text} is not a fraction in [0, 1]{hint}")
    failed = math.isnan(value)
    return Row(
        sweep=name, phase="confirm", method=method, configuration=method, settings="{}", seed=number,
        trial=f"{method}-{seed}", dataset=dataset, role="ood", metric="accuracy", value=None if failed else value,
        status="failed" if failed else "ok", error="no accuracy in the table" if failed else None,
    )  # fmt: skip


def _with_role(row: Row, roles: Mapping[str, str]) -> Row:
    return Row(**{**row.__dict__, "role": roles[row.dataset]})


def _cell(line: Mapping[str, Any], column: str) -> str:
    return str(line.get(column) or "").strip()
