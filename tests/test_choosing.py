"""Rules of choice in a sweep: the sweep file, what is chosen and confirmed, and what the report says of it."""

import json
from pathlib import Path

import folders
import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from saeft_ray import open_sweep
from saeft_ray.config.choose import Rule
from saeft_ray.config.sweep_file import parse
from saeft_ray.errors import UserError
from saeft_ray.methods.embeddings import MSE
from saeft_ray.orchestration.choosing import Configuration, References, ranked
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.report import report_sweep
from saeft_ray.report.choices import choices
from saeft_ray.training.evaluate import beside_frozen

import sweeps

METHODS = {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 1, "high": 1000}}}
SEARCH = {"search": {"trials": 4}, "rerank": {"top": 3, "seeds": 1}, "confirm": {"seeds": 2}, "features": "off"}


def rules(choose):
    return parse(yaml.safe_dump({**sweeps.SMALL, "choose": choose})).choose


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("best", [Rule()]),
        ("strongest_within", [Rule(rule="strongest_within")]),
        ({"strongest_within": {"se": 1}}, [Rule(rule="strongest_within", se=1.0)]),
        ({"strongest_within": 1}, [Rule(rule="strongest_within", se=1.0)]),
        ({"keep_gain": 0.25}, [Rule(rule="keep_gain", share=0.25)]),
        (["best", {"keep_gain": None}], [Rule(), Rule(rule="keep_gain")]),
    ],
)
def test_a_file_gives_rules_by_name_or_with_settings(given, meant):
    assert list(rules(given)) == meant


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("strongest", "choose"),
        ({"strongest_within": {"se": -1}}, "se"),
        (["best", "best"], "best is given twice"),
        ([], "choose"),
        ({"keep_gain": 2}, "share"),
        ({"best": 2}, "choose"),
    ],
)
def test_another_rule_is_refused_with_its_place(given, said):
    with pytest.raises(UserError, match=said):
        rules(given)


def test_keep_gain_wants_what_it_measures_with():
    with pytest.raises(UserError, match="keep_gain keeps a part of ft's gain over zero_shot"):
        parse(yaml.safe_dump({**sweeps.SMALL, "choose": "keep_gain", "methods": {"ft": {}}}))


def test_the_name_of_an_arm_is_taken():
    methods = {**METHODS, "mse_strongest_within": {"type": "mse", "lambda_mse": 3}}
    with pytest.raises(UserError, match="is what the choice of strongest_within for mse is called"):
        parse(yaml.safe_dump({**sweeps.SMALL, "choose": ["best", "strongest_within"], "methods": methods}))


def test_each_rule_ranks_by_what_it_says():
    given = [
        Configuration(MSE(lambda_mse=1.0), 0.95, 0.2),
        Configuration(MSE(lambda_mse=10.0), 0.94, 0.1),
        Configuration(MSE(lambda_mse=100.0), 0.90, 0.01),
        Configuration(MSE(lambda_mse=1000.0), None, None),
    ]

    def order(rule, **more):
        return [method.lambda_mse for method in ranked(rule, given, 1000, **more)]

    assert order(Rule()) == [1, 10, 100, 1000]
    assert order(Rule(rule="strongest_within")) == [10, 1, 100, 1000]  # 2 SE of .95 with 1,000 images: .0138
    gain = References(plain=0.95, zero_shot=0.85)
    assert order(Rule(rule="keep_gain"), references=gain) == [100, 10, 1, 1000]
    assert order(Rule(rule="keep_gain", share=0.8), references=gain) == [10, 1, 100, 1000]


