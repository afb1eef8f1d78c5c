"""A sweep grows under its own name: what may be added, what it costs, and what the record says of it."""

import json

import pytest
import yaml

from saeft_ray import open_sweep, sweep
from saeft_ray.errors import UserError
from saeft_ray.orchestration.growing import in_words
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.read import read_record, read_rows, read_trials

import sweeps

FEW = {
    "methods": {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 10, "high": 100}}},
    "search": {"trials": 2},
    "rerank": {"top": 1, "seeds": 1},
    "confirm": {"seeds": 2},
    "features": False,
}
MORE_METHODS = {**FEW["methods"], "l2_sp": {"lambda_l2": 1.0}}


@pytest.fixture
def folders(tmp_path):
    """Digit world as folders of pictures would take minutes: its shifts are test sets that may be left out."""
    return tmp_path / "runs"


def written(path, storage, **sections):
    return sweeps.file(path / "small.yaml", storage, **{**FEW, **sections})


def run(*arguments):
    return sweep.main([*arguments, "--local", "--quiet"])


def trials(storage):
    return {
        row["trial"]: row["phase"]
        for row in read_rows(f"{storage}/sweeps/small").to_pylist()
        if row["metric"] == "accuracy"
    }


def trained(storage):
    """The trials that trained, with the time at which each ended."""
    table = open_sweep(f"{storage}/sweeps/small").trials().to_pylist()
    return {line["trial"]: (line["ended"], line["taken_from"]) for line in table if line["epochs"]}


def test_a_sweep_grows_by_a_method_and_seeds_and_trains_those_alone(tmp_path, capsys):
    storage = tmp_path / "runs"
    assert run(written(tmp_path, storage)) == 0
    before, kept = trained(storage), json.loads((storage / "sweeps/small/registration.json").read_text())
    grown = written(tmp_path, storage, methods=MORE_METHODS, confirm={"seeds": 3})
    capsys.readouterr()
    assert run(grown) == 2
    said = capsys.readouterr().err
    assert "new: methods.l2_sp: new" in said
    assert "new: confirm.seeds: was 2, is now 3" in said
    assert "Give --extend" in said
    assert "kept: ended trials: 2 of the search phase, 1 of the rerank phase, 5 of the confirm phase" in said
    assert "5 are left" in said  # ft and mse with the third seed, l2_sp with three
    assert "test sets were open" in said
    assert trained(storage) == before

    assert sweep.main([grown, "--plan"]) == 0
    assert "new: methods.l2_sp" in capsys.readouterr().out

    assert run(grown, "--extend") == 0
    after = trained(storage)
    assert {name: after[name] for name in before} == before
    new = sorted(name.rpartition("-")[0] for name in after.keys() - before.keys())
    assert new == ["confirm-ft", *["confirm-l2_sp"] * 3, "confirm-mse"]
    assert json.loads((storage / "sweeps/small/registration.json").read_text()) == kept
    (amendment,) = read_record(f"{storage}/sweeps/small")["amendments"]
    assert amendment["seen"] == {"ended": {"search": 2, "rerank": 1, "confirm": 5}, "looks": 0, "registered": True}
    assert [place for place, _, _ in amendment["changes"]] == ["confirm.seeds", "methods.l2_sp"]
    assert run(grown) == 0  # grown once, it is that sweep
    assert trained(storage) == after


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"train": {**sweeps.SMALL["train"], "lr": 2e-3}}, "train.lr: was 0.001, is now 0.002; what has been trained"),
        ({"seed": 3}, "seed: was 0, is now 3; what has been trained"),
        ({"confirm": {"seeds": 1}}, "confirm.seeds: was 2, is now 1; it can only grow"),
        ({"search": {"trials": 1}}, "search.trials: was 2, is now 1; it can only grow"),
        ({"methods": {"zero_shot": {}, "ft": {}}}, "methods.mse: was"),
        ({"methods": {**FEW["methods"], "mse": {"lambda_mse": {"low": 1, "high": 100}}}}, "another label beside mse"),
        ({"report": {"margin": 0.01}}, "report.margin: was None, is now 0.01; it was registered before"),
        ({"report": {"baseline": "zero_shot"}}, "report.baseline: was 'ft'"),
        ({"data": {"type": "digit_world", "cue": 0.5}}, "data.cue"),
    ],
)
def test_what_cannot_be_added_is_refused_with_its_reason(finished, sections, why):
    config = sweeps.config(finished, **{**FEW, **sections})
    with pytest.raises(UserError, match="a sweep of this name exists with other settings") as refused:
        sweeps.opened(config)
    assert why in str(refused.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The storage of a finished sweep."""
    storage = tmp_path_factory.mktemp("finished")
    sweeps.run_here(sweeps.config(storage, **FEW))
    return storage


def test_a_margin_may_change_until_it_is_registered(tmp_path):
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, **FEW))
    ledger.begin_trial(plan.confirm(plan.config.methods)[0])
    plan, store, ledger = opened_as(tmp_path, report={"margin": 0.01})
    assert "report.margin: was None, is now 0.01" in in_words(plan, store, ledger, record_of(plan, None))


def opened_as(storage, **sections):
    from saeft_ray.orchestration.facts import find_facts
    from saeft_ray.orchestration.plan import Plan
    from saeft_ray.records.ledger import Ledger
    from saeft_ray.storage.store import Store

    config = sweeps.config(storage, **{**FEW, **sections})
    store = Store(config.storage.url)
    return Plan(config, find_facts(config)), store, Ledger(store, config.name)


def test_another_sweep_takes_over_what_it_would_compute_alike(tmp_path, capsys):
    storage = tmp_path / "runs"
    run(written(tmp_path, storage))
    other = sweeps.file(
        tmp_path / "other.yaml",
        storage,
        **{
            **FEW,
            "name": "other",
            "methods": {"ft": {}, "holds": {"type": "mse", "lambda_mse": {"low": 10, "high": 100}}},
        },
    )
    capsys.readouterr()
    assert run(other) == 0
    lines = open_sweep(f"{storage}/sweeps/other").trials().to_pylist()
    first = read_trials(f"{storage}/sweeps/small")
    taken = {line["trial"]: line["taken_from"] for line in lines if line["phase"] != "confirm"}
    assert taken
    assert yaml.safe_load((tmp_path / "other.yaml").read_text())["name"] == "other"
    assert first
