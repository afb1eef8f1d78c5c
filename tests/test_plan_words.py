"""What a plan prints for whoever reads it first: data, artifacts by what they are, doubts, and time."""

from importlib.util import find_spec

import pytest
from rich.console import Console
from test_folder import plant
from test_plan import FACTS

from saeft_ray.__main__ import DOORS
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.orchestration.show_plan import show
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.store import Store

import sweeps


def planned(storage, **sections):
    plan = Plan(config := sweeps.config(storage, **sections), find_facts(config))
    return told(plan)


def told(plan):
    console = Console(record=True, width=300)
    show(plan, console)
    return console.export_text()


@pytest.fixture
def shapes(tmp_path):
    train, other = (plant(tmp_path / name, {"circle": 24, "two": 16}, seed) for name, seed in (("a", 0), ("b", 900)))
    return {
        "type": "folder",
        "train": train,
        "tests": {"other": {"path": other, "role": "ood"}},
        "classes": {"circle": "zero", "two": "two"},
    }


def test_classes_images_and_roles_are_told(tmp_path, shapes):
    said = planned(tmp_path / "runs", data=shapes)
    assert "Data: 2 classes (circle as zero, two)" in said
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "train 36 is trained on The class folders of" in "\n".join(lines)
    assert any(line.startswith("selection 4 chooses values 10 % of every class") for line in lines)
    assert any(line.startswith("other 40 tests a shift") for line in lines)


def test_a_small_selection_and_too_wide_a_dictionary_are_doubted(tmp_path, shapes):
    said = planned(tmp_path / "runs", data=shapes)
    assert "the selection split has 4 images, so that one of them is worth 25.0 points" in said
    assert "dictionary.width: 128 atoms for 36 embeddings (36 images × 1 view)" in said
    sizes = {"train": 128, "selection": 200, "other": 40}
    said = told(Plan(sweeps.config(tmp_path / "runs", data=shapes), FACTS._replace(sizes=sizes)))
    assert "is worth" not in said
    assert "dictionary.width" not in said


def test_artifacts_say_what_they_are_and_phases_whether_they_are(tmp_path):
    methods = {
        "sae_ft": {"lambda_resid": 30, "lambda_add": 3},
        "shuffled": {"type": "sae_ft", "dictionary": "permuted"},
    }
    methods["shuffled"] |= methods["sae_ft"]
    said = told(Plan(sweeps.config(tmp_path / "runs", methods=methods, report={"baseline": "sae_ft"}), FACTS))
    for words in ("trained (SAE), seed 0", "trained (SAE), seed 1", "permuted, seed 1", "zero-shot head"):
        assert words in said
    assert "frozen embeddings of train, 1 view " in said
    assert "no search" in said
    assert "its embeddings will be stored before (1 of 1 view per image)" in said
    assert "python -m saeft_ray.preflight FILE" in said


def test_time_is_told_once_trials_have_ended(tmp_path):
    config = sweeps.config(
        tmp_path, methods={"mse": {"lambda_mse": 1}}, confirm={"seeds": 2}, report={"baseline": "mse"}
    )
    plan = Plan(config, FACTS)
    ledger = Ledger(Store(config.storage.url), config.name)
    ledger.register(record_of(plan, None))
    spec, _ = plan.confirm(plan.config.methods)
    ledger.begin(None, None)
    rows = [
        spec.row("small", "selection", "selection", "accuracy", 0.5),
        spec.row("small", "train", "train", "seconds", 90.0),
    ]
    ledger.begin_trial(spec)
    ledger.finish(spec, rows)
    assert "A training took 90 s here, the mean of 1 that ended; 1 are left, at most 90 s" in told(plan)
    other = Plan(config.model_copy(update={"seed": 7}), plan.facts)
    assert "not known yet" in told(other)


def test_a_method_in_the_place_of_a_trial_names_its_trials(tmp_path):
    plan = Plan(config := sweeps.config(tmp_path), FACTS)
    ledger = Ledger(Store(config.storage.url), config.name)
    ledger.register(record_of(plan, None))
    spec = next(spec for spec in plan.confirm(plan.config.methods) if spec.method == "ft")
    ledger.begin_trial(spec)
    assert f"'ft' is a method; its confirm trials are {spec.id}" in ledger.no_trial("ft")
    assert "no trial 'tf' there" in ledger.no_trial("tf")


def test_the_package_itself_lists_doors_that_are_there():
    assert all(find_spec(f"saeft_ray.{door}") for door in DOORS)