def test_answers_beside_the_frozen_ones():
    frozen = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    labels = np.array([0, 0])
    assert beside_frozen(frozen, frozen, labels)[:2] == (0, 1)
    other = torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    p, q = frozen.double().softmax(1).numpy(), other.double().softmax(1).numpy()
    beside = beside_frozen(other, frozen, labels)
    assert beside.kl == pytest.approx((p * np.log(p / q)).sum(1).mean())
    assert beside.agreement == 0.5
    assert beside.nll == pytest.approx(-np.log(q[[0, 1], labels]).mean())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder of a sweep that confirms what two rules chose."""
    folder = tmp_path_factory.mktemp("both")
    choose = ["best", {"strongest_within": {"se": 2}}]
    small = folders.sections(folders.images_in(folder))
    config = sweeps.config(folder / "runs", **small, methods=METHODS, choose=choose, **SEARCH)
    sweeps.run_here(config)
    return f"{folder}/runs/sweeps/small"


def test_two_rules_are_two_arms_of_one_search(both):
    rows = read_rows(both).to_pylist()
    assert {row["method"] for row in rows if row["phase"] == "search"} == {"mse"}
    confirmed = {row["method"]: row["configuration"] for row in rows if row["phase"] == "confirm"}
    assert set(confirmed) == {"zero_shot", "ft", "mse", "mse_strongest_within"}
    record = read_record(both)
    assert record["arms"] == {"mse_strongest_within": "mse"}
    assert ["mse_strongest_within", "ft"] in record["registration"]["families"]["primary"]
    assert [rule["rule"] for rule in record["registration"]["choose"]] == ["best", "strongest_within"]
    tried = {
        row["settings"]: row["value"] for row in rows if row["phase"] == "rerank" and row["metric"] == "kl_to_frozen"
    }
    kl = {
        method: next(tried[s] for s in tried if f'"lambda_mse":{value}' in s) for method, value in chosen(rows).items()
    }
    assert kl["mse_strongest_within"] <= kl["mse"]


def chosen(rows):
    return {
        row["method"]: json.loads(row["settings"])["lambda_mse"]
        for row in rows
        if row["phase"] == "confirm" and row["method"].startswith("mse")
    }


def test_selection_rows_say_how_far_answers_moved(both):
    rows = [row for row in read_rows(both).to_pylist() if row["role"] == "selection"]
    of = {(row["trial"], row["metric"]): row["value"] for row in rows}
    assert {metric for _, metric in of} == {"accuracy", "kl_to_frozen", "agreement", "nll"}
    (frozen,) = {trial for trial, _ in of if trial.startswith("confirm-zero_shot")}
    assert of[frozen, "kl_to_frozen"] == pytest.approx(0, abs=1e-9)
    assert of[frozen, "agreement"] == 1
    assert all(of[trial, "kl_to_frozen"] > 0 for trial, _ in of if trial.startswith("confirm-ft"))


def test_the_report_says_which_rule_chose_and_what_it_gave_away(both):
    report = report_sweep(both).report
    assert [each.method for each in report.choices] == ["mse", "mse_strongest_within"]
    assert not report.exploratory
    first, second = report.choices
    assert first.is_best
    assert second.score >= second.threshold
    assert second.kl <= first.kl
    page = (open_page(both)).read_text()
    assert "How values were chosen." in page
    assert "the strongest within 2 standard errors of the best selection accuracy" in page
    assert {c.method for c in report.primary} == {"zero_shot", "mse", "mse_strongest_within"}
    spent = {each.method: each.search.trials for each in report.searches}
    assert spent["mse_strongest_within"] == spent["mse"] == 4
    assert not [w for w in report.warnings if "mse_strongest_within and 4 trials" in w.text]


def test_the_report_tells_what_was_confirmed_and_not_what_a_larger_search_would_choose(both):
    rows, record = read_rows(both), read_record(both)
    first = choices(rows, record)[0]
    better = [
        {**row, "configuration": "later", "settings": row["settings"].replace('"lambda_mse":', '"lambda_mse":9')}
        | {"value": value}
        for row in rows.to_pylist()
        if (row["phase"], row["method"], row["role"]) == ("rerank", "mse", "selection")
        if (value := {"accuracy": 1.0, "kl_to_frozen": 0.0}.get(row["metric"])) is not None
    ]
    more = pa.concat_tables([rows, pa.Table.from_pylist(better[:2], schema=rows.schema)])
    grown = choices(more, record)[0]
    assert (grown.score, grown.kl) == (first.score, first.kl)
    assert grown.best_score == 1
    assert not grown.is_best


def open_page(folder):
    return Path(folder) / "report" / "report.html"


def test_a_sweep_of_two_rules_can_be_opened_again(both):
    sweep = open_sweep(both)
    assert sweep.tuned_model("mse_strongest_within") is not None
    assert sweep.replay(next(t for t in sweep.rows()["trial"].to_pylist() if "strongest" in t)).equal
