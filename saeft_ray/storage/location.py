"""One door to every URL: what lies at a local path, on S3 or at another fsspec URL, read and written with one patience.

Images, shards, weights, foreign SAEs and the store itself are opened here, so all of them wait alike for a server that
is away, read S3's codes alike, and ask the same server.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import fsspec
from fsspec.registry import known_implementations, registry

from saeft_ray.errors import UserError
from saeft_ray.storage.object_storage import ObjectStorage
from saeft_ray.storage.retry import WAITS, Retrying, Waits, code_of
from saeft_ray.storage.s3 import ENCRYPTION, S3

_SCHEMES = {"file": "file", "local": "file", "s3a": "s3"}
_PATHS = ("file", "local")  # schemes of this machine's own paths
# In most paths there is nothing to look at closely.
_ODD = re.compile(r"[$%~`<>{};\x00-\x1f\x7f]|:|\s|[^:]//|\\|amazonaws|(^|/)\.{1,2}(/|$)")
# fsspec's memory file system hands every reader the same file object, and looks before it creates.
_MEMORY_LOCK = threading.RLock()


class Entry(NamedTuple):
    """One thing in a folder: `size` in bytes, 0 for a folder; `tag` changes with the content, where there is one."""

    size: int
    is_folder: bool = False
    tag: str = ""


def environment_endpoint() -> str | None:
    """The S3 server that the environment names; None is AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


