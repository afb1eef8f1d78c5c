"""Anyone's numbers, from a CSV file with one line per run and test set or one per run, as the rows of a report."""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from saeft_ray.errors import UserError
from saeft_ray.records.rows import Row, table
from saeft_ray.report.numbers import in_list
from saeft_ray.report.scores import METRIC
from saeft_ray.report.table_cells import Cell, Numbers, read_cells
from saeft_ray.spelling import difference, minus, other_spelling, sounds
from saeft_ray.table_file import Line

# pandas writes the seeds of a column with gaps as 0.0, 1.0, …
_WHOLE = {".": re.compile(r"[0-9]+(\.0*)?"), ",": re.compile(r"[0-9]+(,0*)?")}
_EXACT = 2**53
_LAST = 2**63 - 1


def read_table(
    path: Path, baseline: str | None, identity: Iterable[str], alpha: float, metric: str = METRIC,
    percent: bool = False, **rules: Any,
) -> tuple[pa.Table, dict[str, Any]]:  # fmt: skip
    """The rows and the record of a CSV file with the columns method, seed, dataset, `metric` and maybe role; or with
    method, seed and one column for each test set.

    `identity` names the ID sets where no `role` column does (`id` or `ood`); all others are OOD sets. An empty seed is
    a method without training, an empty number (or `nan`) a run that failed. Numbers are fractions, or percentages
    where each has the sign or `percent` says so; decimal commas are read where no comma separates cells. `rules` are
    further entries of a sweep file's section `report`: margin, variance, compare, lines. Raises UserError, with the
    file's line and column, for what it cannot read and for lines that contradict each other.
    """
    metric = " ".join(metric.split())
    numbers = read_cells(str(path), _text(path), metric, percent)
    cells = numbers.cells
    _check_names([(cell, cell.line.cells["method"]) for cell in cells], "method")
    _check_names([(cell, cell.dataset) for cell in cells], "dataset")
    methods = list(dict.fromkeys(cell.line.cells["method"] for cell in cells))
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    roles = _roles(cells, datasets, set(identity))
    rows = [_row(cell, path.stem, roles, metric, numbers) for cell in cells]
    _check_seeds(cells, rows, metric)
    if baseline is None:
        raise UserError(f"--baseline is missing: which of {in_list(methods)} are the others compared with?")
    record = {
        "name": path.stem,
        "source": f"{path.name}, SHA-256 {sha256(path.read_bytes()).hexdigest()[:16]}{_read_as(numbers, metric)}",
        "metric": metric,
        "unused_columns": list(numbers.unused),
        "config": {
            "methods": {name: {"type": "table"} for name in methods},
            "report": {"baseline": _named("--baseline", baseline, methods), "alpha": alpha, **rules},
        },
        "data": {"roles": roles},
    }
    return table(rows), record


def _read_as(numbers: Numbers, metric: str) -> str:
    """How the file was read where it is not the plain form, as words after its name."""
    ways = {
        "a column is a test set": numbers.wide,
        "numbers have decimal commas": numbers.dialect.comma,
        f"{'accuracies' if metric == METRIC else f'values of {metric}'} are percents": numbers.dialect.percent,
    }
    said = [words for words, is_so in ways.items() if is_so]
    return f" ({in_list(said)})" if said else ""


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        words = "save it from the spreadsheet as “CSV UTF-8”"
        raise UserError(f"{path}: is not text in UTF-8 ({error}); {words}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a text file ({error})") from error


def _check_names(named: Iterable[tuple[Cell, str]], column: str) -> None:
    """Refuses names that are missing, of several lines, or spelled in two ways."""
    first: dict[str, tuple[int, str]] = {}
    for (line, *_), name in named:
        if not name:
            raise UserError(f"{line.place}: {column} is empty; every line names its method and its dataset")
        if len(name.splitlines()) > 1 or not name.isprintable():
            raise UserError(f"{line.place}: {column} {name!r} contains a line break or another unseen character")
        number, other = first.setdefault(sounds(name), (line.number, name))
        if other != name:
            raise UserError(
                f"{line.place}: {column} {name!r} differs from {other!r} in line {number} only in "
                f"{difference(name, other)}; write one name in one way, or two that differ in more"
            )


