"""Every method of the folder in one sweep of digit world, from the sweep file to its rows."""

from pathlib import Path

import pytest
import yaml

from saeft_ray.config.schema import METHODS
from saeft_ray.config.sweep_file import parse
from saeft_ray.methods import Regularized
from saeft_ray.records.read import read_rows
from saeft_ray.storage.store import Store

import sweeps


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One confirm trial of every method, weights at 3, and an interpolation of the one with two towers."""
    methods = {"wise_flyp": {"type": "wise_ft", "of": "flyp", "alpha": 0.5}}
    for name, cls in METHODS.items():
        lambdas = [field for field in cls.model_fields if field.startswith("lambda_")]
        methods[name] = dict.fromkeys(lambdas, 3.0) if issubclass(cls, Regularized) else {}
    methods["ewc"]["samples"] = 8
    methods["starft"]["spurious"] = ["a photo of a {} on a navy background"]
    methods["relative"] = {"type": "sae_ft", "lambda_add": 3.0, "scaling": "relative"}
    config = sweeps.config(tmp_path_factory.mktemp("runs"), methods=methods, confirm={"seeds": 1})
    plan, ledger, _ = sweeps.run_here(config)
    return plan, read_rows(ledger.url).to_pylist()


@pytest.mark.slow
def test_every_method_ends_with_a_score_on_every_test_set(done):
    plan, rows = done
    for method in plan.config.methods:
        scores = {r["dataset"]: r["value"] for r in rows if r["method"] == method and r["metric"] == "accuracy"}
        assert scores.keys() == {"selection", *plan.config.data.test_sets()}
        assert scores["selection"] > 0.5, method


@pytest.mark.slow
def test_every_penalty_is_monitored(done):
    plan, rows = done
    for label, method in plan.config.methods.items():
        numbers = {r["metric"]: r["value"] for r in rows if r["method"] == label and r["dataset"] == "train"}
        if isinstance(method, Regularized):
            terms = {name.removeprefix("loss.") for name in numbers if name.startswith("loss.")}
            assert len(terms) > 1
            assert {f"gradient_norm.{term}" for term in terms} <= numbers.keys()
            shares = {name for name in numbers if name.startswith("monitor.")}
            assert len(shares) == (4 if getattr(method, "dictionary", None) else 0)
            assert "clipped" in numbers


@pytest.mark.slow
def test_kept_weights_are_those_of_a_classifier_whatever_trained_them(done):
    from safetensors import safe_open

    plan, _ = done
    store = Store(plan.config.storage.url)
    (spec,) = (s for s in plan.confirm(plan.config.methods) if s.method == "flyp")
    folder = store.get("endpoint", plan.final_weights(spec).key)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {name.split(".")[0] for name in file.keys()} == {"encoder", "head"}  # noqa: SIM118


def test_the_ready_sweep_compares_all_of_them_with_equal_budgets():
    path = Path(__file__).parent.parent / "sweeps" / "all_methods.yaml"
    text = path.read_text()
    assert text.startswith("# Question: ")
    assert "# Command:" in text
    assert "# Cost:" in text
    config = parse(text, str(path))
    assert {method.type for method in config.methods.values()} == METHODS.keys()
    assert yaml.safe_load(text)["name"] == path.stem
