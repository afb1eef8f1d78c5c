"""Earlier sweeps of a storage that opened the same test sets with the same seeds: what was changed since then may have
been chosen after a look."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from saeft_ray.errors import Damaged
from saeft_ray.records.folder import RECORD, SweepFolder
from saeft_ray.storage.files import Files, is_name

KEY = "opened_before"
"""The place in the registration where they stand, if there are any."""


def opened_before(files: Files, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The other sweeps that had begun their confirm phase with confirm seeds and test sets of `record` (sweep.json),
    by name: `sweep`, and `changed`, whether the two differ and have a method that trains in common."""
    try:
        names = sorted((files.location / "sweeps").entries())
    except (FileNotFoundError, NotADirectoryError):
        return []
    others = [name for name in names if is_name(name) and name != record["name"]]
    return [found for name in others for found in _opened(files, name, record)]


def in_words(earlier: list[dict[str, Any]], changed: bool = False) -> str:
    """Their names in a sentence without its end; of those alone that `changed`, if that is asked. "" for none."""
    names = [each["sweep"] for each in earlier if each["changed"] or not changed]
    which = "the sweep" if len(names) == 1 else "the sweeps"
    return f"test sets were opened with these confirm seeds before, by {which} {', '.join(names)}" if names else ""


def _opened(files: Files, name: str, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    folder = SweepFolder(files, f"sweeps/{name}")
    with suppress(FileNotFoundError, NotADirectoryError, Damaged, KeyError):
        other = folder.get_json(RECORD)
        folder.get_json("registration.json")
        same_seeds = set(record["confirm_seeds"]) & set(other["confirm_seeds"])
        if same_seeds and _same_tests(record["data"], other["data"]):
            yield {"sweep": name, "changed": _changed(record, other)}


def _same_tests(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two sweeps have a test set in common: its images, or where an older record does not say what those are,
    its name beside the same training images."""
    if "tests" in ours and "tests" in theirs:
        return bool({*ours["tests"].values()} & {*theirs["tests"].values()})
    return bool(ours["train"] == theirs["train"] and ours["roles"].keys() & theirs["roles"].keys())


def _changed(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a method that both train may have been set up anew after a look at its results."""
    ours, theirs = ({**each["config"], "name": ""} for each in (record, other))
    trained = [{label for label, facts in each["methods"].items() if facts["trains"]} for each in (record, other)]
    return bool(ours != theirs and trained[0] & trained[1])
