"""Trials that somebody asked to stop, from any machine that sees the storage.

<storage>/sweeps/<name>/stops/<trial>.json   who asked and when; written once, whoever drives the sweep

A request stands until the trial has rows, over any number of drivers; then the rows say what came of it.
"""

import getpass
import logging
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from saeft_ray.errors import Damaged
from saeft_ray.storage.checksum import from_json, to_json
from saeft_ray.storage.files import Files
from saeft_ray.storage.retry import HASTY

_log = logging.getLogger(__name__)
FOLDER = "stops"
EVERY = 5.0  # seconds between two questions of a trial


class Request(NamedTuple):
    """Who asked for the end of a trial, and when (UTC, ISO 8601)."""

    by: str
    at: str

    def __str__(self) -> str:
        return f"stopped on purpose: asked by {self.by} at {self.at[:16].replace('T', ' ')} UTC"


_UNREADABLE = Request("somebody whose name is damaged", "an unknown time")


class Stops:
    """The requests of one sweep. Storage that does not answer is not waited for: whoever asks, asks again."""

    def __init__(self, files: Files, folder: str):
        """`folder` is the sweep's, relative to the URL of `files`."""
        self._files = Files(files.url, endpoint=files.endpoint, waits=HASTY)
        self._folder = f"{folder}/{FOLDER}" if folder else FOLDER

    def ask(self, trial: str) -> Request:
        """Notes that this user wants `trial` to end; returns the request that stands, the first one."""
        mine = Request(f"{_user()} on {socket.gethostname()}", datetime.now(UTC).isoformat(timespec="seconds"))
        with suppress(FileExistsError):
            self._files.write_once(self._path(trial), to_json(mine._asdict()))
        return self.of(trial) or mine

    def of(self, trial: str) -> Request | None:
        """Who wants `trial` to end; None if nobody does. A damaged request is one, by nobody knows whom."""
        path = self._path(trial)
        try:
            return Request(**from_json(self._files.read_bytes(path), f"{self._files.url}/{path}"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (Damaged, TypeError) as error:
            _log.warning("%s/%s: cannot be read (%s); it stops its trial all the same", self._files.url, path, error)
            return _UNREADABLE

    def _path(self, trial: str) -> str:
        return f"{self._folder}/{trial}.json"


class Asking:
    """What a running trial asks between two steps: why it must end for good, in words; "" while nobody wants it to.
    Storage is asked every `EVERY` seconds, and one that is away asks for nothing."""

    def __init__(self, stops: Stops, trial: str):
        self._stops, self._trial, self._due, self._why = stops, trial, float("-inf"), ""

    def __call__(self) -> str:
        if not self._why and time.monotonic() >= self._due:
            with suppress(OSError):
                self._why = str(self._stops.of(self._trial) or "")
            self._due = time.monotonic() + EVERY
        return self._why


def _user() -> str:
    """This user's name; a container may have none for its user's number."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"
