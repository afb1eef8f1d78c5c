"""Asked to stop, a trial saves a checkpoint between two steps; what follows is as if nobody had asked."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest
from loopback import Metadata

from saeft_ray.errors import Preempted
from saeft_ray.on_ray import spot
from saeft_ray.orchestration import trial
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.training import loop
from saeft_ray.training.worker import Worker

import sweeps
from sweeps import comparable

SLOWER = {"train": {**sweeps.SMALL["train"], "epochs": 40}, "methods": {"ft": {}}, "confirm": {"seeds": 1}}


@pytest.fixture
def one(tmp_path):
    """The plan, store and only confirm trial of a small sweep of two epochs."""
    config = sweeps.config(tmp_path, train={**sweeps.SMALL["train"], "epochs": 2}, methods={"ft": {}})
    plan, store, _ = sweeps.opened(config)
    return plan, store, plan.confirm(config.methods)[0]


@pytest.fixture
def batches(monkeypatch):
    """Counts the batches that are rendered, by epoch and first image."""
    rendered = Counter()
    render = loop._batch

    def counted(task, epoch, index):
        rendered[epoch, int(index[0])] += 1
        return render(task, epoch, index)

    monkeypatch.setattr(loop, "_batch", counted)
    monkeypatch.setattr(loop, "STEPS_BETWEEN_PAUSES", 3)
    return rendered


def outcome(plan, spec: TrialSpec, store: Store, worker: Worker, replay=False):
    *_, last = trial.run(plan, spec, store, worker, replay=replay)
    return [row for row in last.rows if row.metric != "seconds"]


def test_a_trial_that_stopped_within_an_epoch_runs_no_step_twice_and_has_equal_rows(one, batches):
    plan, store, spec = one
    undisturbed = outcome(plan, spec, store, Worker(), replay=True)
    steps = len(batches)
    batches.clear()
    for asked in (3, 4, 2):  # the how manieth question is answered with yes; the first comes before the training
        answers = iter([False] * (asked - 1) + [True])
        with pytest.raises(Preempted, match=r"saved after \d+ epochs and \d+ steps"):
            list(trial.run(plan, spec, store, Worker(must_stop=lambda: next(answers))))  # noqa: B023
        (kept,) = store.keys("checkpoint")
    assert not kept.endswith("-0000000"), "stopped within an epoch"
    assert outcome(plan, spec, store, Worker()) == undisturbed
    assert set(batches.values()) == {1}
    assert len(batches) == steps
    assert store.keys("checkpoint") == []


def test_a_trial_that_is_told_before_it_began_does_nothing(one, batches):
    plan, store, spec = one
    with pytest.raises(Preempted, match="before it began"):
        list(trial.run(plan, spec, store, Worker(must_stop=lambda: True)))
    assert not batches
    assert store.keys("checkpoint") == []


def test_the_first_signal_asks_and_the_second_or_the_end_of_grace_is_the_end():
    def wait():
        with suppress(TimeoutError):
            threading.Event().wait(20)
        raise AssertionError("nothing came")

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for grace, signals in ((60, (signal.SIGTERM, signal.SIGINT)), (0.05, (signal.SIGTERM,))):
        with StopSignals(grace) as stop:
            with pytest.raises(KeyboardInterrupt), stop.while_trials_run():  # noqa: PT012
                os.kill(os.getpid(), signals[0])
                assert stop.stop_requested
                for number in signals[1:]:
                    os.kill(os.getpid(), number)
                wait()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    with StopSignals() as idle:
        with pytest.raises(KeyboardInterrupt):  # no trial runs that could leave
            os.kill(os.getpid(), signal.SIGTERM)
        assert not idle.stop_requested
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_end_tells_which_signal_came_first():
    with pytest.raises(KeyboardInterrupt) as ended, StopSignals(0.05) as stop, stop.while_trials_run():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(20)  # until the end of grace, which comes as a SIGINT
    assert ended.value.args == (signal.SIGTERM,)


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers", [0, 1, pytest.param(2, marks=pytest.mark.long)], ids=["without ray", "one worker", "two workers"]
)
def test_a_driver_that_is_told_to_end_leaves_checkpoints_of_its_trials(tmp_path, workers):
    """A first checkpoint shows that the training runs; the next would come three seconds later."""
    compute = {"workers": max(1, workers), "checkpoint_minutes": 0.05}
    sections = {**SLOWER, "compute": compute}
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **sections)
    command = [sys.executable, "-m", "saeft_ray.sweep", file, *([] if workers else ["--local"])]
    environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    store, folder = Store(str(tmp_path / "runs")), tmp_path / "runs/sweeps/small"
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    try:
        while not (first := store.keys("checkpoint")):
            assert driver.poll() is None, "it ended before"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        driver.send_signal(signal.SIGTERM)
        _, said = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 130
    assert "Trials have 20 s to save checkpoints" in said
    assert "The same command continues from here" in said
    (kept,) = store.keys("checkpoint")
    assert kept > first[0]
    done = json.loads((store.get("checkpoint", kept) / "history.json").read_text())
    subprocess.run(command, env=environment, capture_output=True, timeout=300, check=True)
    (end,) = store.keys("endpoint")
    history = json.loads((store.get("endpoint", end) / "history.json").read_text())
    assert history[: len(done)] == done, "their seconds too: they were not trained again"
    if workers == 1:
        _, quiet, _ = sweeps.run_here(sweeps.config(tmp_path / "quiet", **SLOWER))
        assert comparable(str(folder)) == comparable(quiet.url)


def test_a_spot_notice_is_read_as_aws_gives_it():
    with Metadata() as machine:
        assert spot.notice(machine.endpoint) is None
        machine.ends_in(120)
        assert 115 <= spot.notice(machine.endpoint) <= 120
        machine.goes = "soon"
        assert spot.notice(machine.endpoint) is None
    assert spot.notice(machine.endpoint) is None  # nobody answers
