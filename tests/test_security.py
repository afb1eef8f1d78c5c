"""Sweep files, rows and weights come from shared places: none of them may run code, reach out or be believed."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

import saeft_ray
from saeft_ray import report, results, sweep, trial
from saeft_ray.config.sweep_file import parse
from saeft_ray.config.yaml_loader import Loader
from saeft_ray.records.rows import table
from saeft_ray.storage.store import Store

import report_rows
import sweeps

PACKAGE = Path(saeft_ray.__file__).parent
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "aws-secret-nobody-may-see",
    "AWS_SESSION_TOKEN": "session-nobody-may-see",
    "HF_TOKEN": "hf-nobody-may-see",
}


def bomb():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join([*lines, "name: *a11"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(), "with its aliases written out it has more than 100,000 values"),
        ("name: &a [*a]", "more than 100,000 values"),
        ("name: " + "[" * 20_000 + "]" * 20_000, "nested too deeply"),
        ("name: !!python/object/apply:os.system ['touch /tmp/owned']", "has the tag !!python"),
        ("name: !!python/name:os.system", "has the tag !!python"),
    ],
)
def test_hostile_yaml_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_aliases_of_a_usual_size_are_welcome():
    text = "base: &b {lr: 1e-3, epochs: 2}\none: {<<: *b}\ntwo: *b"
    assert yaml.load(text, Loader)["one"] == {"lr": 1e-3, "epochs": 2}


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", "..", "a\x00b", "a b"])
def test_names_that_would_leave_the_sweep_are_refused(tmp_path, name, capsys):
    with pytest.raises(ValueError, match="name: found"):
        sweeps.config(tmp_path, name=name)
    with pytest.raises(ValueError, match="methods"):
        sweeps.config(tmp_path, methods={"ft": {}, name: {"type": "mse", "lambda_mse": 1}})
    assert trial.main([str(tmp_path / "sweeps" / "small"), name]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    "url", ["s3://key:word-nobody-may-see@bucket/x", "https://host/x.pt?X-Amz-Signature=word-nobody-may-see"]
)
def test_credentials_in_any_url_of_a_sweep_file_are_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match=r"model\.pretrained: a URL with credentials") as caught:
        sweeps.config("runs", model={"arch": "digit-clip", "pretrained": url})
    assert "nobody-may-see" not in str(caught.value)


def test_a_report_escapes_whatever_rows_and_records_say(tmp_path):
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    rows = [
        report_rows.Row(**{**vars(row), "dataset": hostile if row.dataset == "Sketch" else row.dataset})
        for row in report_rows.rows(seeds=3)
    ]
    rows[-1] = report_rows.Row(**{**vars(rows[-1]), "status": "error", "value": None, "error": hostile})
    failed = next(row for row in rows if row.phase == "confirm")
    rows.append(
        report_rows.Row(
            **{**vars(failed), "dataset": "V3", "seed": 99, "trial": hostile, "status": "failed", "error": hostile}
        )
    )
    record = json.loads(json.dumps(report_rows.record()).replace("Sketch", hostile))
    record["name"] = hostile
    report.write_report(table(rows), record, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page, "the hostile name must have reached the page"
    for raw in ("<script>alert(1)", "<img src=x onerror"):
        assert raw not in page
    for drawing in tmp_path.glob("*.svg"):
        assert "<script>alert(1)" not in drawing.read_text()


HOSTILE = ("<script>alert(1)<script>", "<img src=x onerror=alert(2)>", "[red]'; DROP TABLE results; --")


@pytest.fixture
def pictures(tmp_path):
    """A data set in folders whose classes have hostile names."""
    for light, root in enumerate(("train", HOSTILE[0])):
        for position, name in enumerate(HOSTILE):
            (tmp_path / root / name).mkdir(parents=True)
            for number in range(8):
                colour = (100 * position, 30 * number, 200 - 100 * position + light)
                Image.new("RGB", (32, 32), colour).save(tmp_path / root / name / f"{number}.png")
    tests = {"ID": {"path": str(tmp_path / HOSTILE[0]), "role": "id"}}
    words = dict(zip(HOSTILE, ("zero", "one", "two"), strict=True))  # the small model knows few
    return {"type": "folder", "train": str(tmp_path / "train"), "tests": tests, "selection_share": 0.25,
            "classes": words}  # fmt: skip


def test_hostile_names_of_classes_and_data_sets_go_through_every_door_as_words(tmp_path, pictures, capsys):
    sections = {"data": pictures, "methods": {"zero_shot": {}, "ft": {}}, "confirm": {"seeds": 3}}
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **sections)
    assert sweep.main([file, "--plan"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(name in said for name in HOSTILE)
    assert sweep.main([file, "--local"]) == 0
    storage = str(tmp_path / "runs/sweeps/small")
    assert results.main([storage, "SELECT DISTINCT class FROM classes", "--format", "csv"]) == 0
    assert {"zero", "one", "two"} <= set(capsys.readouterr().out.split())
    hostile = {**pictures, "tests": {" ".join(HOSTILE): pictures["tests"]["ID"]}}
    assert (
        sweep.main([sweeps.file(tmp_path / "b.yaml", tmp_path / "b", **{**sections, "data": hostile}), "--plan"]) == 2
    )
    assert "cannot name a test set" in capsys.readouterr().err
    report_folder = tmp_path / "runs/sweeps/small/report"
    page = (report_folder / "report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;script&gt;" in page
    for file in report_folder.iterdir():
        if file.suffix in (".html", ".svg"):
            assert not [name for name in HOSTILE[:2] if name in file.read_text()], file.name
    assert trial.main([storage, next((tmp_path / "runs/sweeps/small/trials").glob("confirm-ft-*")).name]) == 0
    shutil.rmtree(tmp_path / HOSTILE[0] / HOSTILE[2])
    (tmp_path / HOSTILE[0] / f"[bold]{HOSTILE[1]}").mkdir()
    assert sweep.main([str(tmp_path / "a.yaml"), "--plan"]) == 2
    assert f"[bold]{HOSTILE[1]}" in capsys.readouterr().err


def test_a_machine_without_credentials_is_told_so_in_a_line(s3_url, tmp_path, monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        if name not in ("AWS_ENDPOINT_URL", "AWS_EC2_METADATA_DISABLED"):
            monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert sweep.main([sweeps.file(tmp_path / "a.yaml", s3_url), "--local"]) == 2
    said = capsys.readouterr().err
    assert "No credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role" in said
    assert said.count("\n") == 1


def test_no_secret_reaches_files_output_or_the_log(tmp_path, monkeypatch, capsys, caplog):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    methods = {"methods": {"zero_shot": {}}, "report": {"baseline": "zero_shot"}}
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **methods)
    with caplog.at_level("DEBUG"):
        assert sweep.main([file, "--plan"]) == 0
        assert sweep.main([file, "--local"]) == 0
    said = "".join(capsys.readouterr()) + caplog.text
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) > 10
    for value in SECRETS.values():
        assert value not in said
        assert not [path for path in files if value.encode() in path.read_bytes()]


UNSAFE = {
    *("pickle.loads", "pickle.load", "cloudpickle.loads", "cloudpickle.load", "dill.loads", "joblib.load"),
    *("marshal.loads", "shelve.open", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"),
    *("eval", "exec", "os.system"),
}


def calls(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}, node


def faults(source):
    """Calls in `source` that could run what a file says."""
    for name, words, node in calls(source):
        if (
            name in UNSAFE
            or (name in ("torch.load", "torch.hub.load") and words.get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and words.get("allow_pickle", "False") != "False")
            or (
                name == "yaml.load"
                and (len(node.args) < 2 or ast.unparse(node.args[1]) not in ("Loader", "yaml.SafeLoader"))
            )
            or (name.startswith("subprocess.") and words.get("shell", "False") != "False")
        ):
            yield name


def test_nothing_in_the_package_unpickles_or_runs_what_it_reads():
    found = {
        (str(path.relative_to(PACKAGE)), name) for path in PACKAGE.rglob("*.py") for name in faults(path.read_text())
    }
    assert found == set()  # where Ray itself pickles is told in docs/security.md


def test_the_scan_sees_what_it_looks_for():
    for bad in ("torch.load(f)", "np.load(f, allow_pickle=True)", "yaml.load(t)", "pickle.load(f)",
                "subprocess.run(c, shell=True)", "torch.load(f, weights_only=False)"):  # fmt: skip
        assert list(faults(bad))
    assert not list(faults("torch.load(f, weights_only=True); np.load(f, allow_pickle=False); yaml.load(t, Loader)"))


def test_logs_of_ray_are_kept_without_secrets(tmp_path, monkeypatch):
    from saeft_ray.on_ray.runner import _copy_log

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["AWS_SECRET_ACCESS_KEY"])
    (tmp_path / "raylet.out").write_text(f"runtime_env: {SECRETS['AWS_SECRET_ACCESS_KEY']}\nkept\n")
    _copy_log(str(tmp_path / "raylet.out"), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "runtime_env: ***\nkept\n"


def test_a_store_in_the_plan_holds_no_credentials(monkeypatch):
    import pickle

    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    pickled = pickle.dumps(Store("s3://bucket/x", endpoint="http://127.0.0.1:9"))
    assert not [value for value in SECRETS.values() if value.encode() in pickled]
