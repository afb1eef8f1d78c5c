"""What a thing is, as a hash: canonical JSON of everything that determines its bytes, and of nothing else."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

_NO_STABLE_FORM = (
    "cannot be part of an identity: use text, finite numbers, true/false, null, lists and string-keyed maps"
)


def canonical(value: object) -> str:
    """`value` as JSON with sorted keys and no spaces. 1.0 and 1 are the same number. Raises TypeError for anything
    without a stable form (NaN, sets, objects)."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: object, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in value]
    raise TypeError(f"{value!r} ({type(value).__name__}) {_NO_STABLE_FORM}")
