"""Two sweeps side by side: what differs, what is paired, and what is refused in words."""

import json
from copy import deepcopy

import numpy as np
import pytest

from saeft_ray.compare import main
from saeft_ray.records.rows import table
from saeft_ray.report.side_by_side import Opened, side_by_side

import report_rows


def sweep(name="one", change=None, **rows):
    """An opened sweep of made-up rows; `change` gets its record."""
    record = deepcopy(report_rows.record())
    record["name"], record["config"]["name"] = name, name
    record["data"] |= {"fingerprint": "all", "train": "train"}
    record["confirm_seeds"] = [1000, 1001, 1002, 1003, 1004]
    if change:
        change(record)
    return Opened(record, table(report_rows.rows(bits=False, **rows)))


def write(folder, opened):
    (folder / "trials/a").mkdir(parents=True)
    report_rows.put_json(folder / "sweep.json", opened.record)
    rows = [report_rows.Row(**row) for row in opened.rows.to_pylist()]
    report_rows.put_rows(folder / "trials/a/rows.parquet", rows)
    return str(folder)


def test_shared_methods_are_paired_by_seed():
    one, other = sweep(shift={"mse": 0.02}), sweep("other", methods=("ft", "mse", "zero_shot"))
    found = side_by_side(one, other)
    by_name = {(c.method, c.endpoint): c for c in found.comparisons}
    assert set(by_name) == {(f"{m} of one", e) for m in ("ft", "mse") for e in ("OOD", "ID")}
    means = {}
    for which, opened in (("one", one), ("other", other)):
        rows = [r for r in opened.rows.to_pylist() if r["method"] == "mse" and r["role"] == "ood"]
        means[which] = np.array([np.mean([r["value"] for r in rows if r["seed"] == s]) for s in range(1000, 1005)])
    mse = by_name["mse of one", "OOD"].paired
    assert mse.n == 5
    assert mse.mean == pytest.approx((means["one"] - means["other"]).mean())
    assert mse.lo < mse.mean < mse.hi
    assert by_name["ft of one", "OOD"].paired.identical
    assert any("zero_shot of one on OOD: neither is trained" in words for words in found.refused)
    assert "exploratory" in found.cautions[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["data"].update(train="else"), "train on different data"),
        (lambda r: r.update(model={"name": "another"}), "tune different models"),
        (lambda r: r.update(confirm_seeds=[7, 8]), "no confirm seed in common"),
    ],
)
def test_what_is_not_comparable_is_refused_and_settings_are_shown(change, words):
    found = side_by_side(sweep(), sweep("other", change))
    assert not found.comparisons
    assert words in found.refused[0]


def test_no_method_in_common_is_told():
    found = side_by_side(sweep(methods=("ft",)), sweep("other", methods=("mse",)))
    assert "no method of the same name" in found.refused[0]


def test_a_set_of_other_images_is_left_out():
    one, other = sweep(), sweep("other")
    rows = [{**r, "examples": "moved"} if r["dataset"] == "Sketch" else r for r in other.rows.to_pylist()]
    found = side_by_side(one, Opened(other.record, table(report_rows.Row(**r) for r in rows)))
    assert "Sketch is left out: the sweeps scored other images of it" in found.refused
    assert all("Sketch" not in c.datasets for c in found.comparisons)


def test_settings_that_differ_are_listed_with_both_values():
    def change(record):
        record["config"]["methods"]["mse"] = {"type": "mse", "lambda": 3}
        record["config"]["train"] = {"lr": 0.1}
        record["config"]["confirm"]["seeds"] = {"min": 3, "max": 9}

    found = side_by_side(sweep(), sweep("other", change))
    by_place = {each.place: (each.first, each.second) for each in found.settings}
    assert by_place["methods.mse.lambda"] == (json.dumps(report_rows.OPEN), "3")
    assert by_place["train"] == ("–", '{"lr": 0.1}')
    assert "name" not in by_place
    assert any("other stopped when its own results were decided" in words for words in found.cautions)


def test_the_door(tmp_path, capsys):
    first, second = write(tmp_path / "one", sweep(shift={"mse": 0.02})), write(tmp_path / "other", sweep("other"))
    assert main([first, second]) == 0
    said = capsys.readouterr().out
    assert "their settings, data, model and code are the same" in said
    assert "mse" in said
    assert "+2.0" in said
    assert main([first, first + "/"]) == 2
    assert "was given twice" in capsys.readouterr().err
    assert main([first, str(tmp_path / "nowhere")]) == 2
    assert "no sweep at" in capsys.readouterr().err
