"""Everything that lies in a storage, by what it is: one listing, nothing opened."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from saeft_ray.errors import UserError
from saeft_ray.storage.files import Listed, is_name
from saeft_ray.storage.location import Location
from saeft_ray.storage.store import Store

_TEMPORARY = ".tmp-"
_ASIDE = ("set-aside-", "manifest.damaged-")


class Name(NamedTuple):
    """What an artifact is called."""

    kind: str
    key: str


@dataclass(frozen=True)
class Inventory:
    """The files of a storage by their paths: of each artifact, of each sweep, those that were set aside as damaged,
    and temporary ones."""

    artifacts: dict[Name, dict[str, Listed]] = field(default_factory=dict)
    sweeps: dict[str, dict[str, Listed]] = field(default_factory=dict)
    aside: dict[str, Listed] = field(default_factory=dict)
    temporary: dict[str, Listed] = field(default_factory=dict)

    @cached_property
    def whole(self) -> set[Name]:
        """The artifacts that have a manifest; without it nothing exists. Asked once everything is taken."""
        return {name for name, files in self.artifacts.items() if manifest_of(name) in files}

    def builds(self, name: Name) -> dict[str, dict[str, Listed]]:
        """The files of each build of an artifact, by the folder of the build."""
        found: dict[str, dict[str, Listed]] = {}
        for path, listed in self.artifacts[name].items():
            folder = path.rpartition("/")[0]
            if folder.count("/") == 3:
                found.setdefault(folder, {})[path] = listed
        return found


def take(store: Store) -> Inventory:
    """The inventory of a storage. Raises UserError for a place that is none, and says what it is."""
    found = Inventory()
    if store.local:  # fsspec lists a folder that may not be read as an empty one
        for _ in os.walk(store.url, onerror=_unless_gone):
            pass
    for path, listed in {**store.listing("artifacts"), **store.listing("sweeps")}.items():
        parts = path.split("/")
        if parts[-1].startswith(_TEMPORARY):
            found.temporary[path] = listed
        elif not all(map(is_name, parts)):
            continue  # of somebody else
        elif parts[-1].startswith(_ASIDE):
            found.aside[path] = listed
        elif parts[0] == "sweeps" and len(parts) > 2:
            found.sweeps.setdefault(parts[1], {})[path] = listed
        elif parts[0] == "artifacts" and len(parts) > 3:
            found.artifacts.setdefault(Name(*parts[1:3]), {})[path] = listed
    if not (found.artifacts or found.sweeps or found.aside or found.temporary):
        raise UserError(_no_storage(store))
    return found


def manifest_of(name: Name) -> str:
    return f"artifacts/{name.kind}/{name.key}/manifest.json"


def size(files: Iterable[Listed]) -> int:
    """Bytes of all `files`."""
    return sum(file.size for file in files)


def changed(files: Iterable[Listed]) -> float | None:
    """When the last of `files` was written, in seconds since 1970; None where that is not known."""
    times = [file.changed for file in files]
    known = [time for time in times if time is not None]
    return max(known) if known and len(known) == len(times) else None


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); let this user read it") from error


def _no_storage(store: Store) -> str:
    root, sweeps, name = store.url.rpartition("/sweeps/")
    if sweeps and (Location(store.url, store.endpoint) / "sweep.json").exists():
        return f"{store.url}: is the sweep {name}; give the storage that it lies in: {root}"
    return (
        f"no storage at {store.url}: it has neither sweeps nor artifacts; give the folder or URL that a sweep file "
        "names as `storage`"
    )
