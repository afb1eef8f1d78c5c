"""Warnings about noise, each by the smallest input that asks for it."""

import dataclasses
from pathlib import Path
from typing import Any

from saeft_ray.records.rows import Row, table
from saeft_ray.report import findings
from saeft_ray.report.from_table import read_table

from report_rows import record, rows


def warned(given_rows: list[Row], own: dict[str, Any] | None = None) -> dict[str, str]:
    return {w.rule: w.text for w in findings(table(given_rows), own or record()).warnings}


def with_values(given_rows: list[Row], change: Any) -> list[Row]:
    return [
        dataclasses.replace(row, value=change(row), correct=None) if row.phase == "confirm" else row
        for row in given_rows
    ]


def test_a_small_selection_split_is_told() -> None:
    own = record()
    own["data"]["sizes"]["selection"] = 140
    text = warned(rows(bits=False), own)["small selection split"]
    assert "140 images, of which one is worth 0.71 pp" in text
    own["data"]["sizes"]["selection"] = 500
    assert "small selection split" not in warned(rows(bits=False), own)
    own["config"]["report"]["margin"] = 0.001
    assert "small selection split" in warned(rows(bits=False), own)
    assert "small selection split" not in warned(rows(bits=False, search=False))


def test_tied_finalists_are_told() -> None:
    given = rows(bits=False)
    assert "tied finalists" not in warned([r for r in given if r.phase == "confirm"])
    tied = [dataclasses.replace(r, value=0.9) if (r.phase, r.method) == ("rerank", "mse") else r for r in given]
    assert "mse (0.00 pp)" in warned(tied)["tied finalists"]
    apart = {"300": 0.95}
    far = [
        dataclasses.replace(r, value=apart.get(r.settings.split(":")[1].split(",")[0], 0.8))
        if r.phase == "rerank"
        else r
        for r in given
    ]
    assert "tied finalists" not in warned(far)


def test_small_test_sets_are_told() -> None:
    given = [dataclasses.replace(r, n=100, correct=None) if r.dataset == "A" else r for r in rows(bits=False)]
    assert "A (100 images, one is worth 1.00 pp)" in warned(given)["few test images"]
    assert "few test images" not in warned(rows(bits=False))


def test_a_test_set_at_chance_is_told() -> None:
    given = with_values(rows(bits=False), lambda row: 0.105 if row.dataset == "R" else row.value)
    text = warned(given)["test set at chance"]
    assert "10 classes (10.0 %) on R:" in text
    one_learns = with_values(given, lambda row: 0.5 if row.method == "ft" else row.value)
    assert "test set at chance" not in warned(one_learns)


def test_scores_that_are_alike_are_told() -> None:
    given = rows(bits=False)
    assert not {"identical scores", "identical seeds", "identical test sets"} & warned(given).keys()
    ft = {(r.seed, r.dataset): r.value for r in given if r.method == "ft"}
    twins = with_values(given, lambda row: ft[row.seed, row.dataset] if row.method == "mse" else row.value)
    assert "test set: ft and mse" in warned(twins)["identical scores"]
    idle = with_values(given, lambda row: ft[1000, row.dataset] + 0.01 if row.method == "mse" else row.value)
    assert "every seed: mse." in warned(idle)["identical seeds"]
    r = {(row.method, row.seed): row.value for row in given if row.dataset == "R"}
    copied = with_values(given, lambda row: r[row.method, row.seed] if row.dataset == "A" else row.value)
    assert "on R and A" in warned(copied)["identical test sets"]


def test_a_table_is_warned_of_what_can_be_known(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    lines = [f"{m},{s},{d},{0.5 + s / 100}" for m in ("a", "b") for s in range(3) for d in ("R", "S")]
    path.write_text("\n".join(["method,seed,dataset,accuracy", *lines]))
    found = {w.rule for w in findings(*read_table(path, "a", [], 0.05)).warnings}
    assert {"identical scores", "identical test sets"} <= found
