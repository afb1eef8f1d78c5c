"""How a report tells the search of a method: in order, on the selection metric alone, and never more than it knows."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saeft_ray import stats
from saeft_ray.orchestration.search import SearchQueue
from saeft_ray.records.read import read_record
from saeft_ray.records.rows import Row, table
from saeft_ray.report import findings, write_report
from saeft_ray.report.render.sections.search import which_value_mattered
from saeft_ray.report.searched import History
from saeft_ray.storage.fingerprint import canonical

from report_rows import record, rows
from sweeps import config, opened

SPACE = {name: {"low": 30.0, "high": 3000.0, "log": True} for name in ("lambda_a", "lambda_b", "lambda_c")}


def searched(n: int, effect: float, seed: int = 0) -> tuple[list[Row], dict[str, Any]]:
    """Search rows of `mse` with three open values, of which the first moves the score, and the record."""
    rng = np.random.default_rng(seed)
    out, numbers = rows(search=False), {}
    for number in range(n):
        values = {name: float(10 ** rng.uniform(1.5, 3.4)) for name in SPACE}
        score = 0.9 - effect * np.log10(values["lambda_a"] / 300) ** 2 + rng.normal(0, 0.002)
        trial = f"search-mse-{rng.integers(1 << 60):x}"
        numbers[trial] = number
        out.append(
            Row(
                sweep="s", phase="search", method="mse", configuration=trial, settings=canonical(values), seed=0,
                trial=trial, dataset="selection", role="selection", metric="accuracy", value=float(score), n=300,
            )
        )  # fmt: skip
    own = record()
    own["config"]["methods"]["mse"] = {"type": "mse", **SPACE}
    return out, {**own, "suggestions": numbers}


def history_of(given: list[Row], own: dict[str, Any], method: str = "mse") -> History | None:
    return next(s.history for s in findings(table(given), own).searches if s.method == method)


def test_a_search_comes_in_the_order_of_the_ledger_with_the_expected_best_of_its_finished_trials() -> None:
    given, own = searched(12, 0.01)
    order = sorted(own["suggestions"], key=own["suggestions"].get)
    failed, stopped = order[3], order[5]
    given = [
        dataclasses.replace(r, status="failed", value=None, error="nan", dataset="train", role="train")
        if r.trial == failed
        else dataclasses.replace(r, status="stopped")
        if r.trial == stopped
        else r
        for r in given
    ]
    got = history_of(given, own)
    assert got is not None
    assert [s.number for s in got.suggestions] == list(range(12))
    assert [s.status for s in got.suggestions if s.status != "ok"] == ["failed", "stopped"]
    assert got.suggestions[3].score is None
    scores = [s.score for s in got.suggestions if s.status == "ok"]
    assert len(scores) == 10
    assert got.expected_best == tuple(stats.expected_best(scores, b) for b in range(1, 11))
    # Rows of another order, or of test sets, change nothing.
    extra = [dataclasses.replace(r, dataset="A", role="ood", metric="loss") for r in given if r.phase == "search"]
    assert history_of([*extra, *given[::-1]], own) == got


def test_importance_finds_the_value_that_matters_and_is_not_fooled_by_none() -> None:
    got = history_of(*searched(40, 0.05))
    assert got is not None
    assert got.importance[0].name == "lambda_a"
    assert got.importance[0].share > got.importance[0].chance
    assert sum(i.share for i in got.importance) == pytest.approx(1)
    assert history_of(*searched(40, 0.05)) == got, "the same rows give the same shares"
    nothing = [history_of(*searched(24, 0.0, seed)) for seed in range(4)]
    assert sum(h.importance[0].share > h.importance[0].chance for h in nothing if h) <= 1


def test_too_few_trials_or_one_value_say_so() -> None:
    given, own = searched(19, 0.05)
    search = next(s for s in findings(table(given), own).searches if s.method == "mse")
    assert search.history is not None
    assert search.history.importance == ()
    assert which_value_mattered(search) == "mse: 19 finished trials cannot distinguish 3 values (20 needed)."
    one = next(s for s in findings(table(rows()), record()).searches if s.method == "sae_ft")
    assert which_value_mattered(one) == "sae_ft: one value was open."
    bare = {key: value for key, value in own.items() if key != "suggestions"}
    assert history_of(given, bare) is None


def test_the_search_is_on_the_page_and_marked_as_no_curve_of_budgets(tmp_path: Path) -> None:
    given, own = searched(24, 0.05)
    write_report(table(given), own, tmp_path)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "not an expected-validation-performance curve" in text
        assert "lambda_a" in text.replace("\\_", "_")
        assert "beyond chance" in text
    assert "Scores of each search in order" in (tmp_path / "search.svg").read_text()


def test_suggestion_numbers_come_from_the_ledger(tmp_path: Path) -> None:
    plan, _, ledger = opened(config(tmp_path, search={"trials": 4, "lag": 4}))
    queue = SearchQueue(plan)
    specs = [queue.ask() for _ in range(4)]
    for spec in specs:
        assert spec is not None
        ledger.begin_trial(spec)
    assert read_record(ledger.url)["suggestions"] == {s.id: s.number for s in specs if s}
