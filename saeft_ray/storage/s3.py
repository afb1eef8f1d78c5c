"""S3 by boto3, in the few words of fsspec that `Files` uses: s3fs moves everything through one thread."""

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError, FlexibleChecksumError

from saeft_ray.errors import UserError
from saeft_ray.storage.retry import code_of

PART, AT_ONCE = 16 << 20, 8  # of a large file
CHUNK = 256 << 10  # of a part: what stays in the processor's cache is cheaper to copy
_TRIES = 3
ENCRYPTION = "SAEFT_RAY_S3_ENCRYPTION"
_CONNECTIONS = 32  # kept open; several threads of a process share one store


class S3:
    """The objects that these credentials reach. `hasty` gives up at the first failure."""

    def __init__(self, endpoint: str | None, hasty: bool = False):
        import boto3
        from boto3.s3.transfer import TransferConfig

        config = Config(
            connect_timeout=5 if hasty else 15,
            read_timeout=15 if hasty else 60,
            retries={"mode": "standard", "total_max_attempts": 1 if hasty else 5},
            max_pool_connections=_CONNECTIONS,
        )
        # A session of its own: boto3's default one keeps the credentials that it found first.
        self._client = boto3.Session().client("s3", endpoint_url=endpoint, config=config)
        self._encryption = _encryption(os.environ.get(ENCRYPTION, ""))
        self._parts = TransferConfig(multipart_threshold=2 * PART, multipart_chunksize=PART, max_concurrency=AT_ONCE)

    def info(self, place: str) -> dict[str, Any]:
        found = self._ask(self._client.head_object, place)
        return {"type": "file", "size": found["ContentLength"], "ETag": found.get("ETag", "")}

    def cat_file(self, place: str, start: int | None = None, end: int | None = None) -> bytes:
        """The content, or bytes `start` to `end` of it. What differs from the server's checksum is asked for again;
        where it stays so it is returned all the same, and the checksum of whoever reads it shows what is damaged."""
        part = {} if start is None or end is None else {"Range": f"bytes={start}-{end - 1}"}
        chunks: list[bytes] = []
        for _ in range(_TRIES):
            chunks.clear()
            body = self._ask(self._client.get_object, place, **part)["Body"]
            with suppress(FlexibleChecksumError):
                while chunk := body.read(CHUNK):
                    chunks.append(chunk)
                break
        return b"".join(chunks)

    def get_part(self, place: str, local: Path, start: int, end: int) -> None:
        """Writes bytes `start` to `end` of an object to the same place in a local file; fewer where it ends before."""
        try:
            body = self._ask(self._client.get_object, place, Range=f"bytes={start}-{end - 1}")["Body"]
        except OSError as error:
            if code_of(error) in {"InvalidRange", "416"}:
                return
            raise
        with local.open("r+b") as file:
            file.seek(start)
            while chunk := body.read(CHUNK):
                try:
                    file.write(chunk)
                except OSError as error:
                    error.filename = str(local)  # so that nobody waits for the server
                    raise

    def pipe_file(self, place: str, data: bytes, mode: str = "overwrite") -> None:
        condition = {"IfNoneMatch": "*"} if mode == "create" else {}
        self._ask(self._client.put_object, place, Body=data, **condition, **self._encryption)

    def get_file(self, place: str, local: str) -> None:
        """Copies an object to a local file, several parts of a large one at a time."""
        try:
            self._client.download_file(*_bucket_and_key(place), local, Config=self._parts)
        except ClientError as error:
            raise _in_python_words(error) from error

    def put_file(self, local: str, place: str) -> None:
        self.put(Path(local), place)

    def put(self, local: Path, place: str) -> tuple[str, bool]:
        """Copies a file; returns its SHA-256 and whether the server says that it has compared it."""
        if local.stat().st_size > 2 * PART:
            return self._put_large(local, place), False
        data = local.read_bytes()
        digest = hashlib.sha256(data)
        checksum = b64encode(digest.digest()).decode()
        answer = self._ask(self._client.put_object, place, Body=data, ChecksumSHA256=checksum, **self._encryption)
        # A server that does not know the header does not give it back.
        return digest.hexdigest(), answer.get("ChecksumSHA256") == checksum

    def _put_large(self, local: Path, place: str) -> str:
        with ThreadPoolExecutor(1) as beside, local.open("rb") as file:
            digest = beside.submit(hashlib.file_digest, file, "sha256")
            bucket, key = _bucket_and_key(place)
            self._client.upload_file(str(local), bucket, key, Config=self._parts, ExtraArgs=self._encryption or None)
            return digest.result().hexdigest()

    def rm_file(self, place: str) -> None:
        self._ask(self._client.delete_object, place)

    def rm(self, folder: str, recursive: bool) -> None:
        """Everything below `folder`, one request each: not every server deletes many at once."""
        assert recursive
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.rm_file, self.find(folder)))

    def find(self, folder: str, detail: bool = True) -> dict[str, dict[str, Any]]:
        """All objects below `folder`, by bucket/key."""
        assert detail
        bucket, _ = _bucket_and_key(folder)
        found = (entry for page in self._pages(folder) for entry in page.get("Contents", ()))
        return {
            f"{bucket}/{entry['Key']}": {"type": "file", "size": entry["Size"], "LastModified": entry["LastModified"]}
            for entry in found
        }

    def ls(self, folder: str, detail: bool = True) -> list[dict[str, Any]]:
        """The objects and folders in `folder`, one level deep. Raises FileNotFoundError if there is no such folder,
        NotADirectoryError for an object."""
        assert detail
        bucket, key = _bucket_and_key(folder)
        found: list[dict[str, Any]] = []
        pages = self._pages(folder, Delimiter="/")
        for page in pages:
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):  # how some clients write an empty folder
                    found.append({"name": f"{bucket}/{entry['Key']}", "type": "file", "size": entry["Size"]})
            for entry in page.get("CommonPrefixes", ()):
                found.append({"name": f"{bucket}/{entry['Prefix']}", "type": "directory", "size": 0})
        if key and not any(page.get("Contents") or page.get("CommonPrefixes") for page in pages):
            self.info(folder)
            raise NotADirectoryError(f"{folder} is not a folder")
        return found

    def _pages(self, folder: str, **how: object) -> list[dict[str, Any]]:
        bucket, key = _bucket_and_key(folder)
        pages = self._client.get_paginator("list_objects_v2")
        try:
            return list(pages.paginate(Bucket=bucket, Prefix=f"{key}/" if key else "", **how))
        except ClientError as error:
            raise _in_python_words(error) from error

    def _ask(self, request: Callable[..., Any], place: str, **how: object) -> Any:
        bucket, key = _bucket_and_key(place)
        try:
            return request(Bucket=bucket, Key=key, **how)
        except ClientError as error:
            raise _in_python_words(error) from error

    @staticmethod
    def _strip_protocol(place: str) -> str:
        return place.removeprefix("s3://")


def _encryption(asked: str) -> dict[str, str]:
    """The arguments of a put for `asked`: nothing, AES256, aws:kms, or aws:kms:KEY. Raises UserError for others."""
    if not asked:
        return {}
    if asked == "AES256":
        return {"ServerSideEncryption": asked}
    kind, _, key = asked.partition("kms")
    if kind != "aws:" or key in (":",) or key[:1] not in ("", ":"):
        raise UserError(f"{ENCRYPTION}={asked!r}: allowed are AES256, aws:kms and aws:kms:KEY, with the id of a key")
    return {"ServerSideEncryption": "aws:kms"} | ({"SSEKMSKeyId": key[1:]} if key else {})


def _bucket_and_key(place: str) -> tuple[str, str]:
    bucket, _, key = place.removeprefix("s3://").partition("/")
    return bucket, key


def _in_python_words(error: ClientError) -> OSError:
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    kind = {403: PermissionError, 404: FileNotFoundError, 412: FileExistsError}.get(status, OSError)
    return kind(error.response["Error"].get("Message") or str(error))
