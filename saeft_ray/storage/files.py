"""Small plain files below one URL, on a local folder, S3, or any other fsspec file system: whole or not there."""

import errno
import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from saeft_ray.errors import Unavailable, UserError
from saeft_ray.storage.location import Location
from saeft_ray.storage.object_storage import ObjectStorage, PartedStorage
from saeft_ray.storage.retry import CONFLICT, HASTY, WAITS, Waits, code_of
from saeft_ray.storage.s3 import AT_ONCE, CHUNK, PART

_log = logging.getLogger(__name__)
NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"  # no leading dot: no "..", and temporary files have a space of their own
_LINKLESS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Listed(NamedTuple):
    """A file as a listing tells it: `size` in bytes; `changed` in seconds since 1970 by the storage's clock, None where
    it does not say."""

    size: int
    changed: float | None


class Files:
    """Files below one URL. Picklable: a copy connects anew, with the credentials of its own environment."""

    def __init__(self, url: str, *, endpoint: str | None = None, waits: Waits = WAITS) -> None:
        """`url` is a folder or scheme://…; `endpoint` is the S3 server (else AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL,
        else AWS); `waits` is as in `Location`. Connects to nothing yet."""
        location = Location(url, endpoint, waits)
        if location.local:
            location = replace(location, url=str(Path(location.url).resolve()))
        self.location, self.url, self.endpoint, self.local = location, location.url, location.endpoint, location.local
        self._scheme = location.scheme
        self._conditional = False  # whether the server is known to refuse a second writer

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_fs"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def exists(self, path: str) -> bool:
        """Whether the plain file `path`, relative to the URL, exists."""
        try:
            with self._guard:
                return bool(self._fs.info(self._place(path))["type"] == "file")
        except (FileNotFoundError, NotADirectoryError):
            return False

    def read_bytes(self, path: str) -> bytes:
        """The content of a plain file. Raises FileNotFoundError."""
        with self._guard:
            return bytes(self._fs.cat_file(self._place(path)))

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of those plain files that exist; a remote store is asked for several at a time."""
        wanted, _ = list(paths), self._fs  # connected before there are threads

        def read(path: str) -> bytes | None:
            with suppress(FileNotFoundError, NotADirectoryError):
                return self.read_bytes(path)
            return None

        with ThreadPoolExecutor(1 if self.local else AT_ONCE) as pool:
            found = zip(wanted, pool.map(read, wanted), strict=True)
            return {path: data for path, data in found if data is not None}

    def delete(self, path: str) -> None:
        """Removes a plain file, if it is there."""
        with self._guard, suppress(FileNotFoundError):
            self._fs.rm_file(self._place(path))

    def delete_folder(self, folder: str) -> None:
        """Removes all files below `folder`, if there are any."""
        with self._guard, suppress(FileNotFoundError):
            self._fs.rm(self._place(folder), recursive=True)

    def delete_leftover(self, path: str) -> None:
        """Removes a file that `listing` named, of whatever name, if it is there."""
        with self._guard, suppress(FileNotFoundError):
            self._fs.rm_file(f"{self.url}/{path}")

    def list(self, folder: str = "") -> tuple[str, ...]:
        """Paths of all files below `folder`, relative to the URL, sorted. Empty if there is no such folder."""
        return tuple(sorted(path for path in self.listing(folder) if "/." not in f"/{path}"))

    def listing(self, folder: str = "") -> dict[str, Listed]:
        """All files below `folder`, temporary ones too, by their paths relative to the URL."""
        place = self._place(folder) if folder else self.url
        root = self._fs._strip_protocol(self.url)
        with self._guard:
            entries = self._fs.find(place, detail=True)
        # An S3 server may name folders too, empty ones among them.
        found = ((str(name)[len(root) :].lstrip("/"), entry) for name, entry in entries.items())
        return {
            path: Listed(int(entry.get("size") or 0), _changed(entry))
            for path, entry in found
            if entry["type"] == "file" and path and path[-1] != "/"
        }

    def write_once(self, path: str, data: bytes) -> None:
        """Writes a plain file that must not exist yet, whole or not at all. Raises FileExistsError, unless these very
        bytes are there: over a network an earlier try may have succeeded and its answer been lost."""
        place = self._place(path)
        if self.local:
            _write_local(Path(place), data, replace=False)
            return
        with self._guard:
            try:
                # Looked for first because some servers ignore the condition on the write itself.
                if not self._conditional and self.exists(path):
                    raise FileExistsError(f"{place}: exists already and is written only once")
                _create_remote(self._fs, place, data)
            except FileExistsError:
                if self.read_bytes(path) != data:
                    raise

    def keeps(self, path: str, data: bytes) -> bool:
        """Whether the store refuses to write `data`, which is at `path`, there once more as what must not exist yet."""
        if not (self.local or self._conditional):
            with self._guard:
                self._conditional = _keeps(self._fs, self._place(path), data)
        return self.local or self._conditional

    def write(self, path: str, data: bytes) -> None:
        """Writes or replaces a plain file: readers see the old content or the new, never a part."""
        place = self._place(path)
        if self.local:
            _write_local(Path(place), data, replace=True)
            return
        with self._guard:
            self._fs.pipe_file(place, data)

    def put_file(self, local: Path, path: str) -> str:
        """Copies a local file to `path`, several parts of a large one at a time; returns its SHA-256. Raises OSError
        if the server holds another size."""
        place = self._place(path)
        with self._guard:
            if self._scheme == "s3":
                digest, compared = self._fs.put(local, place)
            else:
                self._fs.put_file(str(local), place)
                digest, compared = sha256_of(local), False
            sent = local.stat().st_size
            if not compared and (stored := self._fs.info(place)["size"]) != sent:
                raise OSError(f"{place}: {sent} bytes sent, {stored} stored")
        return str(digest)

    def get_file(self, path: str, local: Path, size: int) -> str:
        """Copies the `size` bytes of `path` to a new local file, several parts of a large one at a time; returns the
        SHA-256 of what is in that file. Raises FileNotFoundError, and then leaves none."""
        place = self._place(path)
        if self._scheme != "s3":
            with self._guard:
                self._fs.get_file(place, str(local))
            return sha256_of(local)
        local.open("xb").close()
        try:
            return self._get_parts(place, local, size)
        except FileNotFoundError:
            local.unlink()
            raise

    def _get_parts(self, place: str, local: Path, size: int) -> str:
        fs, starts, digest = self._fs, range(0, size, PART), hashlib.sha256()  # connected before there are threads

        def fetch(start: int) -> None:
            fs.get_part(place, local, start, min(start + PART, size))

        with ThreadPoolExecutor(AT_ONCE) as pool, local.open("rb", buffering=0) as arrived:
            for _ in map(fetch, starts) if size <= PART else pool.map(fetch, starts):
                left = PART  # hashed in order, while the next are under way
                while left and (chunk := arrived.read(min(left, CHUNK))):
                    digest.update(chunk)
                    left -= len(chunk)
        return digest.hexdigest()

    def check_writable(self) -> None:
        """Writes, lists, reads and removes a small file. Raises UserError with what the server said and what to do,
        within seconds."""
        place = self._place(f"check-writable-{uuid.uuid4().hex}")
        try:
            if self.local:
                _write_local(Path(place), b"check", replace=False)
                Path(place).unlink()
                return
            fs = replace(self.location, waits=HASTY).connect()
            with self._guard:
                with suppress(FileExistsError):  # of a first try whose answer was lost
                    _create_remote(fs, place, b"check")
                self._conditional = _keeps(fs, place, b"again")
                if not self._conditional:
                    _log.warning("%s: the server ignores If-None-Match, so two writers at once may both win", self.url)
                fs.ls(self.url, detail=True)
                fs.cat_file(place)
                fs.rm_file(place)
        except Unavailable as error:
            raise UserError(f"{self.url}: cannot be used as a store{str(error).removeprefix(self.url)}") from error
        except Exception as error:
            said = str(error) or type(error).__name__
            raise UserError(f"{self.url}: cannot be used as a store: {said}. {self.location.advice(error)}") from error

    @cached_property
    def _fs(self) -> PartedStorage:
        return cast(PartedStorage, self.location.connect())  # only S3 is asked for parts

    @property
    def _guard(self) -> AbstractContextManager[object]:
        return self.location._guard

    def _place(self, path: str) -> str:
        for part in path.split("/"):
            named(part, f"path {path!r}")
        return f"{self.url}/{path}"


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_name(name: str) -> bool:
    """Whether `name` can be one part of a path."""
    return bool(re.fullmatch(NAME, name))


def named(name: str, what: str) -> str:
    """`name` if it can be one part of a path, else ValueError; `what` says whose name it is."""
    if not is_name(name):
        raise UserError(f"{what}: {name!r} is not a name: use A-Z a-z 0-9 . _ - and no dot in front")
    return name


def _changed(entry: Mapping[str, Any]) -> float | None:
    """When a file was last written, under the names that fsspec's file systems have for it."""
    told = next((entry[name] for name in ("mtime", "LastModified", "updated", "created") if entry.get(name)), None)
    if isinstance(told, datetime):
        return told.timestamp()
    return float(told) if isinstance(told, int | float) else None


def _write_local(path: Path, data: bytes, *, replace: bool) -> None:
    """Writes aside, then puts in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            temporary.replace(path)
            return
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            raise FileExistsError(f"{path}: exists already and is written only once") from None
        except OSError as error:
            if error.errno not in _LINKLESS:
                raise
            with path.open("xb") as stream:  # a file system without hard links
                stream.write(data)
    finally:
        temporary.unlink(missing_ok=True)


def _keeps(fs: ObjectStorage, place: str, data: bytes) -> bool:
    """Whether `place`, which exists, stays what it is when `data` is written there as what must not exist yet."""
    try:
        _create_remote(fs, place, data)
    except FileExistsError:
        return True
    return False


def _create_remote(fs: ObjectStorage, place: str, data: bytes) -> None:
    for wait in (0.2, 0.8, 3.2, 0.0):
        try:
            fs.pipe_file(place, data, mode="create")
            return
        except FileExistsError as error:
            raise FileExistsError(f"{place}: exists already and is written only once") from error
        except OSError as error:
            if code_of(error) not in CONFLICT or not wait:
                raise
            time.sleep(wait)
