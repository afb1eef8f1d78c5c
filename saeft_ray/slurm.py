"""`python -m saeft_ray.slurm FILE`: runs a sweep in a Slurm job, on a Ray of the job's own (cluster/slurm.sbatch).

SIGTERM says that the job's time is up: trials save checkpoints, and the job goes back into Slurm's queue. It may come
at once, so what takes seconds to import is imported once it is heard.
"""

import argparse
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Self

from saeft_ray import door
from saeft_ray.errors import Taken, Unfinished, UserError

if TYPE_CHECKING:
    from saeft_ray.api import Sweep

LEAST = 60  # seconds in which a job can start Ray, train a little and save what it has
# Artifacts that a sweep saves many of, by the key of what they belong to.
_OF_MANY = re.compile(r"artifacts/(?:activations|shard|checkpoint|endpoint)/([0-9a-f]+)")


def main(arguments: list[str] | None = None) -> int:
    """Exit status: that of `python -m saeft_ray.sweep`; 0 also if another job runs the sweep."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.slurm", description="Run a sweep file in a Slurm job.")
    parser.add_argument("file", help="the sweep file (YAML)")
    options = parser.parse_args(arguments)
    return door.guarded(
        lambda: _run(options.file),
        advice="Fix this, then submit the same job to resume",
        stopped="Stopped. The same job, submitted again, continues from here",
    )


@dataclass(frozen=True)
class Job:
    """The Slurm job that this process belongs to."""

    id: str
    nodes: tuple[str, ...]

    @classmethod
    def here(cls) -> Self:
        """Raises UserError outside a job."""
        if "SLURM_JOB_ID" not in os.environ or "SLURM_JOB_NODELIST" not in os.environ:
            raise UserError("this is not a job of Slurm: use `sbatch cluster/slurm.sbatch FILE`")
        names = _asked("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"])
        return cls(os.environ["SLURM_JOB_ID"], tuple(names.split()))

    def seconds_left(self) -> float:
        """Until the job's time limit; infinite without one."""
        left = _asked("squeue", "--noheader", f"--jobs={self.id}", "--format=%L").strip()
        found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", left)
        if not found:
            return float("inf")
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    def runs(self) -> bool:
        """False once Slurm ends it: cancelled, or at its limit."""
        return _asked("squeue", "--noheader", f"--jobs={self.id}", "--format=%T").strip() == "RUNNING"

    def requeue(self) -> None:
        """Puts the job back into the queue, which ends this process. Raises UserError where that is not allowed."""
        _asked("scontrol", "requeue", self.id)


def _run(file: str) -> int:
    began, job = time.monotonic(), Job.here()
    try:
        sweep = _load(file)
        _check_time(job)
        before = _saved(sweep)
    except KeyboardInterrupt as stop:
        if stop.args == (signal.SIGTERM,):
            return _continue_later(job, (), time.monotonic() - began)
        raise
    try:
        return _sweep(job, sweep)
    except Taken as taken:
        print(
            f"{taken}. This job has nothing to do and ends. Jobs of one sweep wait for each other without machines "
            "with sbatch --dependency=singleton, or --array=1-9%1",
            flush=True,
        )
        return 0
    except KeyboardInterrupt as stop:
        if stop.args == (signal.SIGTERM,) and job.runs():
            return _continue_later(job, _progress(sweep, _saved(sweep) - before), time.monotonic() - began)
        raise


def _load(file: str) -> "Sweep":
    from saeft_ray.api import load

    sweep = load(file)
    if address := sweep.config.compute.address:
        raise UserError(f"{file}: compute.address: {address!r}; the job has a Ray of its own: remove the line")
    return sweep


def _check_time(job: Job) -> None:
    left = job.seconds_left()
    if left < LEAST:
        raise UserError(
            f"the job has {left:.0f} s left, and Ray's start with one checkpoint needs {LEAST} s: give it more with "
            "sbatch --time=…"
        )


def _sweep(job: Job, sweep: "Sweep") -> int:
    from saeft_ray.on_ray.allocation import check_room, ray_over
    from saeft_ray.sweep import show

    compute = sweep.config.compute
    with ray_over(job.nodes, dashboard=compute.workers > 1) as rooms:
        check_room(rooms, compute)
        sweep.run()
    return show(sweep)


def _continue_later(job: Job, saved: Collection[str], seconds: float) -> int:
    if not saved:
        raise Unfinished(
            f"The signal came {seconds:.0f} s after the start, and nothing was saved by then: the job would begin "
            "again for ever, so it is not put back into the queue. Give it more time with sbatch --time=…, or the "
            "trials less to do before their first step"
        )
    # Said before, because it ends this process, by SIGTERM once more if it has not ended by itself.
    print(f"The sweep is not finished: job {job.id} goes back into the queue and continues from here", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        job.requeue()
    except UserError as error:
        raise Unfinished(f"The job did not get back into the queue. {error}. Submit the same job to resume") from None
    return door.STOPPED


def _saved(sweep: "Sweep") -> set[str]:
    """What the storage holds: artifacts, checkpoints among them, and the sweep's trials with rows."""
    from saeft_ray.records.ledger import Ledger
    from saeft_ray.storage.store import Store

    store = Store(sweep.config.storage.url, endpoint=sweep.endpoint)
    artifacts = {path for path in store.list("artifacts") if path.endswith("/manifest.json")}
    return artifacts | Ledger(store, sweep.name).finished()


def _progress(sweep: "Sweep", saved: Collection[str]) -> set[str]:
    """Those of `saved` that the sweep's job has to show for its time: other sweeps of the storage save activations and
    checkpoints, too."""
    from saeft_ray.orchestration.reopen import reopen
    from saeft_ray.records.rows import PHASES

    try:
        plan, ledger, _ = reopen(sweep.folder, sweep.endpoint)
    except UserError:  # it has not begun
        return set()
    trials = [spec for phase in PHASES for spec in ledger.asked(phase)]
    named = [*plan.artifacts(), *(plan.final_weights(spec) for spec in trials if spec.trained)]
    keys = {one.key for artifact in named for one in (artifact, *artifact.shards)}
    return {one for one in saved if not (found := _OF_MANY.match(one)) or found[1] in keys}


def _asked(*command: str) -> str:
    """What a command of Slurm answers. Raises UserError with its words if it fails."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - no shell
    except FileNotFoundError:
        raise UserError(f"{command[0]}: there is no such command on this node; Slurm's must be on PATH") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"{' '.join(command)}: {error.stderr.strip() or error.returncode}") from None


def _on_signal(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _on_signal)  # until there are trials (signals.StopSignals)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
