"""A whole small sweep, serially: from the sweep file to rows, and everything that must not happen on the way."""

import io
import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from saeft_ray import sweep
from saeft_ray import trial as replaying
from saeft_ray.methods.embeddings import MSE
from saeft_ray.model.encoder import Classifier
from saeft_ray.orchestration import trial
from saeft_ray.orchestration.artifacts import ensure as build
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.reopen import record_of, reopen
from saeft_ray.orchestration.trial_context import TrialContext
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.records.rows import SCHEMA, unpack
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.checksum import from_json
from saeft_ray.storage.store import Store
from saeft_ray.training.worker import Worker

import sweeps
from sweeps import run_here


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished sweep: its plan, ledger, chosen configurations and rows."""
    config = sweeps.config(tmp_path_factory.mktemp("runs"))
    plan, ledger, chosen = run_here(config)
    return plan, ledger, chosen, read_rows(ledger.url)


def select(rows, **wanted):
    return [row for row in rows.to_pylist() if all(row[key] == value for key, value in wanted.items())]


def test_rows_have_the_one_schema_and_every_planned_trial(done):
    plan, _, chosen, rows = done
    assert rows.schema.equals(SCHEMA)
    trials = {(row["phase"], row["trial"]) for row in rows.to_pylist()}
    counts = {phase: sum(p == phase for p, _ in trials) for phase in ("search", "rerank", "confirm")}
    assert counts == plan.counts()
    assert set(chosen) == {"zero_shot", "ft", "wise_ft", "sae_ft"}
    assert all(not method.open_values() for method in chosen.values())


def test_test_sets_are_opened_in_the_confirm_phase_alone(done):
    plan, _, _, rows = done
    seen = {phase: {row["dataset"] for row in select(rows, phase=phase, metric="accuracy")} for phase in plan.counts()}
    assert seen["search"] == seen["rerank"] == {"selection"}
    assert seen["confirm"] == {"selection", *plan.config.data.test_sets()}


def test_seeds_pair_the_methods_and_phases_share_none(done):
    plan, _, _, rows = done
    confirm = {m: {r["seed"] for r in select(rows, phase="confirm", method=m)} for m in ("ft", "sae_ft", "wise_ft")}
    assert confirm["ft"] == confirm["sae_ft"] == confirm["wise_ft"] == set(plan.seeds("confirm"))
    earlier = {r["seed"] for phase in ("search", "rerank") for r in select(rows, phase=phase)}
    assert not earlier & confirm["ft"]
    assert {r["seed"] for r in select(rows, method="zero_shot")} == {None}


def test_accuracy_is_the_mean_of_its_bits(done):
    *_, rows = done
    scored = [row for row in rows.to_pylist() if row["metric"] == "accuracy"]
    for row in scored:
        assert unpack(row["correct"], row["n"]).mean() == row["value"]
    orders = {dataset: {r["examples"] for r in scored if r["dataset"] == dataset} for dataset in ("ID", "UCI")}
    assert all(len(order) == 1 for order in orders.values())


def test_wise_ft_lies_between_its_ends(done):
    plan, _, chosen, rows = done
    store = Store(plan.config.storage.url)
    (spec, *_) = [s for s in plan.confirm(chosen) if s.method == "wise_ft"]
    for alpha, other in ((0.0, "zero_shot"), (1.0, "ft")):
        moved = spec.model_copy(update={"settings": spec.settings.model_copy(update={"alpha": alpha})})
        (outcome,) = trial.run(plan, moved, store, Worker())  # no epoch is trained: the end point is there
        want = {
            r["dataset"]: r["value"]
            for r in select(rows, phase="confirm", method=other, metric="accuracy")
            if r["seed"] in (None, spec.seed)
        }
        assert {r.dataset: r.value for r in outcome.rows if r.metric == "accuracy"} == pytest.approx(want)


def test_the_same_sweep_again_runs_nothing(done):
    plan, ledger, chosen, rows = done

    class Nothing(LocalRunner):
        def run(self, queue, watcher):
            raise AssertionError(f"{queue.remaining} trials of {queue.phase} were dealt again")

    store = Store(plan.config.storage.url)
    ledger.register(record_of(plan, None))
    assert run_phases(plan, ledger, Nothing(plan, store, ledger), Quiet()) == chosen
    assert read_rows(ledger.url).equals(rows)


@pytest.mark.slow
def test_a_sweep_stopped_anywhere_ends_with_the_same_rows(done, tmp_path):
    """Ctrl-C in the middle of the search, the rerank and the confirm phase; seconds aside, no row differs."""
    *_, rows = done
    config = sweeps.config(tmp_path)
    plan, store, ledger = sweeps.opened(config)

    class Interrupted(LocalRunner):
        left = 0

        def run(self, queue, watcher):
            class Stop(Quiet):
                def ended(self, spec, selection, course=None):
                    Interrupted.left -= 1
                    if Interrupted.left == 0:
                        raise KeyboardInterrupt

            super().run(queue, Stop())

    for Interrupted.left in (2, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            run_phases(plan, ledger, Interrupted(plan, store, ledger), Quiet())
    run_phases(plan, ledger, LocalRunner(plan, store, ledger), Quiet())

    def comparable(table):
        kept = [row for row in table.to_pylist() if row["metric"] != "seconds"]
        return sorted(kept, key=lambda row: (row["trial"], row["dataset"], row["metric"]))

    assert comparable(read_rows(ledger.url)) == comparable(rows)


def test_a_killed_trial_resumes_from_its_checkpoint_to_the_same_weights(tmp_path):
    config = sweeps.config(tmp_path, train={**sweeps.SMALL["train"], "epochs": 3}, compute={"checkpoint_minutes": 0})
    plan, store, _ = sweeps.opened(config)
    spec = TrialSpec(phase="confirm", method="mse", settings=MSE(lambda_mse=100.0), seed=7, number=0)
    running = trial.run(plan, spec, store, Worker())
    assert [next(running).epoch.epoch for _ in range(2)] == [1, 2]
    running.close()
    reports = list(trial.run(plan, spec, store, Worker()))
    assert [item.epoch.epoch for item in reports[:-1]] == [3]
    undisturbed = list(trial.run(plan, spec, store, Worker(), replay=True))[-1]
    keep = [r for r in undisturbed.rows if r.metric != "seconds"]
    assert [r for r in reports[-1].rows if r.metric != "seconds"] == keep
    assert store.keys("checkpoint") == []  # they have served


def test_a_probe_runs_no_encoder_and_fine_tuning_goes_on_from_it(tmp_path, monkeypatch):
    config = sweeps.config(tmp_path, methods={"ft": {}, "linear_probe": {}, "lp_ft": {}})
    plan, store, _ = sweeps.opened(config)
    probe, start = (s for s in plan.confirm(config.methods) if s.number == 0 and s.method != "ft")
    assert probe.seed is None
    assert [a.kind for a in plan.needs(probe)] == [a.kind for a in plan.needs(start)] == ["head", "activations"]
    heads = []

    def seen(model, split, *_, logits=None, **__):
        heads.append(model.head.weight.clone())
        if logits is not None:
            logits.append(torch.zeros(len(split.labels), 10))
        return split.labels

    monkeypatch.setattr(trial, "predicted", seen)
    monkeypatch.setattr(
        TrialContext, "frozen_logits", lambda self: torch.zeros(len(self.split("selection").labels), 10)
    )
    build(plan.activations(), plan, store, Worker().device)
    monkeypatch.setattr(Classifier, "embed", None)
    list(trial.run(plan, probe, store, Worker()))
    monkeypatch.undo()
    first = TrialContext(plan, store, Worker(), False)
    model = first.frozen()
    config.methods["lp_ft"].start(first, model)
    assert np.array_equal(heads[0].detach(), model.head.weight.detach())
    outcome = list(trial.run(plan, start, store, Worker()))[-1]
    assert next(r.value for r in outcome.rows if (r.dataset, r.metric) == ("selection", "accuracy")) > 0.8


def test_divergence_is_a_row_and_not_a_missing_one(tmp_path):
    config = sweeps.config(tmp_path, train={"epochs": 1, "batch_size": 128, "lr": 1e30})
    plan, store, _ = sweeps.opened(config)
    spec = TrialSpec(phase="confirm", method="mse", settings=MSE(lambda_mse=1.0), seed=7, number=0)
    outcome = list(trial.run(plan, spec, store, Worker()))[-1]
    assert outcome.status == "failed"
    assert {row.dataset for row in outcome.rows} == {"selection", *plan.config.data.test_sets()}
    assert all(row.value is None and row.status == "failed" and "not finite" in row.error for row in outcome.rows)


def test_replay_finds_the_recorded_rows(done, capsys):
    _, ledger, _, rows = done
    (name, *_) = sorted({row["trial"] for row in select(rows, phase="confirm", method="sae_ft")})
    assert replaying.main([ledger.url, name]) == 0
    assert "rows equal the recorded ones" in capsys.readouterr().out
    assert replaying.main([ledger.url, "confirm-x-1"]) == 2
    assert replaying.main([ledger.url + "x", name]) == 2


def test_a_name_taken_by_another_config_is_refused_with_what_differs(done):
    plan, *_ = done
    other = sweeps.config(plan.config.storage.url, train={**sweeps.SMALL["train"], "lr": 2e-3}, seed=1)
    with pytest.raises(
        ValueError, match=r"(?s)seed: was 0, is now 1.*train\.lr: was 0\.001, is now 0\.002.*another name"
    ):
        sweeps.opened(other)


def test_the_record_says_what_ran(done):
    plan, ledger, _, _ = done
    record = read_record(ledger.url)
    assert record["config"]["train"]["lr"] == 1e-3
    assert record["versions"]["torch"]
    assert record["confirm_seeds"] == plan.seeds("confirm")
    assert "storage" not in record["config"]
    again, _, _ = reopen(ledger.url)
    assert [a.key for a in again.artifacts()] == [a.key for a in plan.artifacts()]


def test_a_damaged_artifact_is_built_again(done, caplog):
    plan, *_ = done
    store = Store(plan.config.storage.url)
    artifact = plan.head()
    folder = store.get("head", artifact.key)
    file = folder / "head.safetensors"
    sound = file.read_bytes()
    file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    rebuilt = build(artifact, plan, store, Worker().device)
    assert rebuilt != folder
    assert (rebuilt / "head.safetensors").read_bytes() == sound
    assert "head.safetensors" in caplog.text


def test_the_door_runs_a_sweep_to_its_report(tmp_path, capsys):
    file = sweeps.file(
        tmp_path / "a.yaml", tmp_path / "runs", methods={"zero_shot": {}, "ft": {}}, confirm={"seeds": 1}
    )
    assert sweep.main([file, "--plan"]) == 0
    assert "Nothing was run" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert sweep.main([file, "--local"]) == 0
    out = capsys.readouterr().out
    assert "zero_shot" in out
    report = tmp_path / "runs/sweeps/small/report/report.html"
    assert str(report) in out
    assert report.stat().st_size > 10_000
    for path in (tmp_path / "runs/sweeps/small/trials").glob("*/rows.parquet"):
        assert pq.read_table(io.BytesIO(path.read_bytes())).num_rows
    chosen = (tmp_path / "runs/sweeps/small/chosen.json").read_bytes()
    assert from_json(chosen, "chosen").keys() == {"zero_shot", "ft"}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"arch": "ViT-Z-99", "pretrained": "random"}}, "model.arch: open_clip knows no 'ViT-Z-99'"),
        (
            {"model": {"arch": "digit-clip", "pretrained": "nowhere.safetensors"}},
            "there is no file nowhere.safetensors",
        ),
        (
            {
                "model": {"arch": "RN50", "pretrained": "random"},
                "methods": {"ft": {}, "ldifs": {"lambda_ldifs": 1}, "pca": {"lambda_l1": 1, "components": 9999}},
            },
            "methods.ldifs: the image encoder of RN50 has no transformer blocks",
        ),
        (
            {"methods": {"ft": {}, "pca": {"lambda_l1": 1, "components": 65}}},
            "methods.pca: components = 65 directions do not fit into embeddings of width 64",
        ),
        ({"data": {"type": "folder", "train": "nowhere", "tests": {}}}, "nowhere"),
    ],
)
def test_what_is_not_there_is_told_before_anything_runs(tmp_path, capsys, sections, words):
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **sections)
    assert sweep.main([file, "--local"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_architecture_are_refused(tmp_path, capsys):
    weights = "saeft_ray/model/shipped/digit-clip.safetensors"
    model = {"arch": "ViT-B-32", "pretrained": weights}
    file = sweeps.file(
        tmp_path / "a.yaml", tmp_path / "runs", model=model, methods={"zero_shot": {}}, report={"baseline": "zero_shot"}
    )
    assert sweep.main([file, "--local"]) == 2
    assert "cannot be loaded as ViT-B-32" in capsys.readouterr().err


def test_storage_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "runs").write_text("a file in the way")
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs" / "deeper")
    assert sweep.main([file, "--local"]) == 2
    assert "cannot be used as a store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_wrong_credentials_or_endpoint_are_told(s3_url, tmp_path, monkeypatch, capsys, variable, value, words):
    monkeypatch.setenv(variable, value)
    file = sweeps.file(tmp_path / "a.yaml", s3_url)
    assert sweep.main([file, "--local"]) == 2
    told = capsys.readouterr().err
    assert "cannot be used as a store" in told
    assert words in told


def test_a_sweep_on_s3_ends_with_the_rows_of_a_local_one(done, s3_url, tmp_path, monkeypatch):
    *_, rows = done
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path))
    methods = {"zero_shot": {}, "ft": {}, "wise_ft": {"of": "ft", "alpha": 0.3}}
    _, ledger, _ = run_here(sweeps.config(s3_url, methods=methods))
    remote = read_rows(ledger.url)
    for method in ("zero_shot", "ft"):
        one, two = (
            [
                (r["seed"], r["dataset"], r["metric"], r["value"], r["correct"])
                for r in select(t, phase="confirm", method=method)
                if r["metric"] != "seconds"
            ]
            for t in (remote, rows)
        )
        assert sorted(one, key=str) == sorted(two, key=str)


def test_random_control_and_sae_differ_only_in_their_dictionary(tmp_path):
    methods = {
        "sae_ft": {"lambda_resid": 300, "lambda_add": 300},
        "random_dictionary": {"lambda_resid": 300, "lambda_add": 300},
    }
    config = sweeps.config(tmp_path, methods=methods, confirm={"seeds": 1}, report={"baseline": "sae_ft"})
    plan, ledger, _ = run_here(config)
    rows = read_rows(ledger.url)
    ids = {m: [r["value"] for r in select(rows, method=m, metric="accuracy")] for m in methods}
    assert not np.array_equal(ids["sae_ft"], ids["random_dictionary"])
    cards = [
        json.loads((Store(config.storage.url).get(a.kind, a.key) / "card.json").read_text())
        for a in plan.artifacts()
        if a.kind == "dictionary"
    ]
    fvu = {card["kind"]: card["quality"]["fvu"] for card in cards}
    assert fvu["trained"] < fvu["random"]


def test_nothing_but_on_ray_imports_ray():
    import subprocess

    code = """
import importlib, pkgutil, sys
sys.modules["ray"] = None
import saeft_ray
for info in pkgutil.walk_packages(saeft_ray.__path__, "saeft_ray."):
    if not info.name.startswith("saeft_ray.on_ray") and not info.name.endswith("__main__"):
        importlib.import_module(info.name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
