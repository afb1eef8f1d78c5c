"""Whether all machines of a Ray see one storage: asked of each before anything is built, and by each that comes later.

A storage that is a local folder of every machine would take a trial's rows where no other machine ever looks.
"""

import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from saeft_ray.errors import Unseen, UserError
from saeft_ray.on_ray.cluster import Machine
from saeft_ray.storage.files import Files

_ANSWER = 40.0  # seconds for all machines together
_LATE = 5.0  # seconds after which a network folder shows what another machine wrote
_seen: set[str] = set()  # marks that this process has seen


class Mark(NamedTuple):
    """A small file that a driver wrote below `url`, and its content."""

    url: str
    endpoint: str | None
    folder: str
    token: str

    @property
    def files(self) -> Files:
        return Files(self.url, endpoint=self.endpoint)

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.token}.driver"

    def check(self) -> None:
        """Once in each process: raises Unseen if the storage here is not the driver's."""
        if self.token not in _seen:
            if said := self.unlike():
                raise Unseen(f"{self.url} on {socket.gethostname()}: {said}. {_ADVICE}")
            _seen.add(self.token)

    def unlike(self) -> str:
        """How the storage here differs from the driver's; "" if it is the same."""
        found = _within(_LATE, lambda: self.files.read_bytes(self.path))
        return "" if found == self.token.encode() else "does not hold what the driver wrote there"


_ADVICE = "All machines must see one storage: give a folder that they share (NFS, EFS, Lustre), or s3://BUCKET/PATH"


@contextmanager
def marked(files: Files, folder: str) -> Iterator[Mark]:
    """A mark of this driver below `folder`, for as long as it needs one."""
    mark = Mark(files.url, files.endpoint, folder, uuid.uuid4().hex)
    files.write(mark.path, mark.token.encode())
    try:
        yield mark
    finally:
        with suppress(OSError):  # the storage may be the reason why this ends
            files.delete(mark.path)


def check_shared(mark: Mark, machines: Sequence[Machine]) -> None:
    """Has every machine read `mark` and write an answer that this process reads.

    Raises UserError within a minute, which names the machines that do not see what is written here, or whose writing is
    not seen here.
    """
    problems = _asked(mark, machines)
    for machine in machines:
        path = _answer(mark, machine.id)
        if not problems[machine.name]:
            if _within(_LATE, partial(mark.files.read_bytes, path)) != machine.id.encode():
                problems[machine.name] = "writes there what the driver does not see"
            with suppress(OSError):
                mark.files.delete(path)
    found = [f"\n  {name}: {said}" for name, said in sorted(problems.items()) if said]
    if found:
        raise UserError(
            f"storage: {mark.url} is not the same place on all machines of this Ray:{''.join(found)}\n{_ADVICE}"
        )


def _asked(mark: Mark, machines: Sequence[Machine]) -> dict[str, str]:
    """What each of `machines`, by name, finds wrong; "" if nothing."""
    task = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {}
    for one in machines:
        there = NodeAffinitySchedulingStrategy(one.id, soft=False)
        asked[task.options(scheduling_strategy=there).remote(mark, one.id)] = one.name
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER)
    found = {asked[one]: f"did not answer within {_ANSWER:.0f} s" for one in late}
    for one in late:
        ray.cancel(one, force=True)
    for one in done:
        try:
            found[asked[one]] = ray.get(one)
        except ray.exceptions.RayError as error:
            found[asked[one]] = f"could not look: {_last_line(error)}"
    return found


def _look(mark: Mark, node: str) -> str:
    """What is wrong with the storage on this machine; "" once it has answered beside the mark."""
    try:
        if said := mark.unlike():
            return said
        mark.files.write(_answer(mark, node), node.encode())
    except Exception as error:  # whatever a storage raises: the driver says which machine met it
        return f"cannot use it: {_last_line(error)}"
    return ""


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]


def _answer(mark: Mark, node: str) -> str:
    return f"{mark.folder}/{mark.token}.{node}"


def _within(seconds: float, read: Callable[[], bytes]) -> bytes | None:
    """What `read` returns as soon as there is a file; None if there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return read()
        except (FileNotFoundError, NotADirectoryError):
            if time.monotonic() > deadline:
                return None
        time.sleep(0.2)
