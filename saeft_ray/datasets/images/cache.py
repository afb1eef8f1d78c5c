"""The node's cache of shards: what lies at a URL is fetched once per node, and read from its disk by every process.

    <SAEFT_RAY_CACHE, else ~/.cache/saeft_ray>/shards/<key>.<size>        whole, verified
                                                     <key>.<size>.part   as far as it was fetched
                                                     <key>.<size>.lock   held by the process that fetches it

The cache is bounded by SAEFT_RAY_SHARDS_GB (default: nine tenths of what the disk had free). Room is made by removing
what was not used for longest; a file that some process has open is never removed.
"""

import fcntl
import hashlib
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from saeft_ray.errors import NoRoom, UserError

_log = logging.getLogger(__name__)
_BLOCK = 8 << 20  # bytes of one request
_NAME = re.compile(r"[0-9a-f]+\.(\d+)(\.part)?")


class Remote(NamedTuple):
    """A file to be had at a URL."""

    url: str
    size: int
    sha256: str | None  # None if nobody knows it
    read: Callable[[int, int], bytes]  # (start, end) → those bytes
    tag: str = ""  # changes with the content, where nothing better is known

    @property
    def key(self) -> str:
        """Where the content is known, equal content is kept once, whatever its URL."""
        return self.sha256 or hashlib.sha256(f"{self.url}\0{self.size}\0{self.tag}".encode()).hexdigest()


class Cache:
    """A folder of fetched files, shared by all processes of a node. Picklable."""

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        """`limit` in bytes; both are the environment's if not given."""
        base = Path(os.environ.get("SAEFT_RAY_CACHE") or "~/.cache/saeft_ray").expanduser()
        self.folder = folder or base / "shards"
        self._limit = limit

    @property
    def limit(self) -> int:
        """Bytes that the cache may hold. Raises UserError for a SAEFT_RAY_SHARDS_GB that is no number of gigabytes."""
        if self._limit is not None:
            return self._limit
        if given := os.environ.get("SAEFT_RAY_SHARDS_GB"):
            size = _number(given)
            if not 0 < size < 1e9:
                raise UserError(f"SAEFT_RAY_SHARDS_GB={given}: is no number of gigabytes; give one such as 200")
            return int(size * 1e9)
        self.folder.mkdir(parents=True, exist_ok=True)
        present = sum(size for _, size, whole in self._entries() if whole)
        return int(0.9 * (shutil.disk_usage(self.folder).free + present))

    def check(self, total: int, what: str) -> None:
        """Raises NoRoom unless `total` bytes, all of them read in every epoch, fit at once."""
        if total > (limit := self.limit):
            raise NoRoom(
                f"{what} has {total / 1e9:,.1f} GB and is read as a whole, but the cache in {self.folder} may hold "
                f"{limit / 1e9:,.1f} GB; give a larger disk by SAEFT_RAY_CACHE, or more of this one by "
                "SAEFT_RAY_SHARDS_GB"
            )

    def open(self, remote: Remote) -> FileIO:
        """The file, fetched now if it is not there; it stays there until the result is closed.

        Raises OSError if it cannot be fetched or differs from its SHA-256, NoRoom if the disk is too small.
        """
        path = self.folder / f"{remote.key}.{remote.size}"
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            with suppress(FileNotFoundError):
                held = FileIO(path)
                fcntl.flock(held, fcntl.LOCK_SH)
                if os.fstat(held.fileno()).st_nlink:  # else it was removed between the two lines above
                    os.utime(path)
                    return held
                held.close()
            with _alone(path.with_name(path.name + ".lock")):
                if not path.exists():
                    self._fetch(remote, path)

    def _fetch(self, remote: Remote, path: Path) -> None:
        part = path.with_name(path.name + ".part")
        resumed = part.exists() and part.stat().st_size > 0
        try:
            self._download(remote, part)
        except _DifferentError as error:
            self._settle(part, None)
            if not resumed:
                raise OSError(f"{error}; it was changed or cut off where it lies") from error
            self._fetch(remote, path)  # once more, without what an earlier process left
        else:
            self._settle(part, path)

    def _settle(self, part: Path, path: Path | None) -> None:
        """Ends a part: as the whole file, or as nothing. Whoever counts what is there sees the one or the other."""
        with _alone(self.folder / "room.lock"):
            part.rename(path) if path else part.unlink()

    def _download(self, remote: Remote, part: Path) -> None:
        self._reserve(remote, part)
        digest = hashlib.sha256()
        with part.open("r+b") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
            while (have := file.tell()) < remote.size:
                block = remote.read(have, min(have + _BLOCK, remote.size))
                if not block:
                    raise _DifferentError(f"{remote.url}: ends at byte {have:,} of {remote.size:,}")
                digest.update(block)
                file.write(block)
        if remote.sha256 and digest.hexdigest() != remote.sha256:
            raise _DifferentError(f"{remote.url}: its content differs from the SHA-256 in the index")

    def _reserve(self, remote: Remote, part: Path) -> None:
        """Makes room for `remote` and creates its part, by which others see that the room is taken."""
        with _alone(self.folder / "room.lock"):
            if part.exists():
                os.truncate(part, min(part.stat().st_size, remote.size))
            while True:
                entries = [entry for entry in self._entries() if entry[0] != part]
                taken = sum(size for _, size, _ in entries)
                have = part.stat().st_size if part.exists() else 0
                coming = sum(size - path.stat().st_size for path, size, whole in entries if not whole)
                free = shutil.disk_usage(self.folder).free - coming
                if taken + remote.size <= self.limit and remote.size - have <= free:
                    part.touch()
                    return
                if not self._evict(entries):
                    raise NoRoom(
                        f"{remote.url}: {remote.size / 1e9:,.2f} GB do not fit into the cache in {self.folder} "
                        f"({taken / 1e9:,.2f} of {self.limit / 1e9:,.2f} GB are in use, the disk has {free / 1e9:,.2f} "
                        "GB free); give a larger disk by SAEFT_RAY_CACHE, or more of this one by SAEFT_RAY_SHARDS_GB"
                    )

    def _evict(self, entries: "list[tuple[Path, int, bool]]") -> bool:
        """Removes the file that was not used for longest and that nobody has open; whether there was one."""
        for path, _, whole in sorted(entries, key=lambda entry: _used(entry[0])):
            holder = path if whole else path.with_name(path.name.removesuffix("part") + "lock")
            with suppress(FileNotFoundError, BlockingIOError), holder.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                _log.info("%s: removed to make room", path)
                return True
        return False

    def _entries(self) -> list[tuple[Path, int, bool]]:
        """(path, bytes when whole, whether it is whole) of everything that takes room."""
        found = []
        for path in self.folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                found.append((path, int(match[1]), match[2] is None))
        return found


class _DifferentError(OSError):
    """The bytes that were fetched differ from those that should have come."""


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process and thread at a time; a dead one lets go."""
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _number(text: str) -> float:
    """The number that `text` gives, NaN for none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
