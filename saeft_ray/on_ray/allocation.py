"""A Ray over the nodes of a Slurm job: one step of `srun` on each node (node.py), ended with the context.

`ray symmetric-run` would do the same in one step, but it ends with `ray stop`, which ends the Rays of all jobs of the
user on each machine, and it refuses a machine on which another Ray runs.
"""

import json
import os
import secrets
import select
import shutil
import socket
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
_PORTS: Sequence[int] = range(20_000, 32_000, 2)  # below those that systems give to connections


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

    def room(self, deadline: float) -> Room:
        """What its node has, once Ray is up there. Raises Unfinished if that fails."""
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
        return Room(**json.loads(line))


@contextmanager
def ray_over(job: int, nodes: Sequence[str], dashboard: bool) -> Iterator[dict[str, Room]]:
    """Brings Ray up over `nodes`, of which the first is this one; yields what each has. Meanwhile RAY_ADDRESS
    names that Ray.

    Raises Unfinished if a node does not start.
    """
    # Others on these machines could run code as this user without the token. Ray reads it when it is imported.
    before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS")}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    head, *others = nodes
    address = os.environ["RAY_ADDRESS"] = f"{ray.util.get_node_ip_address()}:{_free_port(job)}"
    # Not TMPDIR: the path of a socket has 107 bytes at most, and Ray adds 70 to this one.
    folder = tempfile.mkdtemp(prefix="saeft-", dir="/tmp")
    steps: list[_Step] = []
    with ExitStack() as undo:
        undo.callback(_restore, before)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(_end, steps)
        rooms: dict[str, Room] = {}
        for group, options in (([head], ["--head", *["--dashboard"] * dashboard]), (others, [])):
            begun = [_Step(node, _begin(node, [address, folder, *options])) for node in group]
            steps += begun
            deadline = time.monotonic() + PATIENCE
            rooms |= {step.node: step.room(deadline) for step in begun}
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


def _begin(node: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    # The step shares all that the job has on the node, with whatever else runs in it, and is bound to no CPU of it.
    step = ["--overlap", "--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--cpu-bind=none", "--export=ALL"]
    command = ["srun", *step, f"--nodelist={node}", sys.executable, "-m", "saeft_ray.on_ray.node"]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *arguments], stdin=pipe, stdout=pipe, text=True, errors="replace")  # noqa: S603


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


def _free_port(job: int) -> int:
    """The head's port, which is followed by that of its dashboard: other jobs begin to look elsewhere."""
    start = job % len(_PORTS)
    for port in (*_PORTS[start:], *_PORTS[:start]):
        if all(_is_free(number) for number in (port, port + 1)):
            return port
    raise Unfinished("no port is free on this machine. Run the same command to resume")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("", port))
        except OSError:
            return False
    return True
