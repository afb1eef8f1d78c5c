"""cluster/slurm.sbatch on a real Slurm of this machine, and what is said where a job cannot run."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from test_plugins import install, run

from saeft_ray import slurm as door
from saeft_ray.errors import Unfinished, UserError
from saeft_ray.on_ray.allocation import Room, check_room
from saeft_ray.settings import Compute
from saeft_ray.storage.store import Store

import slurm
import sweeps
from sweeps import comparable

ROOT = Path(__file__).parent.parent
SBATCH = ROOT / "cluster/slurm.sbatch"
needs_slurm = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.missing() is not None, reason=str(slurm.missing())),
]
# A time limit has whole minutes, so a trial that it meets takes longer than one: its steps wait while a file is there.
PACED = """
import time
from pathlib import Path
from typing import Literal

from saeft_ray.methods.embeddings import MSE


class Paced(MSE):
    type: Literal["paced"] = "paced"

    def after_step(self, trained, step, total):
        if Path({file!r}).exists():
            time.sleep(1)
"""
POINTS = "[saeft_ray.methods]\npaced = paced:Paced\n"
SWEEP = {
    "methods": {"mse": {"lambda_mse": 300}},
    "confirm": {"seeds": 2},
    "report": {"baseline": "mse"},
    "compute": {"checkpoint_minutes": 0.05},
}
HERE = ("--gpus-per-node=0", "--cpus-per-task=1", "--output=job-%j.log")


@pytest.fixture
def cluster(tmp_path):
    with slurm.Slurm(tmp_path / "slurm", cpus=1) as running:
        yield running
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout
    assert not left, left


def submit(cluster, folder, *words, path=()):
    """Submits the file of the repository, with words in place of its own, and packages that lie in `path`."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{slurm.PATH}",
        "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT))),
        "OMP_NUM_THREADS": "1",
        "SAEFT_RAY_CACHE": str(folder / "cache"),
    }
    return cluster.submit(*HERE, *words, cwd=folder, **environment)


def state(cluster, job):
    return cluster.shown(job)["JobState"]


