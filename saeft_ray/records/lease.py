"""One driver a sweep: who runs it, since when, and who may take over from a dead one.

    <sweep>/leases/000001.json   who: written once, by exclusive creation; the highest number is the fencing token
    <sweep>/leases/000001.beat   replaced every few seconds while that driver lives; "released" when it has left
    <sweep>/leases/000001.found.json   what that driver found at its start (folder.py)

Nobody compares clocks of two machines: a lease is stale if its beat does not change while the contender watches, or if
its process is gone from the contender's own machine.

Some servers ignore the condition on a put (If-None-Match), so that several contenders all see theirs succeed. There a
contender looks again after a moment: the lease is whose bytes are there then. All who may still write have done so by
then, or know that they were too slow, and stand back.
"""

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ValidationError

from saeft_ray.errors import Damaged, Taken
from saeft_ray.storage.checksum import from_json, to_json
from saeft_ray.storage.files import Files

_log = logging.getLogger(__name__)
BEAT = 5.0  # seconds between two beats
PATIENCE = 4 * BEAT  # seconds without one after which a driver counts as dead
MOMENT = 5.0  # seconds that a contender waits for others, and within which it must have written
LOOKS = 20  # at a beat, during all the patience
RELEASED = b"released"


class Owner(BaseModel):
    """Who holds a lease."""

    host: str
    process: int
    since: str  # UTC, ISO 8601
    mark: str = ""  # distinguishes two of one process


UNKNOWN = Owner(host="an unknown machine", process=0, since="an unknown time")


class Lease:
    """A context manager: holds the sweep while its body runs. Raises Taken on entry if another driver lives.

    If another driver takes over meanwhile (this one was thought dead), `lost` is true and `on_lost` is called, by a
    thread of the lease's own.
    """

    def __init__(
        self,
        files: Files,
        folder: str,
        beat: float = BEAT,
        patience: float = PATIENCE,
        moment: float = MOMENT,
        on_lost: Callable[[], None] = lambda: None,
    ):
        self._on_lost = on_lost
        self._files, self._folder = files, f"{folder}/leases"
        self._beat, self._patience, self._moment = beat, patience, moment
        self._overwritable = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._me = Owner(
            host=socket.gethostname(),
            process=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            mark=uuid.uuid4().hex,
        )
        self.token = 0
        self.lost = False

    def __enter__(self) -> Self:
        self.token = self._newest()
        while True:
            if self.token:
                self._wait_or_refuse()
            if self._claim(self.token + 1):
                self.token += 1
                break
            self.token = self._newest()  # somebody was faster
        self._show_life(0)
        self._thread = threading.Thread(target=self._live, daemon=True, name="lease")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self.lost:
            self._files.write(self._path(self.token, "beat"), RELEASED)

    def _claim(self, token: int) -> bool:
        """Whether this driver, and no other, has taken `token`."""
        path, mine, began = self._path(token, "json"), to_json(self._me.model_dump()), time.monotonic()
        try:
            self._files.write_once(path, mine)
        except FileExistsError:
            return False
        self._overwritable = not self._files.keeps(path, mine)
        if not self._overwritable:
            return True
        slow = time.monotonic() - began > self._moment
        time.sleep(self._moment)
        return not slow and self._files.read_bytes(path) == mine

    def _wait_or_refuse(self) -> None:
        """Returns once the holder of `token` has left or died; raises Taken if it lives."""
        owner = self._owner()
        first = self._read_beat(self.token)
        if first == RELEASED:
            return
        if owner.host == self._me.host and not alive(owner.process):
            return
        watched = time.monotonic() + self._patience
        while (now := self._read_beat(self.token)) == first:
            if time.monotonic() > watched:
                return
            time.sleep(self._patience / LOOKS)
        if now == RELEASED:
            return
        owner = self._owner()  # known for sure once there is a beat
        raise Taken(
            f"{self._files.url}/{self._folder.rpartition('/')[0]}: process {owner.process} on {owner.host} runs this "
            f"sweep since {owner.since}; wait for it, end it, or give the sweep another name"
        )

    def _owner(self) -> Owner:
        """Who took `token`; somebody, somewhere, if that cannot be read any more."""
        path = self._path(self.token, "json")
        try:
            return Owner.model_validate(from_json(self._files.read_bytes(path), path))
        except (Damaged, ValidationError):
            _log.warning("%s/%s: damaged; whoever holds this lease is watched", self._files.url, path)
            return UNKNOWN

    def _live(self) -> None:
        count = 0
        while not self._stop.wait(self._beat):
            count += 1
            try:
                if self._newest() > self.token:
                    self.lost = True
                    self._on_lost()
                    return
                self._show_life(count)
            except OSError:
                continue  # storage is away for a moment; whoever waits has more patience than one beat

    def _show_life(self, count: int) -> None:
        if self._overwritable:  # one who was too slow may have put its name over this one
            self._files.write(self._path(self.token, "json"), to_json(self._me.model_dump()))
        self._files.write(self._path(self.token, "beat"), json.dumps(count).encode())

    def _read_beat(self, token: int) -> bytes:
        return beat_at(self._files, self._path(token, "beat"))

    def _newest(self) -> int:
        names = [path.rpartition("/")[2] for path in self._files.list(self._folder)]
        return max((int(name[:6]) for name in names if re.fullmatch(r"\d{6}\.json", name)), default=0)

    def _path(self, token: int, suffix: str) -> str:
        return f"{self._folder}/{token:06d}.{suffix}"


def beat_at(files: Files, path: str) -> bytes:
    """The last sign of life of a driver; b"" where there is none yet."""
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        return b""


def alive(process: int) -> bool:
    """Whether a process of this machine runs (or is somebody else's, which cannot be distinguished from alive)."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
