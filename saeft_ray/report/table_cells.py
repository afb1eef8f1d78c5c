"""The numbers of a spreadsheet: where each stands, whose it is, and how it is written."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from saeft_ray.errors import UserError
from saeft_ray.report.numbers import in_list
from saeft_ray.spelling import difference, minus, sounds
from saeft_ray.table_file import Line, Table, column_of, header, parse

_RUN = ("method", "seed")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_PERCENT = re.compile(r"\s*%$")
_MIXED = "fractions and percentages must not be mixed"


class Cell(NamedTuple):
    """One number of the file, as it is written there in `line` under the title `column`."""

    line: Line
    column: str
    dataset: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, as words for a message."""
        return f"{self.line.place}, column {self.column}"


class Dialect(NamedTuple):
    """How the numbers of a file are written."""

    comma: bool
    percent: bool

    def value(self, cell: Cell) -> float | None:
        """The fraction that a cell gives; None for a run that failed. Raises UserError for what is no fraction."""
        text = _PERCENT.sub("", cell.text)
        if not text or text.lower() == "nan":
            return None
        plain = _with_point(text, self.comma)
        if plain is None:
            raise UserError(f"{cell.place}: {cell.text!r} is not a number; {_hint(cell.text)}")
        if not math.isfinite(float(plain)) or not 0 <= float(plain) <= (100 if self.percent else 1):
            allowed = "a percentage in [0, 100]" if self.percent else "a fraction in [0, 1]"
            raise UserError(f"{cell.place}: {cell.text} is not {allowed}")
        return float(Decimal(plain).scaleb(-2)) if self.percent else float(plain)


class Numbers(NamedTuple):
    """The numbers of a file, the columns that none rests on, and whether it has a column for each test set."""

    cells: tuple[Cell, ...]
    unused: tuple[str, ...]
    wide: bool
    dialect: Dialect


def read_cells(path: str, text: str, metric: str, percent: bool) -> Numbers:
    """The numbers of a long table (columns method, seed, dataset, `metric` and maybe role) or a wide one (method,
    seed and a column for each test set). `percent`: whoever gives the file says that all are percentages.

    Raises UserError, with the line and the column, for what is neither or could be both.
    """
    key = column_of(metric)
    if not key or not metric.isprintable() or key in (*_RUN, "dataset", "role"):
        raise UserError(f"--metric {metric!r}: give the title of the column that has the values, such as f1")
    columns = header(path, text, _RUN)
    wide = bool(columns) and "dataset" not in columns and key not in columns
    if "dataset" in columns and key not in columns:
        there = in_list(filter(None, columns))
        raise UserError(f"{path}: no column {metric!r}, but {there}; --metric says which column has the values")
    table = parse(path, text, _RUN if wide else (*_RUN, "dataset", key), () if wide else ("role",))
    cells = (
        _wide(table) if wide else [Cell(line, metric, line.cells["dataset"], line.cells[key]) for line in table.lines]
    )
    comma = _decimal_comma(cells, table.delimiter)
    dialect = Dialect(comma, _percent(cells, comma, percent))
    return Numbers(tuple(cells), () if wide else table.unused, wide, dialect)


def _wide(table: Table) -> list[Cell]:
    """The cells under the titles that are neither method nor seed: each is a test set."""
    known: dict[str, str] = {}
    named: list[tuple[int, str]] = []
    for i, title in enumerate(table.titles):
        if column_of(title) in _RUN:
            continue
        filled = next((line for line in table.lines if line.row[i]), None)
        place = f"{table.place}, column {i + 1}"
        if not title and filled is not None:
            there = f"{filled.row[i]!r} stands in line {filled.number}"
            raise UserError(f"{place}: has no title, but {there}; name the test set, or remove the column")
        if not title:
            continue
        if column_of(title) == "role":
            raise UserError(f"{place}: role stands in a table that has no column dataset; say --id instead")
        if filled is None:
            raise UserError(f"{place}: {title!r} has no number in any line; remove the column")
        if sounds(title) in known:
            other = known[sounds(title)]
            how = "is there twice" if other == title else f"differs from {other!r} only in {difference(title, other)}"
            raise UserError(f"{place}: the test set {title!r} {how}; each test set has one column")
        known[sounds(title)] = title
        named.append((i, title))
    if not named:
        allowed = "the columns dataset and accuracy (or --metric), or one column for each test set"
        raise UserError(f"{table.place}: has no numbers; give {allowed}")
    return [Cell(line, title, title, line.row[i]) for line in table.lines for i, title in named]