def ended(cluster, job):
    return state(cluster, job) in {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL"}


def seconds(clock):
    """Of hours, minutes and seconds as Slurm writes them."""
    hours, minutes, rest = map(int, clock.split(":"))
    return (hours * 60 + minutes) * 60 + rest


class TestOnARealSlurm:
    pytestmark = needs_slurm

    def test_a_job_saves_its_trials_at_its_limit_and_goes_on_to_the_rows_of_a_quiet_run(self, cluster, tmp_path):
        slow = tmp_path / "slow"
        slow.touch()
        theirs = install(tmp_path / "site", "paced", PACED.format(file=str(slow)), POINTS)
        sections = {**SWEEP, "train": {**sweeps.SMALL["train"], "epochs": 10}, "confirm": {"seeds": 1}}
        sections |= {"methods": {"mse": {"type": "paced", "lambda_mse": 300}}}
        name = "it's a sweep; $(touch pwned).yaml"
        sweeps.file(tmp_path / name, tmp_path / "runs", **sections)
        job = submit(cluster, tmp_path, "--time=60", "--signal=B:TERM@25", SBATCH, name, path=[theirs])
        log, store = tmp_path / f"job-{job}.log", Store(str(tmp_path / "runs"))
        cluster.wait(lambda: store.keys("checkpoint") or ended(cluster, job), 600, told=log.read_text)
        assert not ended(cluster, job), log.read_text()
        # A limit has whole minutes: of those, the first that leaves the trial some time before the signal.
        minutes = (seconds(cluster.shown(job)["RunTime"]) + 35) // 60 + 1
        cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
        cluster.wait(lambda: int(cluster.shown(job)["Restarts"]) > 0, 200, told=log.read_text)
        slow.unlink()
        cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
        assert "Trials have 20 s to save checkpoints" in log.read_text()
        assert f"job {job} goes back into the queue" in log.read_text()
        saved = store.keys("checkpoint")
        assert any(int("".join(key.split("-")[1:])) for key in saved), saved  # epoch and step: in mid-trial

        cluster.wait(lambda: ended(cluster, job), 900, told=log.read_text)
        assert state(cluster, job) == "COMPLETED", log.read_text()
        assert not (tmp_path / "pwned").exists()
        quiet = sweeps.file(tmp_path / "quiet.yaml", tmp_path / "quiet", **sections)
        assert run("sweep", quiet, "--local", path=[theirs]).returncode == 0
        assert comparable(tmp_path / "runs/sweeps/small") == comparable(tmp_path / "quiet/sweeps/small")

    @pytest.mark.long
    def test_an_array_works_on_one_sweep_and_a_failed_sweep_fails_its_job(self, cluster, tmp_path):
        sweeps.file(tmp_path / "small.yaml", tmp_path / "runs", **SWEEP)
        chain = submit(cluster, tmp_path, "--nodes=1", "--array=1-2", SBATCH, "small.yaml")
        cluster.wait(lambda: not cluster.run("squeue", "-h", "-t", "PD,R,CG"), 600)
        said = [path.read_text() for path in sorted(tmp_path.glob("job-*.log"))]
        assert len(said) == 2
        assert {cluster.shown(f"{chain}_{task}")["ExitCode"] for task in (1, 2)} == {"0:0"}, "\n\n".join(said)
        assert any("runs this sweep since" in words and "nothing to do" in words for words in said), said
        assert len(comparable(tmp_path / "runs/sweeps/small")) > 0

        sweeps.file(tmp_path / "wide.yaml", tmp_path / "runs", name="wide", **{**SWEEP, "compute": {"gpus": 1}})
        logs = [tmp_path / name for name in ("wide.log", "missing.log")]
        jobs = [
            submit(cluster, tmp_path, "--nodes=1", f"--output={log.name}", SBATCH, f"{log.stem}.yaml") for log in logs
        ]
        cluster.wait(lambda: {state(cluster, job) for job in jobs} == {"FAILED"}, 120)
        assert {cluster.shown(job)["ExitCode"] for job in jobs} == {"2:0"}
        assert "the file wants GPUs and Slurm gave the job none" in logs[0].read_text()
        assert "missing.yaml" in logs[1].read_text()


# What the script does before Python ----------------------------------------------------------------------------


def script(folder, *words, path=None):
    environment = {**os.environ, "PATH": path or f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in ("SLURM_JOB_ID", "SLURM_JOB_NODELIST"):
        environment.pop(name, None)
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(["bash", SBATCH, *words], env=environment, cwd=folder, capture_output=True, text=True)


def test_the_script_says_what_is_missing(tmp_path):
    assert (done := script(tmp_path)).returncode == 2
    assert "takes one sweep file" in done.stderr
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert (done := script(tmp_path, "x.yaml", path=f"{tmp_path}:{os.environ['PATH']}")).returncode == 2
    assert "has no environment with saeft_ray" in done.stderr
    python.write_text("#!/bin/sh\nkill -TERM $PPID\n")
    assert (done := script(tmp_path, "x.yaml", path=f"{tmp_path}:{os.environ['PATH']}")).returncode == 1
    assert "the signal came before the sweep began" in done.stderr
    assert (done := script(tmp_path, "x.yaml")).returncode == 2
    assert done.stderr == "error: this is not a job of Slurm: use `sbatch cluster/slurm.sbatch FILE`\n"


def test_every_line_for_slurm_stands_before_the_first_command():
    """sbatch reads no #SBATCH after it."""
    lines = SBATCH.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [line for line in lines[:first] if line.startswith("#SBATCH ")]
    assert len(asked) == sum("#SBATCH " in line for line in lines)
    assert any(re.fullmatch(r"#SBATCH --signal=B:TERM@\d+", line) for line in asked)
    assert "#SBATCH --requeue" in asked


# What the job does ---------------------------------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Slurm's commands as scripts that answer what is written to them, and keep what they were asked."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    def answer(name, shell):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.asked\n{shell}\n')
        (tmp_path / "bin" / name).chmod(0o755)

    answer("scontrol", "printf 'n1\\nn2\\n'")
    answer("squeue", "echo 1:00:00")
    answer("srun", "echo no such python >&2; exit 3")
    heard = signal.getsignal(signal.SIGTERM)
    yield answer
    signal.signal(signal.SIGTERM, heard)


@pytest.mark.parametrize(
    ("text", "left"), [("59", None), ("0:59", 59), ("1:02:03", 3723), ("2-00:00:01", 172801), ("UNLIMITED", None)]
)
def test_the_time_left_is_read_as_slurm_writes_it(commands, text, left):
    commands("squeue", f"echo {text}")
    job = door.Job.here()
    assert job.nodes == ("n1", "n2")
    assert job.seconds_left() == (float("inf") if left is None else left)


def test_a_job_says_in_one_line_why_it_does_not_run(commands, tmp_path, capfd):
    def said(file):
        status = door.main([file])
        return status, capfd.readouterr().err.splitlines()[-1]

    good = sweeps.file(tmp_path / "small.yaml", tmp_path / "runs")
    status, line = said(good)
    assert (status, line.startswith("node n1: Ray did not start (exit status 3); the lines above say why")) == (1, True)
    other = sweeps.file(tmp_path / "other.yaml", tmp_path / "runs", compute={"address": "ray.example.org:6379"})
    assert said(other)[0] == 2
    assert "compute.address" in said(other)[1]
    commands("squeue", "echo 0:40")
    assert said(good)[0] == 2
    assert "the job has 40 s left" in said(good)[1]
    commands("squeue", "echo no controller >&2; exit 1")
    assert "no controller" in said(good)[1]


def test_a_job_without_room_for_one_trial_is_refused():
    rooms = {"n1": Room(8, 2), "n2": Room(8, 2)}
    check_room(rooms, Compute(workers=4, cpus=4, gpus=1))
    check_room(rooms, Compute(workers=8, cpus=2, gpus=0.5))
    with pytest.raises(UserError, match=r"a trial needs 5 × \(4 CPUs and 1 GPUs\) and the job has n1 with 8 CPUs"):
        check_room(rooms, Compute(workers=5, cpus=4, gpus=1))
    with pytest.raises(UserError, match="Slurm gave the job none"):
        check_room({"n1": Room(8, 0)}, Compute(gpus=1))
    with pytest.raises(UserError, match="ask Slurm for more"):
        check_room(rooms, Compute(cpus=9))


@pytest.mark.slow
def test_a_ray_lives_where_another_user_has_the_port_of_rays_client(monkeypatch):
    for name, value in {"SLURM_CPUS_ON_NODE": "1", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 64 * "a"}.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as undo:
        client = undo.enter_context(socket.socket())
        with suppress(OSError):  # it is taken already
            client.bind(("", 10_001))
            client.listen()
        folder = undo.enter_context(tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True))
        command = [sys.executable, "-m", "saeft_ray.on_ray.node", folder]
        head = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        undo.callback(head.communicate)
        assert re.fullmatch(r"[\d.]+:\d+", json.loads(head.stdout.readline())["head"])
        with pytest.raises(subprocess.TimeoutExpired):  # nothing of it ends in its first seconds, and all with it
            head.wait(5)
    assert head.returncode == 0


def test_only_a_job_that_saved_something_goes_back_into_the_queue(commands, tmp_path, capsys):
    job = door.Job.here()
    with pytest.raises(Unfinished, match="nothing was saved by then"):
        door._continue_later(job, set(), 9.0)
    assert "requeue" not in (tmp_path / "scontrol.asked").read_text()
    door._continue_later(job, {"a checkpoint"}, 9.0)
    assert "requeue 77" in (tmp_path / "scontrol.asked").read_text()
    assert "goes back into the queue" in capsys.readouterr().out
    commands("scontrol", "echo Requested operation is presently disabled >&2; exit 1")
    with pytest.raises(Unfinished, match=r"presently disabled\. Submit the same job to resume"):
        door._continue_later(job, {"a checkpoint"}, 9.0)


@pytest.fixture
def stopped(commands, tmp_path, monkeypatch):
    """A job in which one trial has begun, a checkpoint is saved and a signal comes: its status, and whether it asked
    for the queue."""

    def run(number, state="RUNNING", saved="{own}"):
        commands("squeue", f'case "$*" in *%T*) echo {state};; *) echo 1:00:00;; esac')
        file = sweeps.file(tmp_path / "small.yaml", tmp_path / "runs", **SWEEP)

        def swept(*_):
            plan, store, ledger = sweeps.opened(sweeps.config(tmp_path / "runs", **SWEEP))
            (trial, *_) = plan.confirm(plan.config.methods)
            ledger.begin_trial(trial)
            own = plan.final_weights(trial).key
            store.write(f"artifacts/checkpoint/{saved.format(own=own)}-00001-0000002/manifest.json", b"{}")
            raise KeyboardInterrupt(number)

        monkeypatch.setattr(door, "_sweep", swept)
        return door.main([file]), "requeue" in (tmp_path / "scontrol.asked").read_text()

    return run


def test_only_sigterm_to_a_running_job_asks_for_the_queue(stopped):
    """Not `scancel`, which ends the job, nor SIGINT, which somebody sends by hand."""
    assert stopped(signal.SIGTERM, state="COMPLETING") == (130, False)
    assert stopped(signal.SIGINT, saved="{own}-00000") == (130, False)


def test_sigterm_to_a_job_that_saved_a_checkpoint_asks_for_the_queue(stopped, capsys):
    assert stopped(signal.SIGTERM) == (130, True)
    assert "submitted again" not in capsys.readouterr().err


def test_a_job_does_not_come_again_for_what_other_sweeps_of_the_storage_saved(stopped, capsys):
    assert stopped(signal.SIGTERM, saved=24 * "f") == (1, False)
    assert "nothing was saved by then" in capsys.readouterr().err


def test_a_signal_before_the_sweep_begins_is_answered_in_words(commands, tmp_path, capsys):
    """The limit is so short that Slurm sends it at the start."""
    commands("squeue", f"kill -TERM {os.getpid()}; echo 1:00:00")
    signal.signal(signal.SIGTERM, door._on_signal)
    assert door.main([sweeps.file(tmp_path / "small.yaml", tmp_path / "runs")]) == 1
    assert re.match(r"The signal came \d+ s after the start, and nothing was saved", capsys.readouterr().err)
    assert "requeue" not in (tmp_path / "scontrol.asked").read_text()


def test_what_takes_seconds_to_import_is_imported_once_signals_are_heard():
    said = (
        "import sys, saeft_ray.slurm; print(*{'numpy', 'pydantic', 'ray', 'torch', 'saeft_ray.api'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True).stdout == "\n"
