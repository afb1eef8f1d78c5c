"""Small plain files below one URL, on a local folder, S3, or any other fsspec file system: whole or not there."""

import errno
import hashlib
import logging
import os
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
from botocore.config import Config
from botocore.exceptions import ClientError

from saeft_ray.patience import CONFLICT, Patient, Unavailable, code_of

_log = logging.getLogger(__name__)
NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"  # no leading dot: no "..", and temporary files have a space of their own
_PART, _AT_ONCE = 16 << 20, 8  # of a large file: 128 MB of memory
_LINKLESS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
# fsspec's memory file system hands every reader the same file object, and looks before it creates.
_MEMORY_LOCK = threading.RLock()


class Files:
    """Files below one URL. Picklable: a copy connects anew, with the credentials of its own environment."""

    def __init__(self, url: str, *, endpoint: str | None = None) -> None:
        """`url` is a folder or scheme://…; `endpoint` is the S3 server (else AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL,
        else AWS). Connects to nothing yet."""
        scheme, separator, rest = url.partition("://")
        self._scheme = {"file": "file", "local": "file", "s3a": "s3"}.get(scheme, scheme) if separator else "file"
        if not url.strip() or (self._scheme == "s3" and not rest.strip("/")):
            raise ValueError(f"store {url!r}: names no place; give a folder or s3://bucket/folder")
        if self._scheme == "file":
            self.url = str(Path(rest if separator else url).expanduser().resolve())
        else:
            self.url = f"{self._scheme}://{rest.strip('/')}"
        if endpoint is None and self._scheme == "s3":
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        self.endpoint = endpoint
        self.local = self._scheme == "file"
        # Both travel in pickles and messages.
        if self._scheme == "s3" and "@" in f"{url}{endpoint}":
            raise ValueError("store: credentials in the URL or the endpoint; give them as AWS_ACCESS_KEY_ID and so on")

    def __reduce__(self) -> tuple[object, ...]:
        return _files, (type(self), self.url, self.endpoint)

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
        """The content of those plain files that exist; object stores are asked for many at a time."""
        found: dict[str, bytes] = {}
        wanted = {path: self._place(path) for path in paths}
        if wanted and not self.local:
            with self._guard:
                at_once = self._fs.cat(list(wanted.values()), on_error="omit")
            stripped = {self._fs._strip_protocol(place): path for path, place in wanted.items()}
            found = {stripped[self._fs._strip_protocol(place)]: bytes(data) for place, data in at_once.items()}
        for path in wanted.keys() - found.keys():  # absent, or unlucky among many
            with suppress(FileNotFoundError, NotADirectoryError):
                found[path] = self.read_bytes(path)
        return {path: found[path] for path in wanted if path in found}

    def delete(self, path: str) -> None:
        """Removes a plain file, if it is there."""
        with self._guard, suppress(FileNotFoundError):
            self._fs.rm_file(self._place(path))

    def list(self, folder: str = "") -> tuple[str, ...]:
        """Paths of all files below `folder`, relative to the URL, sorted. Empty if there is no such folder."""
        place = self._place(folder) if folder else self.url
        root = self._fs._strip_protocol(self.url)
        with self._guard:
            entries = self._fs.find(place, detail=True)
        # An S3 server may name folders too, empty ones among them.
        found = (str(name)[len(root) :].lstrip("/") for name, entry in entries.items() if entry["type"] == "file")
        return tuple(sorted(path for path in found if path and "/." not in f"/{path}" and path[-1] != "/"))

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
                if self.exists(path):
                    raise FileExistsError(f"{place}: exists already and is written only once")
                _create_remote(self._fs, place, data)
            except FileExistsError:
                if self.read_bytes(path) != data:
                    raise

    def write(self, path: str, data: bytes) -> None:
        """Writes or replaces a plain file: readers see the old content or the new, never a part."""
        place = self._place(path)
        if self.local:
            _write_local(Path(place), data, replace=True)
            return
        with self._guard:
            self._fs.pipe_file(place, data)

    def put_file(self, local: Path, path: str) -> None:
        """Copies a local file to `path`, several parts of a large one at a time."""
        place = self._place(path)
        if self._scheme == "s3":
            self._transfers.put(local, place)
            return
        with self._guard:
            self._fs.put_file(str(local), place)

    def get_file(self, path: str, local: Path, size: int) -> str:
        """Copies the `size` bytes of `path` to a local file; returns their SHA-256, made while they travel. Raises
        FileNotFoundError."""
        place, digest = self._place(path), hashlib.sha256()
        transfers = self._transfers if self._scheme == "s3" else None  # connected before there are threads

        def read(start: int) -> bytes:
            end = min(start + _PART, size)
            if transfers:
                return bytes(transfers.part(place, start, end))
            with self._guard:
                return bytes(self._fs.cat_file(place, start=start, end=end))

        starts = iter(range(0, size, _PART))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            coming = deque(pool.submit(read, start) for start in islice(starts, _AT_ONCE))
            for first in islice(coming, 1):
                first.result()  # a file that is missing leaves none here
            with local.open("xb") as file:
                while coming:
                    part = coming.popleft().result()
                    coming.extend(pool.submit(read, start) for start in islice(starts, 1))
                    file.write(part)
                    digest.update(part)
        return digest.hexdigest()

    def check_writable(self) -> None:
        """Writes, reads and removes a small file. Raises ValueError with what the server said and what to do, within
        seconds."""
        place = self._place(f"check-writable-{uuid.uuid4().hex}")
        try:
            if self.local:
                _write_local(Path(place), b"check", replace=False)
                Path(place).unlink()
                return
            fs = self._connect(hasty=True)
            if self._scheme == "s3":
                fs = Patient(fs, self.url, self._advice, passing=5.0, refused=2.0)
            with self._guard:
                with suppress(FileExistsError):  # of a first try whose answer was lost
                    _create_remote(fs, place, b"check")
                with suppress(FileExistsError):
                    _create_remote(fs, place, b"again")
                    _log.warning("%s: the server ignores If-None-Match, so two writers at once may both win", self.url)
                fs.cat_file(place)
                fs.rm_file(place)
        except Unavailable as error:
            raise ValueError(f"{self.url}: cannot be used as a store{str(error).removeprefix(self.url)}") from error
        except Exception as error:
            said = str(error) or type(error).__name__
            raise ValueError(f"{self.url}: cannot be used as a store: {said}. {self._advice(error)}") from error

    @cached_property
    def _fs(self) -> Any:
        connected = self._connect()
        return Patient(connected, self.url, self._advice) if self._scheme == "s3" else connected

    @cached_property
    def _transfers(self) -> Any:
        return Patient(_Transfers(self.endpoint), self.url, self._advice)

    @property
    def _guard(self) -> AbstractContextManager[object]:
        return _MEMORY_LOCK if self._scheme == "memory" else nullcontext()

    def _connect(self, hasty: bool = False) -> Any:
        """The file system. `hasty` gives up at the first failure."""
        if self._scheme != "s3":
            return fsspec.filesystem(self._scheme)
        config: dict[str, object] = {"connect_timeout": 5 if hasty else 15, "read_timeout": 15 if hasty else 60}
        if hasty:
            config["retries"] = {"total_max_attempts": 1}
        fs = fsspec.filesystem(
            "s3",
            endpoint_url=self.endpoint,
            config_kwargs=config,
            # Each part in flight is held in memory, 50 MB.
            max_concurrency=4,
            # A listing made before another machine wrote a manifest would hide it, and cached instances share theirs.
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        if hasty:
            fs.retries = 1
        return fs

    def _place(self, path: str) -> str:
        for part in path.split("/"):
            named(part, f"path {path!r}")
        return f"{self.url}/{path}"

    def _advice(self, error: Exception) -> str:
        code, name = code_of(error), type(error).__name__
        if self.local:
            return "Give a folder that this user may write to, on a disk with space left"
        server = self.endpoint or "AWS"
        if "Credentials" in name:
            return "No credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"
        if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}:
            return f"Wrong credentials for {server}: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        if isinstance(error, PermissionError):
            return f"{server} knows these credentials: allow them to list, get, put and delete objects here"
        if isinstance(error, FileNotFoundError):
            bucket = self.url.partition("://")[2].partition("/")[0]
            return f"No such bucket: {server} has none named {bucket!r}; create it or correct the URL"
        if "Connect" in name or "Timeout" in name or "HTTP" in name:
            return f"The endpoint {server} cannot be reached: correct AWS_ENDPOINT_URL or start the server"
        return f"Check the URL, AWS_ENDPOINT_URL (now {server}) and AWS_DEFAULT_REGION"


