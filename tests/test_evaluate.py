"""Stored end points scored on images that came later, and accuracy by class."""

import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import saeft_ray
from saeft_ray import evaluate, results
from saeft_ray.datasets.imagenet import ImageNet
from saeft_ray.model import encoder
from saeft_ray.orchestration import artifacts
from saeft_ray.orchestration.evaluate import best
from saeft_ray.records.read import read_rows
from saeft_ray.records.rows import pack

import sweeps

WORDS = {"n1": "zero", "n2": "one", "n3": "seven"}


def pictures(folder, each=4, classes=tuple(WORDS), seed=0):
    draws = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(draws.integers(0, 256, (28, 28, 3), np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def ended(tmp_path):
    """A sweep on folders with rows and end points of two confirm trials of ft, of which the second is the better."""
    tests = {"photos": {"path": str(pictures(tmp_path / "test", seed=1)), "role": "id"}}
    data = {"type": "folder", "train": str(pictures(tmp_path / "train")), "tests": tests, "selection_share": 0.25,
            "classes": WORDS}  # fmt: skip
    methods = {"zero_shot": {}, "ft": {}}
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path / "runs", data=data, methods=methods))
    specs = [spec for spec in plan.confirm(plan.config.methods) if spec.method == "ft"]
    tuned = encoder.load(plan.config.model).classifier(artifacts.head(plan, store))
    split = plan.config.data.split("photos", plan.facts.image_size)
    for spec, selection in zip(specs, (0.5, 0.75), strict=True):
        ledger.begin_trial(spec)
        with np.errstate(all="raise"):
            tuned.head.bias.data += 0.1
        store.ensure(
            "endpoint",
            plan.final_weights(spec).key,
            lambda folder: save_file(tuned.state_dict(), folder / "model.safetensors"),
        )
        right = np.arange(len(split.labels)) % 3 == 0
        ledger.finish(
            spec,
            [
                spec.row("small", "selection", "selection", "accuracy", selection),
                spec.row("small", "photos", "id", "accuracy", float(right.mean()), n=len(right),
                         examples=split.example_order, correct=pack(right)),
            ],
        )  # fmt: skip
    return plan, ledger, specs


def asked(url, sql):
    return saeft_ray.open_sweep(url).results(sql).to_pylist()


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_new_folder_is_scored_once_and_no_row_of_the_sweep_changes(ended, tmp_path, capsys):
    _, ledger, specs = ended
    fresh = str(pictures(tmp_path / "fresh", seed=2))
    before, rows = files(tmp_path / "runs"), read_rows(ledger.url)
    assert evaluate.main([ledger.url, "--all", "ft", fresh]) == 0
    assert capsys.readouterr().out.count(" now") == 2
    after = files(tmp_path / "runs")
    assert {path: after[path] for path in before} == before
    assert [path.parent.name for path in after if path not in before] == ["evaluations"] * 2
    assert read_rows(ledger.url).equals(rows)
    scored = asked(ledger.url, "SELECT * FROM evaluations ORDER BY trial")
    assert {row["trial"] for row in scored} == {spec.id for spec in specs}
    assert {(row["dataset"], row["metric"], row["n"], row["held"], row["among"]) for row in scored} == {
        (fresh, "accuracy", 12, 3, 3)
    }
    shutil.copytree(fresh, tmp_path / "moved")  # the same images elsewhere
    assert evaluate.main([ledger.url, specs[0].id, str(tmp_path / "moved")]) == 0
    assert " before, " in capsys.readouterr().out
    assert files(tmp_path / "runs") == after
    assert asked(ledger.url, "SELECT * FROM evaluations ORDER BY trial") == scored


def test_a_score_is_what_the_model_itself_answers(ended, tmp_path, capsys):
    plan, ledger, specs = ended
    sweep = saeft_ray.open_sweep(ledger.url)
    assert evaluate.main([ledger.url, "--best", "ft", "photos"]) == 0
    said = capsys.readouterr().out
    assert "of the 2 confirm trials of ft that with the highest accuracy on the selection split, 75.00 %" in said
    (row,) = asked(ledger.url, "SELECT * FROM evaluations")
    assert row["trial"] == specs[1].id == best(plan, ledger, "ft")[0].id
    _, embedded = sweep.embeddings(specs[1].id, "photos")
    state = artifacts.load_file(sweep._store.get("endpoint", plan.final_weights(specs[1]).key) / "model.safetensors")
    unit = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    answers = (unit @ state["head.weight"].numpy().T + state["head.bias"].numpy()).argmax(1)
    labels = plan.config.data.split("photos", plan.facts.image_size).labels
    assert row["value"] == pytest.approx((answers == labels).mean())