@dataclass(frozen=True)
class Location:
    """A file or folder. `url` is a path or scheme://…; `endpoint` is the S3 server (else the environment's, else AWS);
    `waits` is how long a server that is away or refuses is asked again.

    Every method raises FileNotFoundError for what is not there, and Unavailable, which names the URL and what to do,
    for a server that does not answer or refuses. Raises UserError for a URL that names no place or holds credentials.
    """

    url: str
    endpoint: str | None = None
    waits: Waits = WAITS

    def __post_init__(self) -> None:
        scheme, separator, rest = self.url.partition("://")
        scheme = _SCHEMES.get(scheme.lower(), scheme.lower()) if separator else "file"
        if not self.url.strip() or (scheme == "s3" and not rest.strip("/")):
            raise UserError(f"store {self.url!r}: names no place; give a folder or s3://bucket/folder")
        # Both travel in pickles and messages.
        if scheme == "s3" and "@" in f"{rest.partition('/')[0]}{self.endpoint}":
            raise UserError("store: credentials in the URL or the endpoint; give them as AWS_ACCESS_KEY_ID and so on")
        if why := _mistyped(self.url, scheme, rest if separator else self.url):
            raise UserError(f"{self.url!r}: {why}")
        if scheme not in known_implementations and scheme not in registry:
            raise UserError(
                f"{self.url!r}: {scheme}:// is not a kind of storage that is known here; give a folder or s3://bucket/folder"
            )
        local = os.path.abspath(os.path.expanduser(rest if separator else self.url))  # noqa: PTH100, PTH111
        object.__setattr__(self, "url", local if scheme == "file" else f"{scheme}://{rest.strip('/')}")
        if self.endpoint is None and scheme == "s3":
            object.__setattr__(self, "endpoint", environment_endpoint())

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0] if "://" in self.url else "file"

    @property
    def local(self) -> bool:
        return self.scheme == "file"

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]

    def __truediv__(self, name: str) -> "Location":
        made = copy(self)  # names that are found are taken as they are, however they look
        object.__setattr__(made, "url", f"{self.url}/{name.rstrip('/')}")
        return made

    def connect(self) -> ObjectStorage:
        """The file system, connected anew, with the retrying."""
        return self._patient(_connect(self.scheme, self.endpoint, self.waits.hasty))

    def info(self) -> Entry:
        with self._guard:
            found = self._fs.info(self.url)
        return _entry(found)

    def exists(self) -> bool:
        """Whether a plain file lies here."""
        try:
            return not self.info().is_folder
        except (FileNotFoundError, NotADirectoryError):
            return False

    def entries(self) -> dict[str, Entry]:
        """The entries of this folder, one level deep, by name. Raises NotADirectoryError for a file."""
        with self._guard:
            listed = self._fs.ls(self.url, detail=True)
        if len(listed) == 1 and listed[0]["type"] == "file" and self._below(str(listed[0]["name"])) == "":
            raise NotADirectoryError(f"{self.url} is not a folder")
        return {str(found["name"]).rstrip("/").rpartition("/")[2]: _entry(found) for found in listed}

    def files(self) -> dict[str, int]:
        """Bytes of every file below this folder, at any depth, by its path from here."""
        with self._guard:
            found = self._fs.find(self.url, detail=True)
        named = ((self._below(str(name)), entry) for name, entry in found.items())
        return {name: int(entry["size"]) for name, entry in named if entry["type"] == "file" and name[-1:] != "/"}

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """The content, or its bytes `start` to `end`; fewer where the file ends before."""
        with self._guard:
            return bytes(self._fs.cat_file(self.url, start=start, end=end))

    def parts(self, size: int = 8 << 20) -> Iterator[bytes]:
        """The content, `size` bytes at a time."""
        start, total = 0, self.info().size
        while start < total:
            part = self.read(start, min(start + size, total))
            if not part:
                raise OSError(f"{self.url}: ends at byte {start:,} of {total:,}")
            yield part
            start += len(part)

    def fetch(self, local: Path) -> None:
        """Copies the file to `local`."""
        with self._guard:
            self._fs.get_file(self.url, str(local))

    def write(self, content: bytes | Path) -> None:
        """Writes or replaces a file, whole. Raises OSError if fewer bytes arrived than were sent."""
        if self.local:
            Path(self.url).parent.mkdir(parents=True, exist_ok=True)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        target = self.url + ".writing" if self.local else self.url  # elsewhere an object is whole or not there
        with self._guard:
            if isinstance(content, Path):
                self._fs.put_file(str(content), target)
            else:
                self._fs.pipe_file(target, content)
            if (stored := self._fs.info(target)["size"]) != size:
                raise OSError(f"{self.url}: {size} bytes sent, {stored} stored")
        if self.local:
            Path(target).replace(self.url)

    def remove(self) -> None:
        """Removes a file, or a folder with all that is in it."""
        with self._guard:
            self._fs.rm(self.url, recursive=True)

    def advice(self, error: Exception) -> str:
        """What to do about `error`, in words."""
        code, name = code_of(error), type(error).__name__
        if self.local:
            return "Give a folder that this user may write to, on a disk with space left"
        if self.scheme != "s3":
            return f"Check the URL, and that this machine reaches {self.scheme}://"
        server = self.endpoint or "AWS"
        if "Credentials" in name:
            return "No credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"
        if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}:
            return f"Wrong credentials for {server}: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        if isinstance(error, PermissionError):
            return (
                f"{server} knows these credentials: allow them to list, get, put and delete objects here; where the "
                f"bucket asks for encryption, set {ENCRYPTION} to AES256, aws:kms or aws:kms:KEY"
            )
        if isinstance(error, FileNotFoundError):
            bucket = self.url.partition("://")[2].partition("/")[0]
            return f"No such bucket: {server} has none named {bucket!r}; create it or correct the URL"
        if "Connect" in name or "Timeout" in name or "HTTP" in name:
            return f"The endpoint {server} cannot be reached: correct AWS_ENDPOINT_URL or start the server"
        return f"Check the URL, AWS_ENDPOINT_URL (now {server}) and AWS_DEFAULT_REGION"

    @property
    def _fs(self) -> ObjectStorage:
        return self._patient(_connected(self.scheme, self.endpoint, self.waits.hasty, os.getpid()))

    @property
    def _guard(self) -> AbstractContextManager[object]:
        return _MEMORY_LOCK if self.scheme == "memory" else nullcontext()

    def _patient(self, fs: ObjectStorage) -> ObjectStorage:
        return fs if self.scheme in ("file", "memory") else Retrying(fs, self.url, self.advice, self.waits)

    def _below(self, path: str) -> str:
        return path[len(self._fs._strip_protocol(self.url)) :].strip("/")


