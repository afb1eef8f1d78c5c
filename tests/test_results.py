"""The results door: SQL on a sweep's rows, and nothing but the rows."""

import dataclasses
import json
import os
from pathlib import Path

import fsspec
import pytest

from saeft_ray import results
from saeft_ray.errors import UserError
from saeft_ray.records.query import TABLES, query, summary
from saeft_ray.records.read import read_record, read_rows, write_file
from saeft_ray.records.rows import SCHEMA, table
from saeft_ray.report.__main__ import main as report
from saeft_ray.report.numbers import percent

import report_rows


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's folder with one Parquet file a trial."""
    folder = tmp_path_factory.mktemp("sweep")
    report_rows.put_json(folder / "sweep.json", report_rows.record())
    trials: dict[str, list[report_rows.Row]] = {}
    for row in report_rows.rows(seeds=2):
        trials.setdefault(row.trial, []).append(row)
    for name, rows in trials.items():
        (folder / "trials" / name).mkdir(parents=True)
        report_rows.put_rows(folder / "trials" / name / "rows.parquet", rows)
    return folder


def test_rows_and_record_come_back(storage: Path) -> None:
    rows = read_rows(str(storage))
    assert rows.num_rows == len(report_rows.rows(seeds=2))
    assert rows.schema == table([]).schema
    assert read_rows(f"file://{storage}").equals(rows)
    assert read_record(str(storage))["name"] == "quickstart"


def test_default_summary(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main([str(storage)]) == 0
    out = capsys.readouterr().out
    assert "sae_ft" in out
    assert "Sketch" in out
    assert max(map(len, out.splitlines())) < 80


def test_formats(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = (
        "SELECT method, avg(value) AS a, NULL AS gap FROM results WHERE phase = 'confirm' GROUP BY 1 ORDER BY 1 LIMIT 2"
    )
    assert results.main([str(storage), sql, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [line["method"] for line in found] == ["ft", "mse"]
    assert found[0]["gap"] is None
    assert results.main([str(storage), sql, "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "method,a,gap"
    assert float(lines[1].split(",")[1]) == found[0]["a"]
    assert results.main([str(storage), sql, "--format", "md"]) == 0
    assert capsys.readouterr().out.startswith("| method | a | gap |\n|---|---|---|\n| ft | 0.")


def test_table_is_not_cut_and_shows_four_digits() -> None:
    long = "x" * 300
    text = results.render(["name", "value"], [(long, 0.123456), ("[b]", 123456.7), ("–", 1e-7)], "table")
    assert long in text
    assert "0.1235" in text
    assert "123457" in text
    assert "1e-07" in text
    assert "[b]" in text


def test_examples_table(storage: Path) -> None:
    names, lines = results.query(read_rows(str(storage)), "SELECT * FROM examples WHERE dataset = 'ID'")
    assert names == ["trial", "dataset", "examples", "n", "correct"]
    assert all(len(line[4]) == (line[3] + 7) // 8 for line in lines)
    assert len(lines) == 1 + 5 * 2


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM nowhere",
        "SELEC 1",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY results TO 'out.csv'",
        "ATTACH 'other.db'",
        "SET enable_external_access = true",
        "SELECT correct FROM results",
    ],
)
def test_bad_or_reaching_sql_is_one_line_and_exit_code_two(
    storage: Path, sql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main([str(storage), sql]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_rows_and_reports_live_on_s3_as_well(
    storage: Path, s3_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{s3_url}/sweeps/quickstart"
    for path in storage.rglob("*"):
        if path.is_file():
            write_file(url, str(path.relative_to(storage)), path.read_bytes())
    assert read_rows(url).equals(read_rows(str(storage)))
    assert results.main([url, "SELECT count(*) AS n FROM results", "--format", "csv"]) == 0
    assert report([url, "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{url}/report/report.html"
    assert report([str(storage), "--out", str(tmp_path)]) == 0
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    with fsspec.open(f"{url}/report/report.html", "rb", **options) as file:
        assert file.read() == (tmp_path / "report.html").read_bytes()
    assert results.main([f"{s3_url}/sweeps/nothing"]) == 2


def test_a_wrong_name_and_the_help_list_every_table(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main([str(storage), "SELECT * FROM nowhere"]) == 2
    error = capsys.readouterr().err
    assert "pg_" not in error
    with pytest.raises(SystemExit):
        results.main(["--help"])
    shown = capsys.readouterr().out
    for name in TABLES:
        assert f"`{name}`" in error
        assert f"{name}: " in shown
    assert {"results", "examples", "features", "changes", "firings", "evaluations", "classes"} <= TABLES.keys()


def test_a_folder_that_is_no_sweep_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main([str(tmp_path)]) == 2
    assert "it has no sweep.json; give the folder that `python -m saeft_ray.sweep` printed" in capsys.readouterr().err


def test_a_sweep_without_trials_answers_with_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_rows.put_json(tmp_path / "sweep.json", {})
    assert results.main([str(tmp_path), "SELECT count(*) AS n FROM results", "--format", "csv"]) == 0
    assert capsys.readouterr().out == "n\n0\n"


@pytest.mark.parametrize("mean", [0.4165, 0.41650000000000004, 0.4164, 0.0005, 0.1235, 0.9995])
def test_the_summary_rounds_as_the_report_does(mean):
    rows = [row for row in report_rows.rows(seeds=2, methods=["ft"], search=False, bits=False) if row.dataset == "R"]
    rows = [dataclasses.replace(row, value=mean + step) for row, step in zip(rows, (1e-3, -1e-3), strict=False)]
    asked = summary({"data": {"roles": {"R": "ood"}}})
    ((_, _, shown, _),) = query(table(rows), asked)[1]
    assert f"{shown:.1f}" == percent(mean)


@pytest.mark.parametrize("sql", ["DROP TABLE results", "SELECT 1; DELETE FROM results", "INSTALL httpfs"])
def test_only_questions_are_answered(sql):
    with pytest.raises(UserError, match="only SELECT"):
        query(SCHEMA.empty_table(), sql)
