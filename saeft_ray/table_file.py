"""A CSV file as lines under named columns, each with its number in the file."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from saeft_ray.errors import UserError

_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


class Line(NamedTuple):
    """One line below the header: where it begins, as words for a message, and its cells by column and in order."""

    place: str
    number: int
    cells: Mapping[str, str]
    row: tuple[str, ...]


class Table(NamedTuple):
    """The lines of a file, the columns that nobody asked for although they hold something, and its header: where it
    is, its titles as they are written, and what separates them."""

    lines: tuple[Line, ...]
    unused: tuple[str, ...]
    place: str
    titles: tuple[str, ...]
    delimiter: str


def parse(path: str, text: str, needed: Sequence[str], maybe: Sequence[str] = (), comments: bool = True) -> Table:
    """The lines of `text`, whose header has the columns `needed` and maybe `maybe`, in any case and order.

    Cells are separated by commas, semicolons or tabs: by the one with which the header has the needed columns. Empty
    lines and, with `comments`, lines that begin with `#` are passed over. Raises UserError, with the line number in the
    file `path`, for a line whose number of cells is not that of the header, and for anything else that is no table.
    """
    delimiter = _delimiter(path, text, needed, comments)
    records = _records(path, text, delimiter, comments)
    number, titles = next(records)
    top = f"{path}, line {number}"
    columns = [column_of(title) for title in titles]
    for column in (*needed, *maybe):
        if columns.count(column) > 1:
            raise UserError(f"{top}: {columns.count(column)} columns named {column}; keep one")
    lines, filled = [], set[int]()
    for number, cells in records:
        place = f"{path}, line {number}"
        if len(cells) != len(columns):
            raise UserError(
                f"{place}: {len(cells)} {'cell' if len(cells) == 1 else 'cells'}, but the header has {len(columns)} "
                f"({', '.join(columns)}), separated by {_DELIMITERS[delimiter]}; give every line as many, and quote a "
                "cell that contains one"
            )
        if comments and cells[0].lstrip().startswith("#"):
            raise UserError(
                f"{place}: begins with # and has as many cells as the header; remove the # if it is a line of the "
                "table, or the line if it is not"
            )
        filled.update(index for index, cell in enumerate(cells) if cell.strip())
        row = tuple(map(str.strip, cells))
        lines.append(Line(place, number, dict(zip(columns, row, strict=True)), row))
    if not lines:
        raise UserError(f"{path}: has no line below its header ({', '.join(columns)}); give at least one")
    unused = [titles[i].strip() for i in sorted(filled) if columns[i] and columns[i] not in (*needed, *maybe)]
    return Table(tuple(lines), tuple(unused), top, tuple(map(str.strip, titles)), delimiter)


def column_of(title: str) -> str:
    """By what name a column is known whose title is `title`."""
    return " ".join(title.split()).casefold()


def header(path: str, text: str, needed: Sequence[str]) -> tuple[str, ...]:
    """The columns of `text`, if they include those `needed` with one of the delimiters; else none."""
    for delimiter in _DELIMITERS:
        try:
            _, titles = next(_records(path, text, delimiter, comments=True), (1, []))
        except UserError:  # quotes that are valid with another delimiter
            continue
        columns = tuple(map(column_of, titles))
        if set(needed) <= set(columns):
            return columns
    return ()


def _records(path: str, text: str, delimiter: str, comments: bool) -> Iterator[tuple[int, list[str]]]:
    """(the line at which it begins, its cells) of everything that is neither empty nor a comment."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns = 0
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: is not CSV ({error}); look at its quotes") from error
        if cells is None:
            return
        comment = comments and cells and cells[0].lstrip().startswith("#") and len(cells) != columns
        if any(cell.strip() for cell in cells) and not comment:
            columns = columns or len(cells)
            yield number, cells


def _delimiter(path: str, text: str, needed: Sequence[str], comments: bool) -> str:
    """The one with which the header has the needed columns. Raises UserError that says what the header has instead."""
    headers: dict[str, tuple[int, list[str]]] = {}
    for delimiter in _DELIMITERS:
        try:
            number, titles = next(_records(path, text, delimiter, comments), (1, []))
        except UserError:  # quotes that are valid with another delimiter
            continue
        headers[delimiter] = number, [title.strip() for title in titles]
        if set(needed) <= set(map(column_of, titles)):
            return delimiter
    delimiter, (number, found) = max(headers.items(), key=lambda item: len(item[1][1]), default=(",", (1, [])))
    if not any(found):
        raise UserError(f"{path}: is empty; give a header with the columns {', '.join(needed)}, and lines below it")
    absent = [name for name in needed if name not in map(column_of, found)]
    by = f", separated by {_DELIMITERS[delimiter]}" if len(found) > 1 else ""
    lacking, there = ", ".join(map(repr, absent)), ", ".join(map(repr, found))
    raise UserError(
        f"{path}, line {number}: needs lines under the columns {', '.join(needed)}; no column {lacking}, but "
        f"{there}{by}; separate cells by commas, semicolons or tabs"
    )
