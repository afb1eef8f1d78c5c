"""One sweep taken out of a storage: its folder, and the artifacts that no other sweep names."""

from dataclasses import dataclass

from saeft_ray.errors import UserError
from saeft_ray.housekeeping.garbage import allowed
from saeft_ray.housekeeping.inventory import Name, size
from saeft_ray.housekeeping.ownership import Ownership, look
from saeft_ray.housekeeping.states import bytes_of
from saeft_ray.orchestration.signals import interrupt
from saeft_ray.records.folder import RECORD
from saeft_ray.records.lease import Lease
from saeft_ray.storage.store import Store

_LISTED = 10


@dataclass(frozen=True)
class Removal:
    """What goes with a sweep, and in words what stays of it."""

    sweep: str
    files: tuple[str, ...]
    artifacts: tuple[Name, ...]
    bytes: int
    stays: tuple[str, ...]


def removal(store: Store, sweep: str) -> Removal:
    """What would go with `sweep`. Raises UserError if there is none of that name, or if it runs."""
    found = look(store)
    if sweep not in found.inventory.sweeps:
        known = sorted(found.inventory.sweeps)
        listed = ", ".join(known[:_LISTED]) + (", …" if len(known) > _LISTED else "")
        raise UserError(f"{store.url}: has no sweep {sweep!r}; it has {listed or 'none'}")
    if sweep in found.running:
        owner = found.running[sweep]
        raise UserError(
            f"{store.url}/sweeps/{sweep}: process {owner.process} on {owner.host} runs this sweep since {owner.since}; "
            "end it first, or wait for it"
        )
    artifacts, stays = _own(found, sweep)
    files = store.listing(f"sweeps/{sweep}")  # all of them, whatever they are
    total = size(files.values()) + bytes_of(found, artifacts)
    return Removal(sweep, tuple(files), tuple(artifacts), total, tuple(stays))


def remove_sweep(store: Store, going: Removal) -> None:
    """Removes what `going` names, as far as it may still go: meanwhile a user was asked, and sweeps may have begun.
    Holds the sweep's lease, so that nobody starts it; raises UserError if somebody has. What is interrupted can be
    repeated: the record goes last."""
    folder, still = f"sweeps/{going.sweep}", removal(store, going.sweep).artifacts
    with Lease(store, folder, on_lost=interrupt):
        for name in going.artifacts:
            if name in still:
                store.remove(*name)
        last = f"{folder}/{RECORD}"
        for path in going.files:
            if path != last and not path.startswith(f"{folder}/leases/"):
                store.delete_leftover(path)
        store.delete(last)
    store.delete_folder(folder)


def _own(found: Ownership, sweep: str) -> tuple[list[Name], list[str]]:
    """The artifacts that go with a sweep, and what stays."""
    if sweep in found.unaccounted:
        return [], [f"its artifacts stay, since it cannot be accounted for: {found.unaccounted[sweep]}"]
    named, own = found.named(sweep)
    going, stays = allowed(found, own)
    if shared := len(named) - len(own):
        stays.append(f"{shared} artifacts stay: other sweeps name them too")
    return going, stays
