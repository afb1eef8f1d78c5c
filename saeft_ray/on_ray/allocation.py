"""A Ray over the nodes of a Slurm job: one step of `srun` on each node (node.py), ended with the context.

`ray symmetric-run` would do the same in one step, but it ends with `ray stop`, which ends the Rays of all jobs of the
user on each machine, and it refuses a machine on which another Ray runs.
"""

import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from saeft_ray.errors import Unfinished, UserError
from saeft_ray.settings import Compute

PATIENCE = 300.0  # seconds for a node to start; a shared file system may be slow to give it Python's modules
_END = 30.0  # seconds for a step to end


@dataclass(frozen=True)
class Room:
    """What Slurm gave the job on one node."""

    cpus: int
    gpus: int

    def holds(self, compute: Compute) -> int:
        """How many workers of a trial fit."""
        fit = self.cpus // compute.cpus
        return min(fit, int(self.gpus / compute.gpus)) if compute.gpus else fit


@dataclass(frozen=True)
class _Step:
    node: str
    process: subprocess.Popen[str]

    def answer(self, deadline: float) -> tuple[str, Room]:
        """The head's address and what its node has, once Ray is up there. Raises Unfinished if that fails."""
        assert self.process.stdout is not None
        answers, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not answers:
            raise Unfinished(f"node {self.node}: Ray was not up after {PATIENCE:.0f} s. Run the same command to resume")
        line = self.process.stdout.readline()
        if not line:
            raise Unfinished(
                f"node {self.node}: Ray did not start (exit status {self.process.wait()}); the lines above say why. "
                f"Each node must see {sys.executable}, with saeft_ray in its environment"
            )
        told = json.loads(line)
        return told.pop("head"), Room(**told)


@contextmanager
def ray_over(nodes: Sequence[str], dashboard: bool) -> Iterator[dict[str, Room]]:
    """Brings Ray up over `nodes`, of which the first is this one; yields what each has. Meanwhile RAY_ADDRESS
    names that Ray.

    Raises Unfinished if a node does not start.
    """
    # Others on these machines could run code as this user without the token. Ray reads it when it is imported.
    before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS")}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.pop("RAY_ADDRESS", None)
    import ray

    head, *others = nodes
    # Not TMPDIR: the path of a socket has 107 bytes at most, and Ray adds 70 to this one.
    folder = tempfile.mkdtemp(prefix="saeft-", dir="/tmp")
    steps: list[_Step] = []
    with ExitStack() as undo:
        undo.callback(_restore, before)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(_end, steps)
        steps.append(_begin(head, [folder, *["--dashboard"] * dashboard]))
        address, room = steps[0].answer(time.monotonic() + PATIENCE)
        os.environ["RAY_ADDRESS"] = address
        steps += [_begin(node, [folder, f"--address={address}"]) for node in others]
        deadline = time.monotonic() + PATIENCE
        rooms = {head: room} | {step.node: step.answer(deadline)[1] for step in steps[1:]}
        undo.callback(ray.shutdown)  # a driver that is still connected when its head goes is ended by Ray
        yield rooms


def check_room(rooms: Mapping[str, Room], compute: Compute) -> None:
    """Raises UserError if no trial would ever begin on these nodes."""
    fit = sum(room.holds(compute) for room in rooms.values())
    if fit >= compute.workers:
        return
    given = ", ".join(f"{node} with {room.cpus} CPUs and {room.gpus} GPUs" for node, room in rooms.items())
    wanted = f"{compute.workers} × ({compute.cpus} CPUs and {compute.gpus:g} GPUs)"
    advice = "ask Slurm for more (--gpus-per-node, --cpus-per-task, --nodes), or change compute in the sweep file"
    if compute.gpus and not any(room.gpus for room in rooms.values()):
        advice = f"the file wants GPUs and Slurm gave the job none: add `#SBATCH --gpus-per-node=…`, or {advice}"
    raise UserError(f"compute: a trial needs {wanted} and the job has {given}; {advice}")


def _begin(node: str, arguments: Sequence[str]) -> _Step:
    # The step shares all that the job has on the node, with whatever else runs in it, and is bound to no CPU of it.
    step = ["--overlap", "--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--cpu-bind=none", "--export=ALL"]
    command = ["srun", *step, f"--nodelist={node}", sys.executable, "-m", "saeft_ray.on_ray.node"]
    pipe = subprocess.PIPE
    process = subprocess.Popen([*command, *arguments], stdin=pipe, stdout=pipe, text=True, errors="replace")  # noqa: S603
    return _Step(node, process)


def _restore(environment: Mapping[str, str | None]) -> None:
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _end(steps: Sequence[_Step]) -> None:
    for step in steps:
        assert step.process.stdin is not None
        step.process.stdin.close()
    deadline = time.monotonic() + _END
    for step in steps:
        try:
            step.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            step.process.kill()
            step.process.wait()
