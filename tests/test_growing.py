"""A sweep grows under its own name: what may be added, what it costs, and what the record says of it."""

import json

import folders
import pytest

from saeft_ray import open_sweep, sweep
from saeft_ray.errors import UserError
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.growing import in_words
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.report import report_sweep
from saeft_ray.storage.store import Store

import sweeps

FEW = {
    "methods": {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 10, "high": 100}}},
    "search": {"trials": 2},
    "rerank": {"top": 1, "seeds": 1},
    "confirm": {"seeds": 3},
    "features": "off",
}
MORE_METHODS = {**FEW["methods"], "l2_sp": {"lambda_l2": 1.0}}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return folders.images_in(tmp_path_factory.mktemp("images"))


def settings(images, sets=("photos", "fog"), **sections):
    return {**FEW, **folders.sections(images, sets), **sections}


@pytest.fixture
def door(tmp_path, images, capsys):
    """Runs the sweep of a file with these sections here; gives its exit status and what it printed."""

    def run(*options, name="small", **sections):
        path = sweeps.file(tmp_path / f"{name}.yaml", tmp_path / "runs", name=name, **settings(images, **sections))
        capsys.readouterr()
        status = sweep.main([path, *options, *(() if "--plan" in options else ("--local", "--quiet"))])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def lines(storage, name="small"):
    """What ran, by trial."""
    return {line["trial"]: line for line in open_sweep(f"{storage}/sweeps/{name}").trials().to_pylist()}


def ended(storage):
    return {trial: line["ended"] for trial, line in lines(storage).items()}


def test_a_sweep_grows_by_a_method_and_seeds_and_trains_those_alone(tmp_path, door):
    folder = tmp_path / "runs/sweeps/small"
    assert door()[0] == 0
    before, kept = ended(tmp_path / "runs"), (folder / "registration.json").read_bytes()
    more = {"methods": MORE_METHODS, "confirm": {"seeds": 5}, "report": {"compare": [["l2_sp", "mse"]]}}
    status, said = door(**more)
    assert status == 2
    assert "new: methods.l2_sp: new" in said
    assert "new: confirm.seeds: was 3, is now 5" in said
    assert "new: report.compare: l2_sp-mse" in said
    assert "kept: ended trials: 2 of the search phase, 1 of the rerank phase, 7 of the confirm phase" in said
    assert "9 are left" in said  # ft and mse with two seeds more, l2_sp with five
    assert "Give --extend" in said
    assert ended(tmp_path / "runs") == before
    assert "new: methods.l2_sp" in door("--plan", **more)[1]

    status, said = door("--extend", **more)
    assert status == 0, said
    after = ended(tmp_path / "runs")
    assert {name: after[name] for name in before} == before
    new = sorted(name.rpartition("-")[0] for name in after.keys() - before.keys())
    assert new == ["confirm-ft"] * 2 + ["confirm-l2_sp"] * 5 + ["confirm-mse"] * 2
    assert (folder / "registration.json").read_bytes() == kept
    (amendment,) = read_record(str(folder))["amendments"]
    assert amendment["seen"] == {"ended": {"search": 2, "rerank": 1, "confirm": 7}, "looks": 0, "registered": True}
    assert door(**more)[0] == 0  # once it has grown, it is that sweep
    assert ended(tmp_path / "runs") == after

    report = report_sweep(str(folder)).report
    assert {c.method for c in report.primary} == {"zero_shot", "mse"}
    assert {len(c.points) for c in report.primary} == {3}
    assert not report.exploratory
    (addition,) = report.additions
    assert [(c.method, c.against) for c in addition.comparisons] == [("l2_sp", "ft"), ("l2_sp", "mse")]
    assert addition.alpha == 0.025
    assert {len(c.points) for c in addition.comparisons} == {5}
    assert len(report.extended) + len(report.sharpened) == 2
    page = (folder / "report/report.html").read_text()
    assert "Added later" in page
    assert "test sets were open" in page


def test_an_added_test_set_costs_its_evaluation_alone(tmp_path, door):
    folder = tmp_path / "runs/sweeps/small"
    assert door()[0] == 0
    before = {path: path.read_bytes() for path in folder.glob("trials/*/rows.parquet")}
    wider = {"sets": ("photos", "fog", "night")}
    status, said = door(**wider)
    assert status == 2
    assert "new: test sets: night" in said
    assert "7 stored end points are scored on night" in said
    assert "0 are left" in said
    assert door("--extend", **wider)[0] == 0
    assert {path: path.read_bytes() for path in folder.glob("trials/*/rows.parquet")} == before
    rows = [row for row in read_rows(str(folder)).to_pylist() if row["dataset"] == "night"]
    assert {row["trial"] for row in rows} == {path.parent.name for path in before if "confirm-" in path.parent.name}
    assert len(list(folder.glob("trials/*/more-*.parquet"))) == 7

    report = report_sweep(str(folder)).report
    assert report.added_sets == ("night",)
    assert report.ood_sets == ("fog",)
    assert {c.datasets for c in report.primary} == {("fog",)}
    (addition,) = report.additions
    assert {(c.method, c.against, c.datasets) for c in addition.comparisons} == {
        ("zero_shot", "ft", ("night",)),
        ("mse", "ft", ("night",)),
    }
    # What was added is what a sweep that has it from the start scores.
    whole = tmp_path / "whole"
    opened = open_sweep(str(folder))
    sweeps.run_here(
        opened.config.model_copy(update={"storage": opened.config.storage.model_copy(update={"url": str(whole)})})
    )

    def scores(url):
        return {
            (row["method"], row["seed"], row["dataset"]): row["value"]
            for row in read_rows(url).to_pylist()
            if row["phase"] == "confirm" and row["metric"] == "accuracy"
        }

    assert scores(str(folder)) == scores(f"{whole}/sweeps/small")
    replayed = opened.replay(next(trial for trial in lines(tmp_path / "runs") if trial.startswith("confirm-mse")))
    assert replayed.equal, replayed