def _decimal_comma(cells: Sequence[Cell], delimiter: str) -> bool:
    """Whether the numbers have decimal commas, which a table may have that separates its cells by something else.
    Refuses points among them."""
    first: dict[str, Cell] = {}
    for cell in cells:
        text = minus(_PERCENT.sub("", cell.text))
        for mark in ",.":
            if text.count(mark) == 1 and _DECIMAL.fullmatch(text.replace(mark, ".")):
                first.setdefault(mark, cell)
    if "," not in first:
        return False
    comma, point = first[","], first.get(".")
    if delimiter == ",":
        hint = f"{_hint(comma.text)}, or separate the cells by semicolons"
        raise UserError(f"{comma.place}: {comma.text!r} is not a number; {hint}")
    if point is not None:
        other = f"{comma.text} in line {comma.line.number} a decimal comma"
        raise UserError(f"{point.place}: {point.text} has a decimal point, and {other}; write all numbers in one way")
    return True


def _percent(cells: Sequence[Cell], comma: bool, said: bool) -> bool:
    """Whether the numbers are percentages: all have the sign, or that was said and none looks like a fraction.
    Refuses a mixture."""
    read = [(cell, _with_point(minus(_PERCENT.sub("", cell.text)), comma)) for cell in cells]
    numbers = [(cell, abs(float(plain))) for cell, plain in read if plain is not None]
    signed = [cell for cell, _ in numbers if cell.text.endswith("%")]
    bare = [(cell, value) for cell, value in numbers if not cell.text.endswith("%")]
    if said and (small := [cell for cell, value in bare if 0 < value <= 1]):
        cell = small[0]
        raise UserError(
            f"{cell.place}: {cell.text} among percentages could be a fraction; write {cell.text}% if it is a "
            "percentage, multiply it by 100 if it is not, or leave out --percent if all are fractions"
        )
    if signed and bare and not said:
        cell, other = bare[0][0], f"{signed[0].text} in line {signed[0].line.number} has one"
        raise UserError(f"{cell.place}: {cell.text} has no %, and {other}; {_MIXED}, so write all in one way")
    if said or signed:
        return True
    if above := [cell for cell, value in bare if 1 < value <= 100]:
        hint = "it looks like a percentage, divide by 100"
        if len(above) < sum(value > 0 for _, value in bare):
            share = f"{len(above)} of {len(bare)} numbers are above 1"
            hint += f"; {share}: {_MIXED}, so say of every line which it is"
        else:
            hint += ", or say --percent if all are"
        raise UserError(f"{above[0].place}: {above[0].text} is not a fraction in [0, 1]; {hint}")
    return False


def _with_point(text: str, comma: bool) -> str | None:
    """A number as Python reads it; None for what is none."""
    if comma:
        text = text.replace(".", "?").replace(",", ".")
    return text if _DECIMAL.fullmatch(text) else None


def _hint(text: str) -> str:
    plain = minus(text)
    if _DECIMAL.fullmatch(text.replace(",", ".")):
        return "it has a decimal comma: write a point"
    if plain != text and _DECIMAL.fullmatch(plain):
        return f"its minus is a typographic one: write {plain}"
    return "allowed: a fraction in [0, 1] such as 0.73, or nothing for a run that failed"
