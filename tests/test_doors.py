"""How doors end: the user's mistakes in words, bugs with their traceback and the place of the logs."""

import importlib
import inspect
import io
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import saeft_ray
from saeft_ray import compare, data, door, driver, errors, export, preflight, results, status, sweep, trial
from saeft_ray.errors import Damaged, SaeftError, Unavailable, Unfinished, UserError
from saeft_ray.report.__main__ import main as report
from saeft_ray.storage.__main__ import main as storage

import report_rows
import sweeps

DOORS = {
    "sweep": (sweep.main, ["nowhere.yaml"]),
    "results": (results.main, ["nowhere"]),
    "report": (report, ["nowhere"]),
    "trial": (trial.main, ["nowhere/sweeps/small", "confirm-ft-1"]),
    "preflight": (preflight.main, ["nowhere.yaml"]),
    "status": (status.main, ["nowhere"]),
    "export": (export.main, ["nowhere/sweeps/small", "confirm-ft-1", "a.safetensors"]),
    "data": (data.main, ["shard", "nowhere", "there"]),
    "storage": (storage, ["nowhere", "ls"]),
    "compare": (compare.main, ["nowhere", "there"]),
}


@pytest.mark.parametrize("name", DOORS)
def test_a_mistake_is_one_line_and_status_two(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main, arguments = DOORS[name]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "nowhere" in said


def raises(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("model.arch: wrong"), 2, "error: model.arch: wrong\n"),
        (Unfinished("2 trials could not be run"), 1, "2 trials could not be run\n"),
        (Unavailable("s3://b: refused"), 1, "error: s3://b: refused\nrun again\n"),
        (Damaged("a: not what was written"), 1, "error: a: not what was written\nrun again\n"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\nrun again\n"),
        (KeyboardInterrupt(), 130, "\nstopped\n"),
    ],
)
def test_what_follows_each_exception(error, status, words, capsys):
    assert door.guarded(raises(error), "run again") == status
    assert capsys.readouterr().err == words


@pytest.mark.parametrize("error", [ValueError("of a library"), OSError("the disk is gone"), KeyError("x")])
def test_anything_else_keeps_its_traceback(error, capsys):
    assert door.guarded(raises(error)) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "in act" in said
    assert said.splitlines()[-1] == door.BUG + "none but this output"


def test_a_bug_inside_a_run_names_the_log(tmp_path, monkeypatch, capsys):
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs")
    monkeypatch.setattr(driver, "run_phases", lambda *_: np.ones(3) + np.ones(4))
    assert sweep.main([file, "--local", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "operands could not be broadcast together" in said
    assert said.splitlines()[-1] == f"{door.BUG}the sweep's folder is {tmp_path}/runs/sweeps/small"


def test_secrets_are_not_shown(monkeypatch, capsys):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word-nobody-may-see")
    for error in (UserError("word-nobody-may-see"), RuntimeError("word-nobody-may-see")):
        door.guarded(raises(error))
    assert "nobody-may-see" not in capsys.readouterr().err


@pytest.mark.parametrize("module", ["report", "results", "sweep"])
def test_a_reader_that_leaves_is_no_traceback(module, tmp_path):
    (tmp_path / "trials/a").mkdir(parents=True)
    report_rows.put_json(tmp_path / "sweep.json", report_rows.record())
    report_rows.put_rows(tmp_path / "trials/a/rows.parquet", report_rows.rows(seeds=3))
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [sys.executable, "-m", f"saeft_ray.{module}", str(tmp_path)]
    if module == "sweep":
        arguments[3:] = [sweeps.file(tmp_path / "a.yaml", tmp_path / "runs"), "--plan"]
    done = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("module", ["report", "results"])
def test_a_stream_of_few_letters_stops_no_door(module, encoding, tmp_path):
    (tmp_path / "trials/a").mkdir(parents=True)
    report_rows.put_json(tmp_path / "sweep.json", report_rows.record())
    report_rows.put_rows(tmp_path / "trials/a/rows.parquet", report_rows.rows(seeds=3))
    arguments = [sys.executable, "-m", f"saeft_ray.{module}", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)


def test_letters_that_a_stream_cannot_show_are_told_apart(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert door.guarded(lambda: print("caf\u00e9 \u2026") or 0) == 0
    assert stream.buffer.getvalue() == b"caf\\xe9 \\u2026\n"


def test_a_reader_of_the_errors_that_leaves_is_no_traceback():
    act = "from saeft_ray import door, errors\ndef act(): raise errors.UserError('x')\n"
    code = act + "raise SystemExit(door.guarded(act))"
    reading, writing = os.pipe()
    os.close(reading)
    assert subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=writing).returncode == 2
    os.close(writing)


def test_wrong_arguments_are_status_two():
    for main, _ in DOORS.values():
        with pytest.raises(SystemExit) as left:
            main(["--no-such-option"])
        assert left.value.code == 2


def test_every_exception_is_drawn_in_the_tree():
    found = set()
    for info in pkgutil.walk_packages(saeft_ray.__path__, "saeft_ray."):
        if not info.name.endswith("__main__"):
            for _, one in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
                ours = one.__module__.startswith("saeft_ray") and not one.__name__.startswith("_")  # those stay inside
                if issubclass(one, BaseException) and ours:
                    found.add(one)
    assert len(found) > 10
    for one in found:
        assert issubclass(one, SaeftError), one
        assert f" {one.__name__} " in errors.__doc__, one


def test_a_record_of_another_version_is_told_with_the_version(tmp_path, capsys):
    _, _, ledger = sweeps.opened(sweeps.config(tmp_path))
    record = ledger.record()
    record["config"]["search"]["rounds"] = 3
    report_rows.put_json(Path(tmp_path, "sweeps/small/sweep.json"), record)
    assert trial.main([ledger.url, "confirm-ft-1"]) == 2
    said = capsys.readouterr().err
    assert "search.rounds" in said
    assert f"use version {saeft_ray.__version__}" in said


def test_a_door_without_streams_and_a_storage_that_ends_with_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert door.guarded(lambda: print("lost") or 0) == 0
    monkeypatch.undo()
    assert sweep.main([sweeps.file(tmp_path / "a.yaml", "memory://x", methods={"ft": {}}), "--local"]) == 2
    assert "would be gone with this process" in capsys.readouterr().err


def test_a_line_that_is_not_finite_is_the_users(tmp_path, capsys):
    file = tmp_path / "runs.csv"
    lines = [f"{m},{s},{d},0.{5 + s}" for m in ("a", "b") for s in range(3) for d in ("Val", "R")]
    file.write_text("\n".join(["method,seed,dataset,accuracy", *lines]))
    assert report(["--table", str(file), "--baseline", "a", "--id", "Val", "--line", "R=nan,1"]) == 2
    assert "give DATASET and two finite numbers" in capsys.readouterr().err


def test_a_destination_that_cannot_be_written_is_the_users(tmp_path, capsys):
    (tmp_path / "in_the_way").write_text("")
    file = tmp_path / "runs.csv"
    file.write_text("method,seed,dataset,accuracy\na,1,R,0.5\nb,1,R,0.6\n")
    out = str(tmp_path / "in_the_way" / "deeper")
    assert report(["--table", str(file), "--baseline", "a", "--out", out]) == 2
    assert "give a folder you may write to" in capsys.readouterr().err
