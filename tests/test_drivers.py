"""Real drivers, `python -m saeft_ray.sweep`, that meet, are stopped, killed and started again."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from s3_faults import Faulty

from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import read_record
from saeft_ray.storage.checksum import from_json
from saeft_ray.storage.store import Store

import sweeps
from sweeps import comparable

SECTIONS = {
    "methods": {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}},
    "search": {"trials": 6},  # the sampler's first four are random
    "rerank": {"top": 2, "seeds": 1},
    "confirm": {"seeds": {"min": 3, "max": 4}},
    "report": {"alpha": 0.001},  # nothing is decided at three
}
QUICK = """
import runpy, sys, threading
from pathlib import Path
from saeft_ray.records.lease import Lease
Lease.__init__.__defaults__ = (0.3, 4.0, 2.0, *Lease.__init__.__defaults__[3:])
newest, sight = Lease._newest, Path(sys.argv.pop(1))
def blind(self):
    while self.token and sight.name != "-" and not sight.exists():
        threading.Event().wait(0.02)
    return newest(self)
Lease._newest = blind
runpy.run_module("saeft_ray.sweep", run_name="__main__", alter_sys=True)
"""
DOOR = ("-m", "saeft_ray.sweep")
MANY = 17  # trials


@pytest.fixture
def driver():
    """Starts one; those that a test leaves behind are killed."""
    started = []

    def start(file, *how):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *map(str, how or DOOR), file, "--local", "--quiet"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(condition, *running, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in running), "it ended before"
        time.sleep(0.01)


def protocol(sweep):
    """All that was decided on the way, and the trials that there are."""
    record = read_record(str(sweep))
    known = {name: record[name] for name in ("config", "confirm_seeds", "suggestions", "registration", "looks")}
    chosen = from_json((sweep / "chosen.json").read_bytes(), "chosen.json")
    return known, chosen, sorted(path.name for path in (sweep / "trials").iterdir())


def ended(sweep):
    """Trials with rows, counted or not."""
    return {path: path.read_bytes() for path in sweep.glob("trials/*/rows.parquet")}


def assert_sound(storage):
    """Every file of a sweep and every artifact is what was written, and nothing had to be set aside."""
    store = Store(str(storage))
    assert Ledger(store, "small", lease=999_999).begin(None) == []
    for kind in ("head", "activations", "endpoint"):
        assert store.keys(kind)
        for key in store.keys(kind):
            store.get(kind, key)
    assert not list(storage.rglob("set-aside-*"))
    assert not list(storage.rglob("manifest.damaged-*"))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The folder of a sweep that nobody disturbed."""
    folder = tmp_path_factory.mktemp("quiet")
    sweeps.run_here(sweeps.config(folder, **SECTIONS))
    assert len(ended(folder / "sweeps/small")) == MANY
    return folder / "sweeps/small"


@pytest.mark.slow
@pytest.mark.parametrize("conditions", ["kept", pytest.param("ignored", marks=pytest.mark.long)])
def test_of_two_that_start_one_sweep_at_once_one_ends_it_and_the_other_is_told_who_runs_it(
    quiet, s3, s3_url, tmp_path, driver, monkeypatch, conditions
):
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    with Faulty(s3.endpoint, rate=0.0, conditions=conditions) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        file = sweeps.file(tmp_path / "a.yaml", s3_url, **SECTIONS)
        both = [driver(file), driver(file)]
        said = {process: process.communicate(timeout=300)[1] for process in both}
        winner, loser = sorted(both, key=lambda process: process.returncode)
        assert (winner.returncode, loser.returncode) == (0, 2), said
        assert re.fullmatch(
            rf"error: {s3_url}/sweeps/small: process {winner.pid} on {socket.gethostname()} runs this sweep since "
            r"20\d\d-\d\d-\d\dT[\d:]{8}\+00:00; wait for it, end it, or give the sweep another name\n",
            said[loser].rpartition("both win\n")[2],
        )
        assert ("If-None-Match" in said[loser]) == (conditions == "ignored")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert comparable(f"{s3_url}/sweeps/small") == comparable(quiet)


@pytest.mark.slow
def test_a_driver_that_slept_while_another_took_over_ends_and_what_it_wrote_late_does_not_count(
    quiet, tmp_path, driver
):
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **SECTIONS)
    sweep, sight = tmp_path / "runs/sweeps/small", tmp_path / "sight"
    zombie = driver(file, "-c", QUICK, sight)
    until(lambda: len(ended(sweep)) > 1, zombie)
    zombie.send_signal(signal.SIGSTOP)
    successor = driver(file, "-c", QUICK, "-")
    until((sweep / "leases/000002.found.json").exists, successor)
    successor.send_signal(signal.SIGSTOP)
    before = ended(sweep)
    assert len(before) < MANY
    zombie.send_signal(signal.SIGCONT)
    until(lambda: len(ended(sweep)) > len(before), zombie)
    sight.touch()
    assert "another driver took this sweep over, and continues it" in zombie.communicate(timeout=60)[1]
    assert zombie.returncode == 1
    late = {path: data for path, data in ended(sweep).items() if path not in before}
    assert not {path.parent.name for path in late} & {row["trial"] for row in comparable(sweep)}
    successor.send_signal(signal.SIGCONT)
    assert successor.wait(timeout=200) == 0
    assert comparable(sweep) == comparable(quiet)
    assert protocol(sweep) == protocol(quiet)
    for path, data in late.items():
        assert path.read_bytes() != data
        assert data in [aside.read_bytes() for aside in path.parent.glob("set-aside-*")]


def kill(process):
    process.kill()


def interrupt_twice(process):
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize("how", [kill, pytest.param(interrupt_twice, marks=pytest.mark.long)])
def test_a_driver_that_is_ended_again_and_again_leaves_the_sweep_of_one_that_nobody_disturbed(
    quiet, tmp_path, driver, how
):
    draw = random.Random(how.__name__)
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **SECTIONS)
    sweep = tmp_path / "runs/sweeps/small"
    # While it builds what trials need, in the search, about the choice, and in the confirm phase.
    moments = [0, draw.randrange(1, 6), draw.randrange(6, 9), draw.randrange(9, MANY - 1)]
    for number, least in enumerate(moments):
        process = driver(file)
        until((sweep / f"leases/{number + 1:06d}.json").exists, process)
        until(lambda least=least: len(ended(sweep)) >= least, process)
        time.sleep(draw.uniform(0, 0.7))
        kept = ended(sweep)
        how(process)
        process.communicate(timeout=60)
        assert process.returncode != 0
        assert kept.items() <= ended(sweep).items()
    last = driver(file)
    assert last.wait(timeout=200) == 0
    assert_sound(tmp_path / "runs")
    assert comparable(sweep) == comparable(quiet)
    assert protocol(sweep) == protocol(quiet)
