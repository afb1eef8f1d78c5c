"""Where two records or their settings differ."""

from collections.abc import Iterator, Mapping
from typing import Any, Final


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()
"""Stands for the value of a side that lacks it; None is a value."""


def differing(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted place of each difference between two trees of maps, with both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from differing(old.get(key, ABSENT), new.get(key, ABSENT), f"{place}.{key}" if place else str(key))
    elif old != new:
        yield place, old, new
