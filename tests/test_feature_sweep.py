"""What changed, as a user meets it: in a sweep, by the door afterwards, in SQL, from Python."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_folder import plant

import saeft_ray
from saeft_ray import results
from saeft_ray.errors import UserError
from saeft_ray.features.__main__ import main as features
from saeft_ray.features.compute import embeddings_of

import sweeps

TINY = {
    **sweeps.SMALL,
    "dictionary": {"width": 64, "k": 4, "steps": 20, "batch_size": 256, "seeds": 1},
    "methods": {"ft": {}, "mse": {"lambda_mse": 300}},
    "confirm": {"seeds": 3},
    "features": {"mode": "summary", "words": ["navy", "pink"], "stability": 1},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    sweep = saeft_ray.load({**TINY, "storage": str(tmp_path_factory.mktemp("runs"))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saeft_ray.features.compute.tuned_classifier", None)  # trials keep what they were evaluated by
        sweep.run(local=True, quiet=True)
    sweep.report()
    return sweep


def test_the_report_has_the_section_and_a_page_of_all_features(done):
    folder = f"{done.folder}/report"
    page = Path(f"{folder}/report.html").read_text()
    assert "What changed" in page
    assert "features.html" in page
    found = json.loads(Path(f"{folder}/features.json").read_text())
    assert {reading["kind"] for reading in found["readings"]} == {"trained", "random", "pca", "neurons"}
    assert {change["method"] for each in found["features"] for change in each["changes"]} == {"ft", "mse"}
    assert "data:image" in Path(f"{folder}/features.html").read_text()
    assert not found["missing"]


def test_the_door_computes_nothing_twice_and_says_what_it_found(done, capsys, monkeypatch):
    monkeypatch.setattr("saeft_ray.features.compute._recorded", None)
    monkeypatch.setattr("saeft_ray.features.compute.embeddings", None)
    assert features([done.folder, "--local"]) == 0
    said = capsys.readouterr().out
    assert "tested features" in said
    assert said.splitlines()[-1].endswith("report/features.html")


def test_kept_embeddings_are_those_of_the_stored_weights(done):
    spec = done.trial_of("mse")
    kept = embeddings_of(*done._opened[::2], spec, "UCI", torch.device("cpu"))
    _, tuned = done.embeddings(spec.id, "UCI")
    np.testing.assert_array_equal(kept, tuned)


def test_a_part_has_a_folder_of_its_own_and_the_report_still_shows_all(done, capsys):
    whole = Path(f"{done.folder}/report/features.json").read_bytes()
    assert features([done.folder, "--local", "--method", "mse", "--against", "ft", "--set", "UCI"]) == 0
    page = Path(capsys.readouterr().out.splitlines()[-1])
    assert page == Path(f"{done.folder}/features-mse-against-ft-UCI/features.html")
    assert json.loads((page.parent / "features.json").read_text())["sets"] == ["UCI"]
    assert Path(f"{done.folder}/report/features.json").read_bytes() == whole


def test_sql_and_python_give_the_same_tables(done, capsys):
    found = done.features(local=True)
    for name, table in (("changes", found.changes_table()), ("firings", found.firings_table())):
        assert done.results(f"SELECT count(*) AS n FROM {name}").to_pylist()[0]["n"] == len(table) > 0
    assert results.main([done.folder, "SELECT count(*) AS n FROM features"]) == 0
    assert str(len(found.features_table())) in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_without_the_section_computes_nothing_until_it_is_asked(tmp_path):
    without = {name: value for name, value in TINY.items() if name != "features"}
    sweep = saeft_ray.load({**without, "confirm": {"seeds": 1}, "storage": str(tmp_path)}).run(local=True, quiet=True)
    assert "What changed" not in Path(sweep.report().page).read_text()
    written = sweep.features(local=True)
    assert any("exploratory" in sentence for sentence in written.found.sentences)
    assert "What changed" in Path(sweep.report().page).read_text()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--method", "fft"], "unknown method 'fft', did you mean 'ft'?; allowed: ft, mse"),
        (["--against", "msee"], "unknown method 'msee', did you mean 'mse'?"),
        (["--method", "ft", "--against", "ft"], "'ft' is compared with itself"),
        (["--set", "UKI"], "sets (--set): unknown set 'UKI', did you mean 'UCI'?"),
        (["--set", "UCI", "--set", "UCI"], "sets (--set): 'UCI' stands there twice"),
        (["--words", ""], "words: found ''"),
        (["--words", "nowhere.txt"], "words: nowhere.txt: cannot be read"),
    ],
)
def test_the_door_says_what_it_does_not_know_before_it_computes(done, tmp_path, capsys, monkeypatch, asked, said):
    monkeypatch.setattr("saeft_ray.features.summary.what_changed", None)
    assert features([done.folder, "--out", str(tmp_path / "out"), "--local", *asked]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "given"), [("sets", []), ("words", 5), ("words", ["navy", 5])])
def test_python_says_what_it_does_not_take(done, tmp_path, name, given):
    with pytest.raises(UserError, match=f"{name}: found"):
        done.features(out=tmp_path, local=True, **{name: given})


def test_a_sweep_that_has_not_ended_says_so_and_one_without_a_trial_has_nothing_to_show(done, tmp_path):
    shutil.copytree(done.config.storage.url, tmp_path / "runs")
    sweep = saeft_ray.open_sweep(str(tmp_path / "runs/sweeps/small"))
    first, *others = sorted(Path(sweep.folder, "trials").glob("confirm-mse-*"))
    shutil.rmtree(first)
    written = sweep.features(out=tmp_path / "out", sets=["A"], local=True)
    assert "The sweep has not ended: 1 of 6 confirm trials are not there yet." in written.found.missing
    for trial in [*others, *Path(sweep.folder, "trials").glob("confirm-ft-*")]:
        shutil.rmtree(trial)
    with pytest.raises(UserError, match="no trial of its confirm phase has ended"):
        saeft_ray.open_sweep(sweep.folder).features(local=True)


def test_words_that_the_model_cannot_read_are_told_by_the_plan(tmp_path, monkeypatch):
    words = ["navy", "qwertz", "one " * 30, "Zero"]
    sweep = saeft_ray.load({**TINY, "storage": str(tmp_path), "features": {"words": words}})
    plan = " ".join(str(sweep.plan()).split())
    assert "features.words: 'Zero' is the same word as 'zero' and is left out" in plan
    assert "the model has no word 'qwertz'" in plan
    assert "words; the model reads at most" in plan

    def absent(model):
        raise UserError("no text tower")

    monkeypatch.setattr("saeft_ray.model.encoder.tokenizer", absent)
    assert str(sweep.plan()).count("No feature will have a name: the model's text tower reads no words") == 1


@pytest.mark.slow
def test_numbers_outlive_images_words_and_labels_and_the_page_says_so(tmp_path, caplog):
    classes, words, labels = ("zero", "one"), tmp_path / "words", tmp_path / "labels"
    tests = {
        "photos": {"path": plant(tmp_path / "photos", dict.fromkeys(classes, 8), 5000), "role": "id"},
        "single": {"path": plant(tmp_path / "single", {"one": 1}, 9000), "role": "ood"},
    }
    words.write_text("navy\n")
    labels.write_text("image,attribute,set\n0,blue,photos\nnowhere.png,red,\n")
    sweep = saeft_ray.load(
        {
            **TINY,
            "storage": str(tmp_path / "runs"),
            "data": {"type": "folder", "train": plant(tmp_path / "train", dict.fromkeys(classes, 20)), "tests": tests},
            "train": {"epochs": 1, "batch_size": 16, "lr": 1e-3},
            "dictionary": {"width": 16, "k": 2, "steps": 5, "batch_size": 32},
            "methods": {"ft": {}},
            "confirm": {"seeds": 2},
            "features": {"words": str(words), "labels": str(labels), "stability": 0},
        }
    ).run(local=True, quiet=True)
    before = sweep.features(local=True)
    assert any("1 of 2 labels name an image that is in no set: nowhere.png" in each for each in before.found.missing)
    assert "data:image" in Path(before.page).read_text()
    for name in tests:
        shutil.rmtree(tmp_path / name)
    words.unlink()
    labels.unlink()
    after = saeft_ray.open_sweep(sweep.folder).features(local=True)
    numbers = ["feature", "mean", "born", "died", "gain", "verdict"]
    assert after.changes_table().select(numbers) == before.changes_table().select(numbers)
    assert any("features.words" in each for each in after.found.missing)
    assert any("features.labels" in each for each in after.found.missing)
    assert "images are not here" in caplog.text
    page = Path(after.page).read_text()
    assert "data:image" not in page  # the older page shows what was found with the words
    assert "gone" in page
    shutil.rmtree(tmp_path / "train")  # classes are its folders
    kept = Path(sweep.folder, "features.json").read_bytes()
    with pytest.raises(UserError, match=r"nothing could be recorded of its features: .*train is missing"):
        saeft_ray.open_sweep(sweep.folder).features(local=True)
    assert Path(sweep.folder, "features.json").read_bytes() == kept
