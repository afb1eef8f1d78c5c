"""What the record of a sweep says that was made of others (`housekeeping/merging.py`), in words."""

from collections.abc import Mapping
from typing import Any

KEY = "merged"
"""The place in the record where it stands."""


def made_of(record: Mapping[str, Any]) -> str:
    """`a merge of one and other, made at 2026-01-02 03:04 UTC`; "" for a sweep that ran itself."""
    if KEY not in record:
        return ""
    names = " and ".join(each["sweep"] for each in record[KEY]["of"])
    return f"a merge of {names}, made at {record['created'][:16].replace('T', ' ')} UTC"


def until_decided(record: Mapping[str, Any]) -> list[str]:
    """The sweeps in a merge, at any depth, whose number of seeds followed from their own results."""
    found = list[str]()
    for each in record.get(KEY, {}).get("of", ()):
        found += until_decided(each) if KEY in each else []
        found += [each["sweep"]] if isinstance(each["confirm"]["seeds"], Mapping) else []
    return found
