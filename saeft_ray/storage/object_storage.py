"""What this package asks of a file system that is not the local one, in the words of fsspec.

`S3` (boto3), every fsspec file system and `Retrying`, which wraps either, answer to these; nothing else is called.
"""

from pathlib import Path
from typing import Any, Protocol


class ObjectStorage(Protocol):
    """Files and folders by place: `bucket/key` or what the scheme has instead. FileNotFoundError for what is absent."""

    def info(self, path: str, /) -> dict[str, Any]:
        """`name`, `type` (file or directory) and `size` in bytes."""

    def ls(self, path: str, /, detail: bool) -> list[dict[str, Any]]:
        """The same of everything directly in a folder."""

    def find(self, path: str, /, detail: bool) -> dict[str, dict[str, Any]]:
        """The same of all files below a folder, by place."""

    def cat_file(self, path: str, /, start: int | None = None, end: int | None = None) -> bytes:
        """The content, or bytes `start` to `end` of it."""

    def pipe_file(self, path: str, value: bytes, /, mode: str = "overwrite") -> None:
        """Writes a whole file; with `mode` "create" only where there is none, else FileExistsError."""

    def get_file(self, path: str, local: str, /) -> None:
        """Copies a file to a local path."""

    def put_file(self, local: str, path: str, /) -> None:
        """Copies a local file."""

    def _strip_protocol(self, path: str, /) -> str:
        """The place that a URL means."""

    def rm_file(self, path: str, /) -> None: ...

    def rm(self, path: str, /, recursive: bool) -> None: ...


class PartedStorage(ObjectStorage, Protocol):
    """A storage that moves large files in several parts at a time, and compares checksums: S3."""

    def put(self, local: Path, place: str) -> tuple[str, bool]:
        """Copies a local file; returns its SHA-256 and whether the server has compared it."""

    def get_part(self, place: str, local: Path, start: int, end: int) -> None:
        """Copies bytes `start` to `end` to the same place of a local file that exists."""