def test_a_larger_search_changes_nothing_that_was_confirmed(tmp_path, door):
    folder = tmp_path / "runs/sweeps/small"
    assert door()[0] == 0
    chosen, before = (folder / "chosen.json").read_bytes(), ended(tmp_path / "runs")
    assert door("--extend", search={"trials": 4}, rerank={"top": 2, "seeds": 1})[0] == 0
    after = ended(tmp_path / "runs")
    assert {name: after[name] for name in before} == before
    assert sum(name.startswith("search-") for name in after) == 4
    assert {name for name in after.keys() - before.keys() if name.startswith("confirm")} == set()
    assert (folder / "chosen.json").read_bytes() == chosen


def test_another_sweep_takes_over_what_it_would_compute_alike(tmp_path, door):
    assert door()[0] == 0
    first = lines(tmp_path / "runs")
    assert door(name="other", sets=("photos", "night"), search={"trials": 3}, confirm={"seeds": 2, "draw": 1})[0] == 0
    second = lines(tmp_path / "runs", "other")
    taken = {trial: line["taken_from"] for trial, line in second.items() if line["phase"] != "confirm"}
    assert set(taken.values()) >= {f"small/{trial}" for trial in first if trial.startswith("search-")}
    assert [trial for trial in taken if trial.startswith("search-") and not taken[trial]] != []
    for trial, origin in taken.items():
        if origin:
            assert second[trial]["selection"] == first[origin.partition("/")[2]]["selection"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, images):
    """The storage of a finished sweep."""
    storage = tmp_path_factory.mktemp("finished")
    sweeps.run_here(sweeps.config(storage, **settings(images)))
    return storage


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"train": {**sweeps.SMALL["train"], "lr": 2e-3}}, "train.lr: was 0.001, is now 0.002; what has been trained"),
        ({"seed": 3}, "seed: was 0, is now 3; what has been trained"),
        ({"confirm": {"seeds": 1}}, "confirm.seeds: was 3, is now 1; it can only grow"),
        ({"search": {"trials": 1}}, "search.trials: was 2, is now 1; it can only grow"),
        ({"methods": {"zero_shot": {}, "ft": {}}}, "methods.mse: was"),
        ({"methods": {**FEW["methods"], "mse": {"lambda_mse": {"low": 1, "high": 100}}}}, "another label beside mse"),
        ({"report": {"margin": 0.01}}, "report.margin: was None, is now 0.01; it was registered before"),
        ({"report": {"baseline": "zero_shot"}}, "report.baseline: was 'ft'"),
        ({"sets": ("photos",)}, "the test sets fog are never taken away"),
        ({"dictionary": {"width": 64}}, "dictionary.width: was 128, is now 64"),
    ],
)
def test_what_cannot_be_added_is_refused_with_its_reason(finished, images, sections, why):
    with pytest.raises(UserError, match="a sweep of this name exists with other settings") as refused:
        sweeps.opened(sweeps.config(finished, **settings(images, **sections)))
    assert why in str(refused.value)


def test_a_set_with_other_images_under_its_name_is_refused(finished, images):
    swapped = {**images, "fog": images["night"]}
    with pytest.raises(UserError, match="fog would have other images"):
        sweeps.opened(sweeps.config(finished, **settings(swapped)))


def test_a_margin_may_change_until_it_is_registered(tmp_path, images):
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path, **settings(images)))
    ledger.begin_trial(plan.confirm(plan.config.methods)[0])
    config = sweeps.config(tmp_path, **settings(images, report={"margin": 0.01}))
    plan = Plan(config, find_facts(config))
    assert "report.margin: was None, is now 0.01" in in_words(plan, store, ledger, record_of(plan, None))


def test_a_grown_record_says_when_and_after_what(tmp_path, images):
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, **settings(images)))
    ledger.begin_trial(plan.confirm(plan.config.methods)[0])
    for seeds in (4, 6):
        config = sweeps.config(tmp_path, **settings(images, confirm={"seeds": seeds}))
        known = Ledger(Store(str(tmp_path)), "small").register(record_of(Plan(config, plan.facts), None), extend=True)
    assert [each["added"] for each in known["amendments"]] == [
        ["confirm.seeds: was 3, is now 4"],
        ["confirm.seeds: was 4, is now 6"],
    ]
    assert [each["before"]["config"]["confirm"]["seeds"] for each in known["amendments"]] == [3, 4]
    assert len(known["confirm_seeds"]) == 6
    assert json.loads((tmp_path / "sweeps/small/sweep.json").read_text())["amendments"] == known["amendments"]


def test_a_sweep_that_runs_is_not_extended_by_a_second_driver(tmp_path, door):
    assert door()[0] == 0
    before = (tmp_path / "runs/sweeps/small/sweep.json").read_bytes()
    with Lease(Store(str(tmp_path / "runs")), "sweeps/small"):
        status, said = door("--extend", methods=MORE_METHODS)
    assert status == 2
    assert "runs this sweep since" in said
    assert (tmp_path / "runs/sweeps/small/sweep.json").read_bytes() == before
    assert door("--extend", methods=MORE_METHODS)[0] == 0
