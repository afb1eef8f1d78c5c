"""Anyone's numbers, from a CSV file with one line per run and test set, as the rows of a report."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from saeft_ray.errors import UserError
from saeft_ray.records.rows import Row, table
from saeft_ray.report.numbers import in_list
from saeft_ray.spelling import difference, minus, other_spelling, sounds
from saeft_ray.table_file import Line, parse

_NEEDED = ("method", "seed", "dataset", "accuracy")
_WHOLE = re.compile(r"[0-9]+(\.0*)?")  # pandas writes the seeds of a column with gaps as 0.0, 1.0, …
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EXACT = 2**53
_LAST = 2**63 - 1


def read_table(
    path: Path, baseline: str | None, identity: Iterable[str], alpha: float, **rules: Any
) -> tuple[pa.Table, dict[str, Any]]:
    """The rows and the record of a CSV file with the columns method, seed, dataset, accuracy and maybe role.

    `identity` names the ID sets where no `role` column does (`id` or `ood`); all others are OOD sets. An empty seed is
    a method without training, an empty accuracy (or `nan`) a run that failed. `rules` are further entries of a sweep
    file's section `report`: margin, variance, compare, lines. Raises UserError, with the file's line, for what it
    cannot read and for lines that contradict each other.
    """
    lines, unused = parse(str(path), _text(path), _NEEDED, ("role",))
    _check_names(lines, "method")
    _check_names(lines, "dataset")
    methods, datasets = (list(dict.fromkeys(line.cells[column] for line in lines)) for column in ("method", "dataset"))
    roles = _roles(lines, datasets, set(identity))
    _check_scale(lines)
    rows = [_row(line, path.stem, roles) for line in lines]
    _check_seeds(lines, rows)
    if baseline is None:
        raise UserError(f"--baseline is missing: which of {in_list(methods)} are the others compared with?")
    record = {
        "name": path.stem,
        "source": f"{path.name}, SHA-256 {sha256(path.read_bytes()).hexdigest()[:16]}",
        "unused_columns": list(unused),
        "config": {
            "methods": {name: {"type": "table"} for name in methods},
            "report": {"baseline": _named("--baseline", baseline, methods), "alpha": alpha, **rules},
        },
        "data": {"roles": roles},
    }
    return table(rows), record


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        words = "save it from the spreadsheet as “CSV UTF-8”"
        raise UserError(f"{path}: is not text in UTF-8 ({error}); {words}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a text file ({error})") from error


def _check_names(lines: Sequence[Line], column: str) -> None:
    """Refuses names that are missing, of several lines, or spelled in two ways."""
    first: dict[str, Line] = {}
    for line in lines:
        name = line.cells[column]
        if not name:
            raise UserError(f"{line.place}: {column} is empty; every line names its method and its dataset")
        if len(name.splitlines()) > 1 or not name.isprintable():
            raise UserError(f"{line.place}: {column} {name!r} contains a line break or another unseen character")
        known = first.setdefault(sounds(name), line)
        if (other := known.cells[column]) != name:
            raise UserError(
                f"{line.place}: {column} {name!r} differs from {other!r} in line {known.number} only in "
                f"{difference(name, other)}; write one name in one way, or two that differ in more"
            )


def _roles(lines: Sequence[Line], datasets: list[str], identity: set[str]) -> dict[str, str]:
    """The role of every dataset, by its lines or by the option; refused where these contradict each other."""
    identity = {_named("--id", name, datasets, "dataset") for name in identity}
    said: dict[str, Line] = {}
    for line in lines:
        name, role = line.cells["dataset"], line.cells.get("role", "").lower()
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
            f"{next(line.place for line in lines if line.cells['dataset'] == silent[0])}, column role: {silent[0]} has "
            "no role in any line, and other datasets have one; give id or ood"
        )
    given = {name: line.cells["role"].lower() for name, line in said.items()}
    return {name: given.get(name) or ("id" if name in identity else "ood") for name in datasets}


def _check_scale(lines: Sequence[Line]) -> None:
    """Refuses percentages, and says whether the whole column has them."""
    values = [(line, float(text)) for line in lines if _DECIMAL.fullmatch(text := minus(line.cells["accuracy"]))]
    above = [line for line, value in values if 1 < value <= 100]
    if not above:
        return
    line, hint = above[0], "it looks like a percentage, divide by 100"
    if len(above) < len(values):
        share = f"{len(above)} of {len(values)} accuracies are above 1"
        hint += f"; {share}: fractions and percentages must not be mixed, so say of every line which it is"
    text = line.cells["accuracy"]
    raise UserError(f"{line.place}, column accuracy: {text} is not a fraction in [0, 1]; {hint}")


def _row(line: Line, name: str, roles: Mapping[str, str]) -> Row:
    method, dataset = line.cells["method"], line.cells["dataset"]
    seed, value = _seed(line), _accuracy(line)
    failed = value is None
    return Row(
        sweep=name, phase="confirm", method=method, configuration=method, settings="{}", seed=seed,
        trial=f"{method}-{'' if seed is None else seed}", dataset=dataset, role=roles[dataset], metric="accuracy",
        value=value, status="failed" if failed else "ok", error="no accuracy in the table" if failed else None,
    )  # fmt: skip


def _seed(line: Line) -> int | None:
    text = line.cells["seed"]
    if not text:
        return None
    start = f"{line.place}, column seed: {text!r}"
    allowed = f"allowed: 0 to {_LAST}, or nothing for a method without training"
    if not _WHOLE.fullmatch(text):
        signed = re.fullmatch(r"-[0-9]+(\.0*)?", minus(text))
        raise UserError(f"{start} is {'negative' if signed else 'not a whole number'}; {allowed}")
    digits, point, _ = text.partition(".")
    digits = digits.lstrip("0") or "0"
    if len(digits) > len(str(_LAST)) or int(digits) > _LAST:
        raise UserError(f"{start} is too large; {allowed}")
    if point and int(digits) >= _EXACT:
        raise UserError(f"{start} is a rounded number: with a decimal point it keeps 15 digits; write it without one")
    return int(digits)


def _accuracy(line: Line) -> float | None:
    """The fraction that the line gives; None for a run that failed."""
    text = line.cells["accuracy"]
    if not text or text.lower() == "nan":
        return None
    start = f"{line.place}, column accuracy:"
    if not _DECIMAL.fullmatch(text):
        hint = "allowed: a fraction in [0, 1] such as 0.73, or nothing for a run that failed"
        plain = minus(text)
        if _DECIMAL.fullmatch(text.rstrip("%").rstrip()):
            hint = "it is a percentage: divide by 100 and leave out the sign"
        elif _DECIMAL.fullmatch(text.replace(",", ".")):
            hint = "it has a decimal comma: write a point"
        elif plain != text and _DECIMAL.fullmatch(plain):
            hint = f"its minus is a typographic one: write {plain}"
        raise UserError(f"{start} {text!r} is not a number; {hint}")
    value = float(text)
    if not math.isfinite(value) or not 0 <= value <= 1:
        raise UserError(f"{start} {text} is not a fraction in [0, 1]")
    return value


def _check_seeds(lines: Sequence[Line], rows: Sequence[Row]) -> None:
    """Refuses a run that is given twice, and a method both with and without seeds."""
    seen: dict[tuple[str, int | None, str], Line] = {}
    first: dict[str, tuple[Line, int | None]] = {}
    for line, row in zip(lines, rows, strict=True):
        known = seen.setdefault((row.method, row.seed, row.dataset), line)
        seed = "without a seed" if row.seed is None else f"seed {row.seed}"
        if known is not line:
            raise UserError(
                f"{line.place}: method {row.method}, {seed}, dataset {row.dataset} is already in line {known.number} "
                f"(accuracy {known.cells['accuracy'] or 'empty'}, here {line.cells['accuracy'] or 'empty'}); keep one"
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