def _roles(cells: Sequence[Cell], datasets: list[str], identity: set[str]) -> dict[str, str]:
    """The role of every dataset, by its lines or by the option; refused where these contradict each other."""
    identity = {_named("--id", name, datasets, "dataset") for name in identity}
    said: dict[str, Line] = {}
    for line, _, name, _ in cells:
        role = line.cells.get("role", "").lower()
        if role not in ("", "id", "ood"):
            raise UserError(f"{line.place}, column role: {role!r}; allowed: id, ood")
        if not role:
            continue
        known = said.setdefault(name, line)
        if (above := known.cells["role"].lower()) != role:
            raise UserError(f"{line.place}, column role: {name} is {role} here and {above} in line {known.number}")
        if identity and (role == "id") != (name in identity):
            raise UserError(
                f"{line.place}, column role: {name} is {role} here, but --id names {in_list(sorted(identity))}; "
                "leave out the option, or the column"
            )
    if said and not identity and (silent := [name for name in datasets if name not in said]):
        raise UserError(
            f"{next(cell.line.place for cell in cells if cell.dataset == silent[0])}, column role: {silent[0]} has "
            "no role in any line, and other datasets have one; give id or ood"
        )
    given = {name: line.cells["role"].lower() for name, line in said.items()}
    return {name: given.get(name) or ("id" if name in identity else "ood") for name in datasets}


def _row(cell: Cell, name: str, roles: Mapping[str, str], metric: str, numbers: Numbers) -> Row:
    method, dataset = cell.line.cells["method"], cell.dataset
    seed, value = _seed(cell.line, "," if numbers.dialect.comma else "."), numbers.dialect.value(cell)
    failed = value is None
    return Row(
        sweep=name, phase="confirm", method=method, configuration=method, settings="{}", seed=seed,
        trial=f"{method}-{'' if seed is None else seed}", dataset=dataset, role=roles[dataset], metric=metric,
        value=value, status="failed" if failed else "ok", error=f"no {metric} in the table" if failed else None,
    )  # fmt: skip


def _seed(line: Line, mark: str) -> int | None:
    text = line.cells["seed"]
    if not text:
        return None
    start = f"{line.place}, column seed: {text!r}"
    allowed = f"allowed: 0 to {_LAST}, or nothing for a method without training"
    if not _WHOLE[mark].fullmatch(text):
        signed = minus(text).startswith("-") and _WHOLE[mark].fullmatch(minus(text)[1:])
        raise UserError(f"{start} is {'negative' if signed else 'not a whole number'}; {allowed}")
    digits, point, _ = text.partition(mark)
    digits = digits.lstrip("0") or "0"
    if len(digits) > len(str(_LAST)) or int(digits) > _LAST:
        raise UserError(f"{start} is too large; {allowed}")
    if point and int(digits) >= _EXACT:
        raise UserError(f"{start} is a rounded number: with a decimal point it keeps 15 digits; write it without one")
    return int(digits)


def _check_seeds(cells: Sequence[Cell], rows: Sequence[Row], metric: str) -> None:
    """Refuses a run that is given twice, and a method both with and without seeds."""
    seen: dict[tuple[str, int | None, str], Cell] = {}
    first: dict[str, tuple[Line, int | None]] = {}
    for cell, row in zip(cells, rows, strict=True):
        line = cell.line
        known = seen.setdefault((row.method, row.seed, row.dataset), cell)
        seed = "without a seed" if row.seed is None else f"seed {row.seed}"
        if known is not cell:
            raise UserError(
                f"{line.place}: method {row.method}, {seed}, dataset {row.dataset} is already in line "
                f"{known.line.number} ({metric} {known.text or 'empty'}, here {cell.text or 'empty'}); keep one"
            )
        other, its_seed = first.setdefault(row.method, (line, row.seed))
        if (its_seed is None) != (row.seed is None):
            there = "no seed" if its_seed is None else f"seed {its_seed}"
            here = "no seed" if row.seed is None else f"seed {row.seed}"
            raise UserError(
                f"{line.place}, column seed: method {row.method} has {here} here and {there} in line {other.number}; "
                "give every run its seed, or none if the method has no training"
            )


def _named(option: str, name: str, known: Sequence[str], what: str = "method") -> str:
    """`name`, which must be one of `known`."""
    if name not in known:
        near = other_spelling(name, known)
        hint = "" if near is None else f"; {near!r} differs from it only in {difference(name, near)}"
        raise UserError(f"{option} {name}: no such {what}; the table has {in_list(known)}{hint}")
    return name