def _mistyped(url: str, scheme: str, rest: str) -> str | None:
    """Why `url` is hardly meant as it stands, and what to write instead; None if it may be."""
    local = scheme == "file"
    if not _ODD.search(url) or (local and os.path.exists(os.path.expanduser(rest))):  # noqa: PTH110, PTH111
        return None
    if control := re.search(r"[\x00-\x1f\x7f]", rest):
        return f"holds {control[0]!r}, which no name should; remove it"
    if unmeant := _to_be_replaced(rest):
        return unmeant
    if not local:
        return _not_of_a_bucket(rest) if scheme == "s3" else None
    if rest.startswith("~") and os.path.expanduser(rest) == rest:  # noqa: PTH111
        return f"no home folder of {rest.partition('/')[0]} is known here; give the folder's full path"
    if meant := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)([:;]/*|//)", url if "://" not in url else ""):
        name = meant[1].lower()
        if name in _PATHS:
            return f"is no URL; give {url[len(name) + 1 :]}, or ./{url} for a folder so named"
        if name in known_implementations:
            return f"is no URL; give {name}://{url[meant.end() :]}, or ./{url} for a folder so named"
    if re.match(r"[A-Za-z]:", rest) or "\\" in rest:
        return "is a path of Windows, and this is another system; give a folder of this machine or s3://bucket/folder"
    if host := re.match(r"[\w.-]*\bs3[\w.-]*\.amazonaws\.com(?=/|$)", rest):
        return f"names the server {host[0]} and no folder; give s3://bucket/folder, or ./{rest} for a folder so named"
    if rest != rest.strip():
        return "begins or ends with a blank; remove it"
    return None


def _to_be_replaced(rest: str) -> str | None:
    """What of `rest` a shell or a template would have replaced, in words; None if there is nothing."""
    if variable := re.search(r"\$\w+|\$\{.*?(\}|$)|%[A-Za-z_]\w{2,}%", rest):
        return f"variables such as {variable[0]} are not expanded here; write what it stands for"
    if command := re.search(r"\$\(.*?(\)|$)|`.*?(`|$)", rest):
        return f"commands such as {command[0]} are not run here; write what it prints"
    if gap := re.search(r"<[^<>]*>|\{[^{}]*\}", rest):
        return f"{gap[0]} stands for something; write that in its place"
    return None


def _not_of_a_bucket(rest: str) -> str | None:
    """Why `rest` of s3://`rest` names no place in a bucket; None if it may."""
    bucket, _, path = rest.partition("/")
    if not bucket:
        return "names no bucket; give s3://bucket/folder"
    if "://" in rest:
        return "holds a second ://; give s3://bucket/folder"
    if bad := re.search(r"[^A-Za-z0-9._:-]", bucket):  # names of access points have colons
        return f"a bucket has no {bad[0]!r} in its name; give s3://bucket/folder"
    if any(part in (".", "..") for part in path.split("/")):
        return "holds . or .., which S3 takes for names of folders; write the folder that is meant"
    return None


def _entry(found: dict[str, Any]) -> Entry:
    return Entry(int(found.get("size") or 0), found["type"] == "directory", str(found.get("ETag", "")))


def _connect(scheme: str, endpoint: str | None, hasty: bool) -> ObjectStorage:
    try:
        return S3(endpoint, hasty) if scheme == "s3" else cast(ObjectStorage, fsspec.filesystem(scheme))
    except ImportError as error:
        raise UserError(f"{scheme}:// needs a library that is not installed here ({error}); install it") from error


@lru_cache(maxsize=8)
def _connected(scheme: str, endpoint: str | None, hasty: bool, process: int) -> ObjectStorage:
    """One a process: connections do not survive a fork."""
    return _connect(scheme, endpoint, hasty)