def _files(kind: type[Files], url: str, endpoint: str | None) -> Files:
    return kind(url, endpoint=endpoint)


class _Transfers:
    """Content of any size, to and from S3 by boto3: s3fs moves it through one thread."""

    def __init__(self, endpoint: str | None):
        import boto3

        config = Config(connect_timeout=15, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5})
        self._client = boto3.client("s3", endpoint_url=endpoint, config=config)

    def put(self, local: Path, place: str) -> None:
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(multipart_threshold=2 * _PART, multipart_chunksize=_PART, max_concurrency=_AT_ONCE)
        self._client.upload_file(str(local), *_bucket_and_key(place), Config=parts)

    def part(self, place: str, start: int, end: int) -> bytes:
        """Fewer bytes where it has been cut off. Raises FileNotFoundError."""
        bucket, key = _bucket_and_key(place)
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}")
        except ClientError as error:
            if code_of(error) in {"InvalidRange", "416"}:
                return b""
            if code_of(error) in {"404", "NoSuchKey"}:
                raise FileNotFoundError(f"{place}: no such file") from error
            raise
        return bytes(answer["Body"].read())


def _bucket_and_key(place: str) -> tuple[str, str]:
    bucket, _, key = place.removeprefix("s3://").partition("/")
    return bucket, key


def named(name: str, what: str) -> str:
    """`name` if it can be one part of a path, else ValueError; `what` says whose name it is."""
    if not re.fullmatch(NAME, name):
        raise ValueError(f"{what}: {name!r} is not a name: use A-Z a-z 0-9 . _ - and no dot in front")
    return name


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


def _create_remote(fs: Any, place: str, data: bytes) -> None:
    for wait in (0.2, 0.8, 3.2, 0.0):
        try:
            fs.pipe_file(place, data, mode="create")
            return
        except OSError as error:
            code = code_of(error)
            if isinstance(error, FileExistsError) or code in {"PreconditionFailed", "412"}:
                raise FileExistsError(f"{place}: exists already and is written only once") from error
            if code not in CONFLICT or not wait:
                raise
            time.sleep(wait)
