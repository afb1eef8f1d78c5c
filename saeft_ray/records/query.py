"""SQL on a sweep's rows, which sees the rows and nothing else. Further tables come from whoever asks."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from saeft_ray.errors import UserError
from saeft_ray.records.course import epochs_table, trials_table
from saeft_ray.records.rows import SCHEMA

TABLES = MappingProxyType(
    {
        "results": "a line per trial × dataset × metric",
        "examples": "packed bits of right and wrong examples, per trial × dataset",
        "trials": "a line per trial: its values as columns, node and times",
        "epochs": "a line per trial × epoch × metric",
        "classes": "the accuracy of each trial on each class of each set",
        "features": "a line per feature, where features were found",
        "changes": "a line per feature × method × what it is compared with",
        "firings": "a line per set and class of each of these",
        "evaluations": "what `python -m saeft_ray.evaluate` scored",
    }
)
"""Every table that can be asked, and what it holds."""

QUOTE = "'"
_GUESS = re.compile(r' Did you mean "[^"]*"\?')


def query(
    rows: pa.Table, sql: str, further: Mapping[str, pa.Table] = MappingProxyType({})
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names of the columns and the lines that `sql` gives on `rows` and the `further` tables. Raises UserError for
    SQL that does not run."""
    with _asked(rows, sql, further) as answer:
        return ([], []) if answer is None else (list(answer.columns), answer.fetchall())


def query_table(rows: pa.Table, sql: str, further: Mapping[str, pa.Table] = MappingProxyType({})) -> pa.Table:
    """The same as an Arrow table."""
    with _asked(rows, sql, further) as answer:
        return pa.table({}) if answer is None else answer.to_arrow_table()


def asks(sql: str, table: str) -> bool:
    """Whether `sql` names a table."""
    return bool(re.search(rf"\b{table}\b", sql, re.IGNORECASE))


def course_tables(sql: str, files: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """The tables `trials` and `epochs` of what `read_trials` gave, if `sql` names one of them."""
    made = {"trials": trials_table, "epochs": epochs_table}
    return {name: make(files) for name, make in made.items() if asks(sql, name)}


def summary(record: Mapping[str, Any]) -> str:
    """SQL for mean confirm accuracies in %: one line per method, one column per test set, in the record's order, those
    that enter no mean last."""
    # A half is rounded up, as a report does, whatever the last bit of the mean.
    mean = "CAST(100 * avg(value) FILTER (WHERE {condition}) AS DECIMAL(18, 9))"
    accuracy = f"CAST(round({mean}, 1) AS DOUBLE) AS {{name}}"
    roles = record.get("data", {}).get("roles", {})
    each = {
        name: accuracy.format(condition=f"dataset = {_quoted(name, QUOTE)}", name=_quoted(name, '"')) for name in roles
    }
    aside = [each.pop(name) for name, role in roles.items() if role == "diagnostic"]
    columns = [*each.values(), accuracy.format(condition="role = 'ood'", name='"OOD"'), *aside]
    return (
        f"SELECT method, count(DISTINCT seed) AS n, {', '.join(columns)} FROM results "  # noqa: S608
        "WHERE phase = 'confirm' AND metric = 'accuracy' AND status = 'ok' GROUP BY method ORDER BY \"OOD\""
    )


def _quoted(name: str, mark: str) -> str:
    return mark + name.replace(mark, 2 * mark) + mark


@contextmanager
def _asked(rows: pa.Table, sql: str, further: Mapping[str, pa.Table]) -> Iterator[Any]:
    """The answer of `sql`, None if it has none; files, network and settings are out of its reach."""
    scalar = [name for name in SCHEMA.names if name != "correct"]
    with duckdb.connect(":memory:") as connection:
        scored = rows.filter(pc.is_valid(rows["correct"]))
        for name, table in (
            ("results", rows.select(scalar)),
            ("examples", scored.select(["trial", "dataset", "examples", "n", "correct"])),
            *further.items(),
        ):
            connection.register("given", table)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")  # noqa: S608
            connection.unregister("given")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            if any(statement.type != duckdb.StatementType.SELECT for statement in connection.extract_statements(sql)):
                raise UserError("SQL: only SELECT is answered here; nothing can be changed")
            yield connection.sql(sql)
        except duckdb.Error as error:
            # DuckDB guesses tables of its own, which nobody asks for.
            said = _GUESS.sub("", " ".join(str(error).split()))
            names = ", ".join(f"`{name}`" for name in TABLES)
            raise UserError(f"SQL: {said}; it can ask the tables {names}") from error
