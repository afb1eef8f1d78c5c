"""What of a storage may go, and why; what stays although no sweep names it, and why."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from saeft_ray.housekeeping.inventory import Inventory, Name, changed, size
from saeft_ray.housekeeping.named import descriptions
from saeft_ray.housekeeping.ownership import Ownership, look
from saeft_ray.housekeeping.states import bytes_of
from saeft_ray.storage.files import Listed
from saeft_ray.storage.store import Store

AGE = 86_400.0  # seconds; long enough for any build under way, and for clocks that disagree


class Item(NamedTuple):
    """Something that may go: an artifact, the folder of a build, or one file. `path` is relative to the storage."""

    path: str
    why: str
    bytes: int
    artifact: Name | None = None
    folder: bool = False


@dataclass(frozen=True)
class Garbage:
    """`items` may go; `kept` are sentences about what stays although no sweep names it."""

    items: tuple[Item, ...]
    kept: tuple[str, ...]


def garbage(store: Store, now: float | None = None) -> Garbage:
    """What may go from a storage, at the time `now` (seconds since 1970, else by this machine's clock).

    Whatever a sweep names stays, for its resuming, its replay, its export and its features; while one runs, whatever
    is of its data or its model; and while there is a sweep that cannot be accounted for, every artifact. What could
    be under way stays until it is a day old.
    """
    found = look(store)
    unnamed, kept = allowed(found, found.unnamed())
    if found.unclear:
        kept.append(f"{_many(found, found.unclear)} stay: this version cannot tell what they are")
    young = _Young(time.time() if now is None else now)
    items = [Item(f"artifacts/{n.kind}/{n.key}", _why(n), bytes_of(found, [n]), n) for n in unnamed]
    items += young.old(_lost_builds(found, set(unnamed)))
    files = found.inventory
    items += young.old((path, "was set aside as damaged", {path: file}) for path, file in files.aside.items())
    items += young.old((path, "is a left-over temporary file", {path: file}) for path, file in files.temporary.items())
    return Garbage(tuple(items), (*kept, *young.told()))


def remove(store: Store, item: Item) -> None:
    """Removes one item."""
    if item.artifact is not None:
        store.remove(*item.artifact)
    elif item.folder:
        store.delete_folder(item.path)
    else:
        store.delete_leftover(item.path)


class _Young:
    """Sorts out what may still be under way."""

    def __init__(self, now: float):
        self._until, self._count, self._bytes = now - AGE, 0, 0

    def old(self, found: Iterator[tuple[str, str, dict[str, Listed]]]) -> list[Item]:
        items = []
        for path, why, files in found:
            last = changed(files.values())
            if last is not None and last < self._until:
                items.append(Item(path, why, size(files.values()), folder=path not in files))
            else:
                self._count += 1
                self._bytes += size(files.values())
        return items

    def told(self) -> Iterator[str]:
        if self._count:
            yield (
                f"{self._count} builds without a manifest, temporary files and files set aside "
                f"({self._bytes:,} bytes) stay: they are younger than a day, or of unknown age, and may be under way"
            )


def allowed(found: Ownership, names: list[Name]) -> tuple[list[Name], list[str]]:
    """Those of `names`, which no sweep names that stays, that may go; and sentences about the others."""
    if not names:
        return [], []
    if found.unaccounted:
        why = [f"sweep {sweep} cannot be accounted for, and may name any: {why}"
               for sweep, why in found.unaccounted.items()]  # fmt: skip
        return [], [f"{_many(found, names)} that no other sweep names stay", *why]
    accounts = [found.accounts[sweep] for sweep in found.running if sweep in found.accounts]
    described = descriptions(found.store, names) if accounts else {}
    stay = {
        name
        for name in names
        if any(one.concerns(described.get(name, {})) for one in accounts)
        and not (name.kind == "checkpoint" and _ended(found, name))
    }
    runs = ", ".join(found.running)
    kept = [f"{_many(found, stay)} that no sweep names stay while {runs} runs, which may come to need them"]
    return [name for name in names if name not in stay], kept if stay else []


def _ended(found: Ownership, checkpoint: Name) -> bool:
    """Whether a checkpoint is of a trial that has its rows."""
    return any(checkpoint.key.partition("-")[0] in one.weights - one.under_way for one in found.accounts.values())


def _why(name: Name) -> str:
    return "no trial that is under way needs it" if name.kind == "checkpoint" else "no sweep names it"


def _many(found: Ownership, names: Collection[Name]) -> str:
    count = "1 artifact" if len(names) == 1 else f"{len(names)} artifacts"
    return f"{count} ({bytes_of(found, names):,} bytes)"


def _lost_builds(found: Ownership, going: set[Name]) -> Iterator[tuple[str, str, dict[str, Listed]]]:
    """Builds that no manifest names; not those of a manifest that cannot be read, or of what goes anyway."""
    inventory: Inventory = found.inventory
    whole = inventory.whole
    several = {name: builds for name in inventory.artifacts if name not in going and (builds := inventory.builds(name))}
    manifests = found.store.manifests([name for name in several if name in whole])
    for name, builds in several.items():
        if name in whole and name not in manifests:
            continue
        kept = f"artifacts/{name.kind}/{name.key}/{manifests[name].build}" if name in manifests else ""
        for folder, files in builds.items():
            if folder != kept:
                yield folder, "is a build that no manifest names", files
