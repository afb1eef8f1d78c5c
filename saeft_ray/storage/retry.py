"""Errors that pass are waited for, others are reported: every call to a remote file system goes through here.

A store that answers 500 or 503, resets, is slow, or cuts its answer short is asked again for five minutes. What looks
like a refusal (403, expired credentials, clocks apart, no such bucket) is asked again for twenty seconds, since
credentials are renewed and clocks are set; then it is `Unavailable`, with the server's words and what to do.
"""

import errno
import logging
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

from saeft_ray.errors import Unavailable
from saeft_ray.storage.object_storage import ObjectStorage, PartedStorage

_log = logging.getLogger(__name__)
T = TypeVar("T")
LONGEST = 15.0  # seconds between two tries


class Waits(NamedTuple):
    """Seconds for which what passes, and what looks like a refusal, is asked again."""

    passing: float = 300.0
    refused: float = 20.0

    @property
    def hasty(self) -> bool:
        """Whether one try must not take long either."""
        return self.passing < 60


WAITS = Waits()
HASTY = Waits(5.0, 2.0)
"""For whoever sits in front of the answer."""

# S3 asks a writer to try again when two conditional writes meet: whoever writes so knows what to do.
CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
_ANSWERS = {"404", "NoSuchKey", "PreconditionFailed", "412", "InvalidRange", "416", "NotImplemented", "501"}
_REFUSALS = {
    *("400", "401", "403", "AccessDenied", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId"),
    *("InvalidToken", "NoSuchBucket", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired"),
}
_NO_ANSWER = re.compile(
    r"botocore\.(exceptions|httpchecksum)\.(EndpointConnection|ConnectTimeout|ReadTimeout|ConnectionClosed|"
    r"ProxyConnection|HTTPClient|SSL|ResponseStreaming|IncompleteRead|NoCredentials|PartialCredentials|"
    r"CredentialRetrieval|TokenRetrieval|UnauthorizedSSOToken)Error"
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class Retrying:
    """A remote file system whose methods wait out what passes. `advice` gives words for an error."""

    def __init__(self, fs: ObjectStorage, url: str, advice: Callable[[Exception], str], waits: Waits = WAITS):
        self._fs, self._url, self._advice, self._waits = fs, url, advice, waits

    def info(self, path: str) -> dict[str, Any]:
        return self._call(self._fs.info, path)

    def ls(self, path: str, detail: bool) -> list[dict[str, Any]]:
        return self._call(self._fs.ls, path, detail=detail)

    def find(self, path: str, detail: bool) -> dict[str, dict[str, Any]]:
        return self._call(self._fs.find, path, detail=detail)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        return self._call(self._fs.cat_file, path, start=start, end=end)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite") -> None:
        self._call(self._fs.pipe_file, path, value, mode=mode)

    def get_file(self, rpath: str, lpath: str) -> None:
        self._call(self._fs.get_file, rpath, lpath)

    def put_file(self, lpath: str, rpath: str) -> None:
        self._call(self._fs.put_file, lpath, rpath)

    def rm_file(self, path: str) -> None:
        self._call(self._fs.rm_file, path)

    def rm(self, path: str, recursive: bool) -> None:
        self._call(self._fs.rm, path, recursive=recursive)

    def put(self, local: Path, place: str) -> tuple[str, bool]:
        return self._call(cast(PartedStorage, self._fs).put, local, place)

    def get_part(self, place: str, local: Path, start: int, end: int) -> None:
        self._call(cast(PartedStorage, self._fs).get_part, place, local, start, end)

    def _strip_protocol(self, path: str) -> str:
        return str(self._fs._strip_protocol(path))

    def _call(self, method: Callable[..., T], *arguments: Any, **options: Any) -> T:
        began, wait = time.monotonic(), 0.2
        while True:
            try:
                return method(*arguments, **options)
            except Exception as error:
                kind = _kind(error)
                if kind == "answer":
                    raise
                limit = self._waits.passing if kind == "passing" else self._waits.refused
                if time.monotonic() - began + wait > limit:
                    said = str(error) or type(error).__name__
                    raise Unavailable(f"{self._url}: {said}. {self._advice(error)}") from error
                _log.info("%s: %s; asked again in %.1f s", self._url, error, wait)
            time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - so that many workers do not ask at once
            wait = min(2 * wait, LONGEST)


def is_full(error: BaseException) -> bool:
    """Whether a disk is full or may not be written. Safetensors raises no OSError, and has the number in its words."""
    told = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return (error.errno if isinstance(error, OSError) else told and int(told[1])) in _FULL


def code_of(error: BaseException) -> str:
    """The S3 error code behind an exception of s3fs or boto3, "" if there is none.

    Where the exception came from another process, only its words are left, and the code in them.
    """
    for one in (error.__cause__, error, error.__context__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    told = re.search(r"An error occurred \((\w+)\) when calling", str(error))
    return told[1] if told else ""


def is_away(error: BaseException) -> bool:
    """Whether an exception of s3fs or boto3 says that S3 refuses or does not answer, also as another process
    reports it in words."""
    if code := code_of(error):
        return code not in _ANSWERS | CONFLICT
    return bool(_NO_ANSWER.search(f"{type(error).__module__}.{type(error).__name__}: {error}"))


def _kind(error: Exception) -> Literal["answer", "refused", "passing"]:
    """Whether an error is the answer to a question, a refusal, or something that passes."""
    code = code_of(error)
    if code in _REFUSALS or "Credentials" in type(error).__name__:
        return "refused"
    if code in _ANSWERS or code in CONFLICT or isinstance(error, FileNotFoundError | FileExistsError):
        return "answer"
    if isinstance(error, OSError) and error.filename is not None:  # of this machine's disk
        return "answer"
    if isinstance(error, PermissionError):
        return "refused"
    if is_full(error) or isinstance(error, ValueError | TypeError | NotADirectoryError | IsADirectoryError):
        return "answer"
    return "passing"
