"""What changed, as a user meets it: in a sweep, by the door afterwards, in SQL, from Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import saeft_ray
from saeft_ray import results
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
    by_sql = done.results("SELECT count(*) AS n FROM changes").to_pylist()[0]["n"]
    assert by_sql == len(done.features(local=True).changes_table()) > 0
    assert results.main([done.folder, "SELECT count(*) AS n FROM features"]) == 0
    assert str(len(done.features(local=True).features_table())) in capsys.readouterr().out


def test_a_sweep_without_the_section_computes_nothing_until_it_is_asked(tmp_path):
    without = {name: value for name, value in TINY.items() if name != "features"}
    sweep = saeft_ray.load({**without, "confirm": {"seeds": 1}, "storage": str(tmp_path)}).run(local=True, quiet=True)
    assert "What changed" not in Path(sweep.report().page).read_text()
    written = sweep.features(local=True)
    assert any("exploratory" in sentence for sentence in written.found.sentences)
    assert "What changed" in Path(sweep.report().page).read_text()
