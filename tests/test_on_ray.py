"""The same sweep on a real Ray, on loopback: equal rows, several workers, Ctrl-C."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import saeft_ray.orchestration.plan
from saeft_ray.api import load
from saeft_ray.errors import Unfinished
from saeft_ray.features.files import stored
from saeft_ray.on_ray.runner import RayRunner
from saeft_ray.orchestration import artifacts, cap
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.orchestration.stopping import ask_to_stop
from saeft_ray.records.hours import Hours
from saeft_ray.records.read import read_rows
from saeft_ray.training import frozen_embeddings
from saeft_ray.training.worker import Worker

import sweeps

METHODS = {"zero_shot": {}, "ft": {}, "wise_ft": {"alpha": 0.5}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}}


@pytest.fixture(scope="module", autouse=True)
def one_ray():
    """One Ray for all tests of this file: a sweep finds it running and leaves it running."""
    import ray

    from saeft_ray.on_ray.runner import SETTINGS

    environment = {**SETTINGS, "OMP_NUM_THREADS": "1"}
    ray.init("local", num_cpus=2, include_dashboard=True, log_to_driver=False, runtime_env={"env_vars": environment})
    yield
    ray.shutdown()


def run_on_ray(config):
    plan, store, ledger = sweeps.opened(config)
    with RayRunner(plan, store, ledger) as runner:
        run_phases(plan, ledger, runner, Quiet())
    return read_rows(ledger.url)


def comparable(rows, *columns):
    kept = [row for row in rows.to_pylist() if row["metric"] != "seconds"]
    return sorted(str([row[name] for name in columns or rows.column_names]) for row in kept)


@pytest.mark.slow
def test_ray_and_the_serial_runner_write_equal_rows(tmp_path):
    here, there = (sweeps.config(tmp_path / name, methods=METHODS) for name in ("here", "there"))
    _, ledger, _ = sweeps.run_here(here)
    assert comparable(run_on_ray(there)) == comparable(read_rows(ledger.url))


@pytest.mark.slow
def test_two_workers_train_what_one_does(tmp_path):
    methods = {"mse": {"lambda_mse": 300}}
    sections = {"methods": methods, "confirm": {"seeds": 1}, "report": {"baseline": "mse"}}
    _, ledger, _ = sweeps.run_here(sweeps.config(tmp_path / "one", **sections))
    two = run_on_ray(sweeps.config(tmp_path / "two", **sections, compute={"workers": 2, "accumulate": 2}))
    one = {
        (r["dataset"], r["metric"]): r["value"] for r in read_rows(ledger.url).to_pylist() if r["metric"] != "seconds"
    }
    got = {(r["dataset"], r["metric"]): r["value"] for r in two.to_pylist() if r["metric"] != "seconds"}
    assert got.keys() == one.keys()
    assert got["train", "loss.mse"] == pytest.approx(one["train", "loss.mse"], rel=0.02)
    assert {key: value for key, value in got.items() if key[1] == "accuracy"} == pytest.approx(
        {key: value for key, value in one.items() if key[1] == "accuracy"}, abs=0.01
    )


@pytest.mark.slow
def test_what_changed_is_found_by_tasks_and_is_that_of_one_process(tmp_path):
    section = {"mode": "summary", "words": ["navy", "pink"], "stability": 1}
    sections = {**sweeps.SMALL, "methods": {"ft": {}}, "confirm": {"seeds": 2}, "features": section}
    here = load({**sections, "storage": str(tmp_path / "here")}).run(local=True, quiet=True)
    there = load({**sections, "storage": str(tmp_path / "there")}).run(join=True, quiet=True)
    one, tasks = (stored(sweep.folder) for sweep in (here, there))
    assert one.features
    assert not one.missing
    assert tasks == one
    assert there.features(join=True).found == one


@pytest.mark.slow
def test_frozen_features_are_extracted_by_tasks_and_are_those_of_one_process(tmp_path, monkeypatch):
    """The shards beside each other, and what they make the same bytes; a shard that is there is not computed again."""
    sections = {"methods": {"ft": {}, "mse": {"lambda_mse": 300}}}
    plan, store, _ = sweeps.opened(sweeps.config(tmp_path / "one", **sections))
    want = (artifacts.ensure(plan.activations(), plan, store, Worker().device) / frozen_embeddings.FILE).read_bytes()
    monkeypatch.setattr(saeft_ray.orchestration.plan, "SHARD", 512)
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path / "many", **sections))
    whole = plan.activations()
    artifacts.ensure(whole.shards[1], plan, store, Worker().device)
    kept = store.manifest("shard", whole.shards[1].key).build
    built = []

    class Watch(Quiet):
        def built(self, artifact):
            built.append(artifact.kind)
            if artifact.key == whole.shards[1].key:
                assert store.manifest("shard", artifact.key).build == kept

    with RayRunner(plan, store, ledger) as runner:
        runner.build(plan.artifacts(), Watch())
        assert sorted(built) == sorted(["head", "activations", *["shard"] * len(whole.shards)])
        assert [kind for kind in built if kind != "head"][-1] == "activations"  # the head is nothing to wait for
        runner.build(plan.artifacts(), Watch())
        assert built[-2:] == ["head", "activations"]  # nothing of the shards is left, and nothing is missing
    assert len(whole.shards) > 2
    assert (store.get(whole.kind, whole.key) / frozen_embeddings.FILE).read_bytes() == want
    assert store.keys("shard") == []


@pytest.mark.slow
def test_a_trial_that_cannot_run_is_told_and_the_others_are_kept(tmp_path):
    config = sweeps.config(tmp_path, methods={"ft": {}, "mse": {"lambda_mse": 300}}, confirm={"seeds": 1})
    plan, store, ledger = sweeps.opened(config)
    (mse,) = [spec for spec in plan.confirm(plan.config.methods) if spec.method == "mse"]
    store.write_once(f"artifacts/endpoint/{plan.final_weights(mse).key}", b"a file where a folder should be")
    with (
        pytest.raises(Unfinished, match=r"(?s)1 confirm trials could not be run.*confirm-mse-.*bug, 2 times"),
        RayRunner(plan, store, ledger) as runner,
    ):
        run_phases(plan, ledger, runner, Quiet())
    rows = read_rows(ledger.url).to_pylist()
    assert {row["method"] for row in rows if row["status"] == "ok"} == {"ft"}
    (row,) = [row for row in rows if row["status"] == "error"]
    assert row["trial"] == mse.id
    assert "NotADirectoryError" in row["error"]
    assert "store.py" in row["error"]
    Path(store.url, "artifacts/endpoint", plan.final_weights(mse).key).unlink()
    with RayRunner(plan, store, ledger) as runner:
        run_phases(plan, ledger, runner, Quiet())
    assert {(row["method"], row["status"]) for row in read_rows(ledger.url).to_pylist()} == {
        ("ft", "ok"),
        ("mse", "ok"),
    }


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_the_rows_are_the_same(tmp_path, caplog):
    train = {**sweeps.SMALL["train"], "epochs": 3}
    sections = {"methods": {"ft": {}}, "train": train, "confirm": {"seeds": 1}, "compute": {"checkpoint_minutes": 0}}
    _, ledger, _ = sweeps.run_here(sweeps.config(tmp_path / "here", **sections))
    plan, store, there = sweeps.opened(sweeps.config(tmp_path / "there", **sections))
    killed = []

    class Killer(Quiet):
        """Kills one worker in the middle of its training, once a checkpoint is there."""

        def started(self, spec):
            if not killed:
                killed.append(threading.Thread(target=self.kill))
                killed[0].start()

        def kill(self):
            deadline = time.monotonic() + 100
            while not store.keys("checkpoint"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            for process in trial_processes():
                os.kill(process, signal.SIGKILL)

    with RayRunner(plan, store, there) as runner:
        run_phases(plan, there, runner, Killer())
    killed[0].join()
    assert comparable(read_rows(there.url)) == comparable(read_rows(ledger.url))
    (told,) = (record.getMessage() for record in caplog.records if record.name == "saeft_ray.on_ray.tune")
    assert "ray.tune.execution.tune_controller" not in {record.name for record in caplog.records if record.levelno > 20}
    assert re.match(r"confirm-ft-\w+: crashed \(.+\); tried again in 1 s$", told)


def test_a_process_that_ran_a_sweep_is_as_it_was_before(tmp_path):
    """A notebook, say: its environment and the log level of its own Tune."""
    tune = logging.getLogger("ray.tune")
    before, level = dict(os.environ), tune.level
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path))
    with RayRunner(plan, store, ledger):
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
        assert tune.level == logging.CRITICAL
    assert dict(os.environ) == before
    assert tune.level == level


def trial_processes():
    """Ids of the processes that run Tune trials, children of this one's Ray."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if status.read_bytes().startswith(b"ray::Trial") and is_ours(int(status.parent.name)):
                found.append(int(status.parent.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def is_ours(process):
    """Whether `process` descends from this test process."""
    while process > 1:
        if process == os.getpid():
            return True
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return False


@pytest.mark.slow
@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL])
def test_a_driver_that_is_stopped_leaves_a_sweep_that_the_same_command_resumes(tmp_path, how):
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", methods={"zero_shot": {}, "ft": {}})
    command = [sys.executable, "-m", "saeft_ray.sweep", file]
    environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    trials = tmp_path / "runs/sweeps/small/trials"
    deadline = time.monotonic() + 120
    while not list(trials.glob("*/rows.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    first.send_signal(how)
    if how == signal.SIGINT:
        _, said = first.communicate(timeout=60)
        assert first.returncode == 130
        assert "The same command continues from here" in said
    else:
        assert first.wait(timeout=60) == -signal.SIGKILL
        first.stdout.close()
        first.stderr.close()
    kept = {path: path.read_bytes() for path in trials.glob("*/rows.parquet")}
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert "report.html" in second.stdout
    assert {path: path.read_bytes() for path in kept} == kept
    assert len(list(trials.glob("*/rows.parquet"))) == 3
    assert list((trials.parent / "logs").glob("session_*/raylet.out"))


class Ending(Quiet):
    """Asks for the end of every trial of `ft`: of the first while it trains, of the others before they begin."""

    def __init__(self, plan, store, ledger):
        self.plan, self.store, self.ledger, self.heard, self.thread = plan, store, ledger, {}, None

    def started(self, spec):
        if spec.method == "ft" and self.thread is None:
            self.thread = threading.Thread(target=self.end)
            self.thread.start()

    def stopped(self, spec, why):
        self.heard[spec.id] = why

    def end(self):
        first, *waiting = [spec.id for spec in self.plan.confirm(self.plan.config.methods) if spec.method == "ft"]
        for trial in waiting:
            ask_to_stop(self.ledger.url, trial)
        deadline = time.monotonic() + 200
        while not self.store.keys("checkpoint"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ask_to_stop(self.ledger.url, first)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_trials_that_somebody_stops_end_for_good_and_the_others_are_kept(tmp_path, workers):
    """Their training would take many minutes."""
    train = {**sweeps.SMALL["train"], "epochs": 2000}
    compute = {"workers": workers, "concurrent": 1, "checkpoint_minutes": 0}
    config = sweeps.config(tmp_path, methods={"zero_shot": {}, "ft": {}}, train=train, compute=compute)
    plan, store, ledger = sweeps.opened(config)
    ending = Ending(plan, store, ledger)
    with RayRunner(plan, store, ledger) as runner:
        run_phases(plan, ledger, runner, ending)
    ending.thread.join()
    ended = {
        row["trial"]: row
        for row in read_rows(ledger.url).to_pylist()
        if (row["role"], row["metric"]) == ("selection", "accuracy")
    }
    assert {row["status"] for row in ended.values() if row["method"] == "zero_shot"} == {"ok"}
    stopped = {trial: row["error"] for trial, row in ended.items() if row["method"] == "ft"}
    assert len(stopped) == 2
    assert stopped == ending.heard
    assert all(why.startswith("stopped on purpose: asked by ") for why in stopped.values())
    assert ledger.stopped("confirm") == stopped.keys()


@pytest.mark.slow
def test_a_cap_gives_trials_the_grace_of_a_signal(tmp_path, monkeypatch):
    train = {**sweeps.SMALL["train"], "epochs": 2000}
    compute = {"checkpoint_minutes": 0.05, "max_hours": 100}
    config = sweeps.config(tmp_path, methods={"ft": {}}, train=train, compute=compute, confirm={"seeds": 1})
    plan, store, ledger = sweeps.opened(config)
    kept, compute = [], plan.config.compute

    def left(self):
        kept.extend(store.keys("checkpoint"))
        return 0.0 if kept else 1.0

    monkeypatch.setattr(cap, "_LOOK", 0.1)
    monkeypatch.setattr(cap.Cap, "_left", left)
    with (
        pytest.raises(Unfinished, match="The sweep ends early, in confirm with one of one done"),
        StopSignals(60) as signals,
        RayRunner(plan, store, ledger, signals) as runner,
        cap.Cap(compute, Hours(store, "small", 1), signals, lambda: "in confirm with one of one done") as watch,
    ):
        run_phases(plan, ledger, cap.Capped(runner, store, watch), Quiet())
    assert store.keys("checkpoint") > kept[:1], "one more was saved"
    assert not ledger.finished()
