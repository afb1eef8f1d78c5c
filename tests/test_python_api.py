"""The Python API: the page of the documents and the example run, and say what the doors say."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import saeft_ray
from saeft_ray import export
from saeft_ray.errors import Taken, UserError
from saeft_ray.records.lease import Lease
from saeft_ray.storage.store import Store

import sweeps

ROOT = Path(__file__).parent.parent
FAST = {"methods": {"zero_shot": {}, "ft": {}}, "confirm": {"seeds": 1}}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the names of docs/python.md stand for, after its code has run."""
    text = (ROOT / "docs/python.md").read_text()
    before, folder = Path.cwd(), tmp_path_factory.mktemp("page")
    os.chdir(folder)
    try:
        names = {}
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(block, names)
        yield {**names, "folder": folder}
    finally:
        os.chdir(before)


def test_importing_it_is_light():
    code = (
        "import sys, time; began = time.perf_counter(); import saeft_ray; took = time.perf_counter() - began\n"
        "heavy = [m for m in ('torch', 'ray', 'optuna', 'pyarrow', 'numpy', 'pydantic') if m in sys.modules]\n"
        "saeft_ray.load\n"
        "import json; print(json.dumps([took, heavy, [m for m in ('torch', 'ray') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, heavy, later = json.loads(done.stdout)
    print(f"import saeft_ray: {1000 * seconds:.1f} ms")
    assert heavy == later == []


def test_every_public_name_is_there_and_no_other():
    for name in saeft_ray.__all__:
        assert getattr(saeft_ray, name) is not None
    assert set(saeft_ray.__all__) <= set(dir(saeft_ray))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = saeft_ray.nothing


def test_tables_and_report_of_the_page(page):
    assert "Nothing was run" in str(page["sweep"].plan())
    assert {line["method"] for line in page["by_set"].to_pylist()} == {"zero_shot", "ft", "sae_ft"}
    assert isinstance(page["rows"], pa.Table)
    assert Path(page["written"].page).read_text().startswith("<!doctype html>")
    assert page["comparison"].rows > 0
    with pytest.raises(UserError, match=r"SQL: .*nowhere"):
        page["done"].results("SELECT * FROM nowhere")


def test_what_changed_of_the_page_is_tables_and_pages(page):
    changes = page["changed"].changes_table().to_pylist()
    assert {line["method"] for line in changes} == {"ft", "sae_ft"}
    assert page["sure"].column_names == ["name", "method", "effect", "q"]
    assert {(line["method"], line["against"]) for line in page["part"].changes_table().to_pylist()} == {
        ("sae_ft", "frozen"),
        ("sae_ft", "ft"),
    }
    assert Path(page["folder"], page["part"].page).exists()


def test_a_model_of_the_page_is_what_export_writes(page, tmp_path):
    import open_clip

    done = page["done"]
    trial = done.trial_of("sae_ft").id
    file = tmp_path / "tuned.safetensors"
    assert export.main([done.folder, trial, str(file)]) == 0
    written = open_clip.create_model("digit-clip", pretrained=str(file)).state_dict()
    state = page["model"].state_dict()
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], state[name]) for name in state)


def test_embeddings_of_the_page_are_those_of_the_model_in_the_order_of_the_split(page):
    done, model = page["done"], page["model"]
    split = done.config.data.split("UCI", 28)
    images = split.images(np.arange(len(split.labels))).float() / 255
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (model.visual.image_mean, model.visual.image_std))
    with torch.no_grad():
        want = model.encode_image((images - mean) / std).numpy()
    assert page["tuned"].shape == page["frozen"].shape == (len(split.labels), 64)
    np.testing.assert_allclose(page["tuned"], want, atol=1e-4)
    assert not np.allclose(page["frozen"], want, atol=1e-2)


def test_what_a_finished_sweep_does_not_have_is_told_with_what_it_has(page):
    done = page["done"]
    for ask, words in (
        (lambda: done.replay("confirm-ft-x"), "no trial 'confirm-ft-x'"),
        (lambda: done.tuned_model("mse"), "neither a trial .* nor a method; its methods are zero_shot, ft, sae_ft"),
        (lambda: done.tuned_model("zero_shot"), "trains no weights"),
        (lambda: done.dictionary("ft"), "uses no dictionary; in this sweep these do: sae_ft"),
        (lambda: done.embeddings("ft", "train"), "'train' is not a test set of this sweep; allowed: selection, ID"),
        (lambda: saeft_ray.open_sweep("nowhere/sweeps/x"), "no sweep at nowhere/sweeps/x"),
        (lambda: saeft_ray.load({**sweeps.SMALL, "trian": {}}), "unknown key 'trian'"),
    ):
        with pytest.raises(UserError, match=words):
            ask()