def test_some_of_the_classes_are_scored_among_all_and_others_are_refused_in_words(ended, tmp_path, capsys):
    _, ledger, specs = ended
    some = pictures(tmp_path / "some", classes=["n2"])
    assert evaluate.main([ledger.url, specs[0].id, str(some)]) == 0
    assert "holds 1 of 3 classes; scored among all 3" in capsys.readouterr().out
    pictures(some, classes=["n7"])
    for given, words in (
        ([specs[0].id, str(some)], "'n7' among no classes of this sweep, which are 'n1', 'n2', 'n3'"),
        ([specs[0].id, str(tmp_path / "none")], "is missing; correct the path\nDATA is a folder"),
        (["nothing", "photos"], "no trial 'nothing' there"),
        (["--best", "mse", "photos"], "has no method 'mse'; its methods are ft, zero_shot"),
        (["--all", "zero_shot", "photos"], "no confirm trial of zero_shot has ended well yet"),
    ):
        assert evaluate.main([ledger.url, *given]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main([ledger.url, "photos"])


def test_a_trial_that_chooses_values_is_refused_a_test_set(ended, capsys):
    _, ledger, specs = ended
    chooses = specs[0].model_copy(update={"phase": "rerank"})
    ledger.begin_trial(chooses)
    assert evaluate.main([ledger.url, chooses.id, "photos"]) == 2
    assert "never sees a test set" in capsys.readouterr().err


def test_accuracy_by_class_comes_from_the_bits(ended, tmp_path, capsys):
    _, ledger, specs = ended
    lines = asked(ledger.url, "SELECT * FROM classes WHERE dataset = 'photos' ORDER BY trial, class")
    # Four images a class in order; each third image of all is right.
    want = {"zero": 2, "one": 1, "seven": 1}
    assert [(line["trial"], line["class"], line["n"], line["correct"]) for line in lines] == [
        (trial, name, 4, want[name]) for trial in sorted(spec.id for spec in specs) for name in sorted(want)
    ]
    assert all(line["accuracy"] == line["correct"] / 4 for line in lines)
    assert {(line["method"], line["phase"], line["seed"]) for line in lines} == {
        ("ft", "confirm", spec.seed) for spec in specs
    }
    shutil.move(tmp_path / "test/n1/0.png", tmp_path / "test/n2/zero.png")  # as many images, with other labels
    assert results.main([ledger.url, "SELECT * FROM classes"]) == 2
    assert "photos (its images are not those that the sweep scored)" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "test")
    assert results.main([ledger.url, "SELECT * FROM classes"]) == 2
    assert "the labels of these sets are not at hand" in capsys.readouterr().err


def test_folders_of_classes_go_by_words_and_by_ids(tmp_path):
    data = saeft_ray.load(sweeps.file(tmp_path / "a.yaml", tmp_path / "runs")).config.data
    assert data.class_folders()[data.class_names()[3]] == 3
    some = ImageNet(train=str(tmp_path), val=str(tmp_path), classes=("n01443537", "n01440764"))
    assert some.class_folders() == {"n01440764": 0, "n01443537": 1, "0": 0, "1": 1}


def test_an_end_point_that_is_gone_is_said(ended, tmp_path, capsys):
    _, ledger, specs = ended
    shutil.rmtree(tmp_path / "runs/artifacts/endpoint")
    assert evaluate.main([ledger.url, specs[0].id, "photos"]) == 2
    assert "its weights are not in" in capsys.readouterr().err


def test_a_damaged_evaluation_says_how_to_have_it_again(ended, tmp_path, capsys):
    _, ledger, specs = ended
    assert evaluate.main([ledger.url, specs[0].id, "photos"]) == 0
    (file,) = (tmp_path / "runs/sweeps/small/evaluations").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    assert results.main([ledger.url, "SELECT * FROM evaluations"]) == 1
    assert "remove it and run `python -m saeft_ray.evaluate` again" in capsys.readouterr().err
    file.unlink()
    assert evaluate.main([ledger.url, specs[0].id, "photos"]) == 0


def test_a_place_is_recorded_whole_and_never_with_a_password(ended, tmp_path, capsys, monkeypatch):
    _, ledger, specs = ended
    pictures(tmp_path / "fresh", seed=2)
    monkeypatch.chdir(tmp_path)
    assert evaluate.main([ledger.url, specs[0].id, "fresh"]) == 0
    assert asked(ledger.url, "SELECT dataset FROM evaluations") == [{"dataset": str(tmp_path / "fresh")}]
    assert evaluate.main([ledger.url, specs[0].id, "s3://me:secret@bucket/fresh"]) == 2
    assert "secret" not in capsys.readouterr().err


def test_a_set_of_the_sweep_scores_as_the_sweep_recorded_for_every_method(tmp_path):
    methods = {"zero_shot": {}, "ft": {}, "wise_ft": {"of": "ft", "alpha": 0.5}}
    _, ledger, _ = sweeps.run_here(sweeps.config(tmp_path / "runs", methods=methods, confirm={"seeds": 1}))
    assert evaluate.main([ledger.url, "--all", "sweep", "UCI"]) == 0
    again = asked(ledger.url, "SELECT trial, value, n, examples FROM evaluations ORDER BY trial")
    recorded = "SELECT trial, value, n, examples FROM results WHERE dataset = 'UCI' AND metric = 'accuracy' ORDER BY 1"
    assert again == asked(ledger.url, recorded)
    assert len(again) == 3
    by_class = asked(
        ledger.url, "SELECT trial, sum(correct) / sum(n) AS a FROM classes WHERE dataset = 'UCI' GROUP BY 1"
    )
    assert {row["trial"]: row["a"] for row in by_class} == pytest.approx({row["trial"]: row["value"] for row in again})
