"""`python -m saeft_ray.results STORAGE ["SQL"] [--trials] [--format table|csv|json|md]`: ask a sweep's rows in SQL."""

import argparse
import base64
import csv
import io
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table

from saeft_ray import door
from saeft_ray.errors import UserError
from saeft_ray.features.files import asked_tables
from saeft_ray.records.classes import classes_table, scored
from saeft_ray.records.evaluations import Evaluations
from saeft_ray.records.query import TABLES, asks, course_tables, query, summary
from saeft_ray.records.read import read_record, read_trials, rows_of

_log = logging.getLogger(__name__)
FORMATS = ("table", "csv", "json", "md")
TRIALS = "SELECT * FROM trials ORDER BY phase = 'confirm', phase = 'rerank', method, number, seed"
_DIGITS = 4


def render(names: Sequence[str], lines: Sequence[Sequence[Any]], form: str) -> str:
    """The answer as text in one of `FORMATS`. Only `table` and `md` round: to four significant digits."""
    if form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if value is None else _plain(value) for value in line] for line in lines])
        return out.getvalue()
    if form == "json":
        objects = [dict(zip(names, map(_plain, line), strict=True)) for line in lines]
        return json.dumps(objects, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    if form == "md":
        head = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        body = ["| " + " | ".join(_short(value).replace("|", r"\|") for value in line) + " |" for line in lines]
        return "\n".join([*head, *body]) + "\n"
    return _boxed(names, lines)


def _boxed(names: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for i, name in enumerate(names):
        numeric = any(isinstance(line[i], int | float) for line in lines)
        table.add_column(_literal(name), justify="right" if numeric else "left", no_wrap=True)
    for line in lines:
        table.add_row(*(_literal(_short(value)) for value in line))
    out = io.StringIO()
    # Wide enough that nothing is ever cut: a terminal wraps, a pipe gets whole lines.
    Console(file=out, width=100_000, color_system=None, highlight=False).print(table)
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    return text if (sys.stdout.encoding or "utf-8").lower().startswith("utf") else text.replace("─", "-")


def _literal(text: str) -> str:
    """Text in which rich sees no markup."""
    return text.replace("[", r"\[")


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        if value == 0:
            return "0"
        before = math.floor(math.log10(abs(value))) + 1
        return f"{value:.{_DIGITS}g}" if -3 <= before <= _DIGITS or before < -3 else f"{value:.0f}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value)


def _plain(value: Any) -> Any:
    """A value that JSON and CSV can hold."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def main(arguments: list[str] | None = None, endpoint: str | None = None) -> int:
    """The door; `endpoint` is the S3 server (else the environment's). Exit status: 0, else as `door.guarded`."""
    parser = argparse.ArgumentParser(
        prog="python -m saeft_ray.results",
        description="Ask a sweep's rows in SQL.",
        epilog="Tables: " + "; ".join(f"{name}: {holds}" for name, holds in TABLES.items()) + ".",
    )
    parser.add_argument("storage", metavar="STORAGE", help="the sweep's folder or URL, as the sweep printed it")
    parser.add_argument(
        "sql",
        metavar="SQL",
        nargs="?",
        help="a query on the tables below (default: a summary)",
    )
    parser.add_argument("--trials", action="store_true", help="one line for each trial, with its values as columns")
    parser.add_argument("--format", choices=FORMATS, default="table")
    options = parser.parse_args(arguments)
    if options.trials and options.sql:
        parser.error("--trials asks for all trials: leave out the SQL, or ask the table `trials` in SQL")
    sql = TRIALS if options.trials else options.sql
    return door.guarded(lambda: _answer(options.storage, sql, options.format, endpoint))


def _answer(storage: str, sql: str | None, form: str, endpoint: str | None) -> int:
    record = read_record(storage, endpoint)
    asked = sql or summary(record)
    files = read_trials(storage, endpoint)
    names, lines = query(rows_of(files), asked, further_tables(asked, files, storage, endpoint))
    sys.stdout.write(render(names, lines, form))
    return 0


def further_tables(
    sql: str, files: Mapping[str, pa.Table], storage: str, endpoint: str | None = None
) -> dict[str, pa.Table]:
    """The tables that `sql` names in addition to `results` and `examples`; `files` is what `read_trials` gave. Raises
    UserError for one that cannot be made."""
    found = {**asked_tables(sql, storage, endpoint), **course_tables(sql, files)}
    if asks(sql, "evaluations"):
        found["evaluations"] = Evaluations(storage, endpoint).table()
    if asks(sql, "classes"):
        found["classes"] = _classes(rows_of(files), storage, endpoint)
    return found


def _classes(rows: pa.Table, storage: str, endpoint: str | None) -> pa.Table:
    """The table `classes`, of the sets whose labels are at hand; a warning names the others."""
    from saeft_ray.features.examples import labels_of
    from saeft_ray.orchestration.reopen import reopen

    plan, _, store = reopen(storage, endpoint)
    labels, absent = {}, []
    bits = scored(rows)
    for name, order in dict(zip(bits["dataset"].to_pylist(), bits["examples"].to_pylist(), strict=True)).items():
        try:
            labels[name] = labels_of(plan, store, name, order)
        except UserError as error:
            absent.append(f"{name} ({' '.join(str(error).split())})")
    words = f"the labels of these sets are not at hand, so `classes` lacks them: {'; '.join(absent)}"
    if absent and not labels:
        raise UserError(f"{storage}: {words}; ask where the sweep's data can be read")
    if absent:
        _log.warning("%s", words)
    return classes_table(rows, labels, plan.config.data.class_names())


if __name__ == "__main__":
    sys.exit(main())