def test_a_file_with_other_settings_does_not_read_the_rows_of_its_name(page):
    config = page["sweep"].config
    other = config.model_copy(update={"seed": 1, "storage": config.storage.model_copy(update={"url": "runs"})})
    with pytest.raises(UserError, match=r"ran with other settings; saeft_ray\.open_sweep opens that one"):
        saeft_ray.Sweep(other).rows()


def test_a_sweep_that_has_not_begun_has_no_rows(tmp_path):
    with pytest.raises(UserError, match="no sweep at"):
        saeft_ray.load({**sweeps.SMALL, "storage": str(tmp_path)}).rows()


def test_one_driver_a_sweep_and_only_in_the_main_thread(tmp_path):
    sweep = saeft_ray.load({**sweeps.SMALL, **FAST, "storage": str(tmp_path)})
    store, found = Store(str(tmp_path)), []

    def refused():
        with pytest.raises(UserError, match="call it in the main thread"):
            sweep.run(local=True)
        found.append(True)

    thread = threading.Thread(target=refused)
    thread.start()
    thread.join()
    assert found
    with Lease(store, "sweeps/small", beat=0.2), pytest.raises(Taken, match="runs this sweep since"):
        sweep.run(local=True, quiet=True)


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/python_api.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "mean cosine of frozen and tuned embeddings: 0." in done.stdout
    assert done.stdout.rstrip().endswith("runs/sweeps/from_python/report/report.html")


@pytest.mark.slow
def test_a_live_ray_is_not_touched_unasked(tmp_path):
    """A notebook's own Ray: a run refuses it before anything is written, a joined run leaves it as it was."""
    code = """
import ray, saeft_ray, sys, json, pathlib
from saeft_ray.on_ray.runner import SETTINGS
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False,
         runtime_env={"env_vars": {**SETTINGS, "OMP_NUM_THREADS": "1"}})
kept = ray.put("of the notebook")
sweep = saeft_ray.load(json.loads(sys.argv[1]))
try:
    sweep.run(quiet=True)
except saeft_ray.UserError as error:
    print(error)
assert not pathlib.Path(sys.argv[2]).exists()
assert ray.get(kept) == "of the notebook"
sweep.run(join=True, quiet=True)
assert ray.get(kept) == "of the notebook" and ray.get(ray.remote(lambda: 1).remote()) == 1
print(sweep.rows().num_rows)
"""
    storage = tmp_path / "runs"
    config = json.dumps({**sweeps.SMALL, **FAST, "storage": str(storage)})
    done = subprocess.run(
        [sys.executable, "-c", code, config, str(storage)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told, rows = done.stdout.strip().splitlines()
    for words in ("connected to a Ray already (at ", "local=True", "ray.shutdown()", "compute.address"):
        assert words in told
    assert int(rows) > 5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "found NoneType"),
        ([{"name": "a"}], "found list"),
        ("name: a\nstorage: b\n", "several lines of text"),
    ],
)
def test_what_is_neither_a_path_nor_a_dict_is_refused(given, says):
    with pytest.raises(UserError, match=says):
        saeft_ray.load(given)


@pytest.mark.parametrize("url", ["s3://", "foo://x/y"])
def test_a_storage_that_names_no_place_is_refused_before_anything_runs(url):
    with pytest.raises(UserError, match="storage"):
        saeft_ray.load(sweeps.SMALL | {"storage": url})


def test_a_folder_that_is_no_sweeps_is_named_with_what_to_give(tmp_path, monkeypatch):
    (tmp_path / "sweeps/small").mkdir(parents=True)
    (tmp_path / "sweeps/small/sweep.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path, tmp_path / "sweeps", tmp_path / "sweeps/small/sweep.json", "small", ".", "sweeps/other"):
        with pytest.raises(UserError, match="no sweep at"):
            saeft_ray.open_sweep(place)
    with pytest.raises(UserError, match="foo:// is not a kind of storage"):
        saeft_ray.open_sweep("foo://x/sweeps/y")
