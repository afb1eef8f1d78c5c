"""A checksum inside the file that it protects: no second file that could be lost, or older than the first.

A sealed file holds the words `lease 000002 sha256 <64 hex digits>`: the driver under whose lease it was written
(`records/lease.py`), and the SHA-256 of the whole file with those digits as zeros. JSON stays JSON and
Parquet stays Parquet.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from saeft_ray.errors import Damaged

KEY = "saeft_ray.seal"  # of a JSON object, or of a Parquet file's metadata
_MARK = re.compile(rb"lease (\d{6,}) sha256 ([0-9a-f]{64})")
_ZEROS = b"0" * 64


def mark(lease: int = 0) -> str:
    """The bytes that a file must contain before `seal`."""
    return f"lease {lease:06d} sha256 {_ZEROS.decode()}"


def seal(data: bytes) -> bytes:
    """`data` with its own digest in the place of the zeros of `mark`."""
    found = list(_MARK.finditer(data))
    assert found, "a file to be sealed lacks its mark"
    start, end = found[-1].span(2)
    assert data[start:end] == _ZEROS
    return data[:start] + _digest(data, start, end) + data[end:]


def checked(data: bytes, shown: str) -> int:
    """The lease under which `data` was written. Raises Damaged."""
    found = list(_MARK.finditer(data))
    if not found:
        raise Damaged(f"{shown}: its checksum is damaged or missing")
    start, end = found[-1].span(2)
    if data[start:end] != _digest(data, start, end):
        raise Damaged(f"{shown}: content differs from its checksum")
    return int(found[-1][1])


def to_json(content: Mapping[str, Any], lease: int = 0) -> bytes:
    return seal(json.dumps({**content, KEY: mark(lease)}, indent=1).encode())


def from_json(data: bytes, shown: str) -> dict[str, Any]:
    """Returns what `to_json` was given. Raises Damaged."""
    checked(data, shown)
    try:
        content = json.loads(data)
    except ValueError as error:
        raise Damaged(f"{shown}: is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise Damaged(f"{shown}: holds no JSON object")
    content.pop(KEY, None)
    return content


def _digest(data: bytes, start: int, end: int) -> bytes:
    digest = hashlib.sha256(data[:start])
    digest.update(_ZEROS)
    digest.update(data[end:])
    return digest.hexdigest().encode()
