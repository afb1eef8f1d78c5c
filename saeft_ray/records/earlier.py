"""Other sweeps of a storage: those that opened the same test sets with the same seeds before, so that what was changed
since then may have been chosen after a look; and those whose images were others under the same names."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from saeft_ray.errors import Damaged, UserError
from saeft_ray.records.folder import RECORD, SweepFolder
from saeft_ray.storage.files import Files, is_name

KEY = "opened_before"
"""The place in the registration where they stand, if there are any."""


def opened_before(files: Files, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The other sweeps that had begun their confirm phase with confirm seeds and test sets of `record` (sweep.json),
    by name: `sweep`, and `changed`, whether the two differ and have a method that trains in common."""
    return [
        {"sweep": name, "changed": _changed(record, other)}
        for name, other in others(files, record)
        if set(record["confirm_seeds"]) & set(other["confirm_seeds"])
        and _same_tests(record["data"], other["data"])
        and _has_begun(files, name)
    ]


def refuse_other_images(files: Files, record: Mapping[str, Any]) -> None:
    """Raises UserError if another sweep of the storage had other images under the names and sizes of those of `record`:
    what it left there, frozen embeddings and weights, would be taken for work on these."""
    ours = record["data"]
    for name, other in others(files, record):
        theirs = other["data"]
        found = replaced(theirs, ours) if ours["fingerprint"] == theirs["fingerprint"] else []
        if ours["train"] == theirs["train"] and "train" in replaced(theirs, ours):
            found = found or ["train"]
        if found:
            raise UserError(
                f"data: images of {', '.join(found)} have the names and sizes of those that the sweep {name} in this "
                "storage had, and hold something else, so that its stored work would be taken for theirs; give another "
                f"storage, or remove that sweep: python -m saeft_ray.storage {files.url} rm {name}"
            )


def replaced(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The splits whose images hold something else in the `data` of one record than in that of the other."""
    found = []
    for split, now in new.get("content", {}).items():
        then = old.get("content", {}).get(split, "")  # records of before had none
        (read, _, first), (again, _, second) = then.rpartition(": "), now.rpartition(": ")
        if read == again and first != second:
            found.append(split)
    return found


def in_words(earlier: list[dict[str, Any]], changed: bool = False) -> str:
    """Their names in a sentence without its end; of those alone that `changed`, if that is asked. "" for none."""
    names = [each["sweep"] for each in earlier if each["changed"] or not changed]
    which = "the sweep" if len(names) == 1 else "the sweeps"
    return f"test sets were opened with these confirm seeds before, by {which} {', '.join(names)}" if names else ""


def others(files: Files, record: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The other sweeps of the storage by name, each with its record; what cannot be read is passed over."""
    try:
        names = sorted((files.location / "sweeps").entries())
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if is_name(name) and name != record["name"]:
            with suppress(FileNotFoundError, NotADirectoryError, Damaged):
                other = SweepFolder(files, f"sweeps/{name}").get_json(RECORD)
                if {"fingerprint", "train", "roles"} <= other.get("data", {}).keys() and "confirm_seeds" in other:
                    yield name, other


def _has_begun(files: Files, name: str) -> bool:
    """Whether the sweep has begun its confirm phase."""
    with suppress(FileNotFoundError, NotADirectoryError, Damaged):
        SweepFolder(files, f"sweeps/{name}").get_json("registration.json")
        return True
    return False


def _same_tests(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two sweeps have a test set in common: its images, or where an older record does not say what those are,
    its name beside the same training images."""
    if "tests" in ours and "tests" in theirs:
        return bool({*ours["tests"].values()} & {*theirs["tests"].values()})
    return bool(ours["train"] == theirs["train"] and ours["roles"].keys() & theirs["roles"].keys())


def _changed(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a method that both train may have been set up anew after a look at its results."""
    ours, theirs = ({**each["config"], "name": ""} for each in (record, other))
    trained = [
        {label for label, facts in each.get("methods", {}).items() if facts.get("trains")} for each in (record, other)
    ]
    return bool(ours != theirs and trained[0] & trained[1])
