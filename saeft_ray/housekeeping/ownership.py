"""The sweeps of a storage, and which artifacts each of them names."""

from collections.abc import Mapping
from dataclasses import dataclass

from saeft_ray.housekeeping.inventory import Inventory, Name, take
from saeft_ray.housekeeping.named import DESCRIBED, KNOWN, Account, account, descriptions
from saeft_ray.records.folder import RECORD
from saeft_ray.records.held import holders
from saeft_ray.records.lease import Owner
from saeft_ray.storage.files import is_name
from saeft_ray.storage.store import Store


@dataclass(frozen=True)
class Ownership:
    """Who names what. `unaccounted` says of a sweep why its artifacts are not known: it may name any. `owners` are the
    sweeps that name an artifact for sure; `unclear` are artifacts of which this version cannot tell what they are."""

    store: Store
    inventory: Inventory
    running: Mapping[str, Owner]
    accounts: Mapping[str, Account]
    unaccounted: Mapping[str, str]
    owners: Mapping[Name, tuple[str, ...]]
    unclear: frozenset[Name]

    def unnamed(self) -> list[Name]:
        """The artifacts that no sweep names."""
        return [name for name in sorted(self.owners) if not self.owners[name] and name not in self.unclear]

    def named(self, sweep: str) -> tuple[list[Name], list[Name]]:
        """The artifacts that `sweep` names, and those of them that no other names."""
        named = [name for name in sorted(self.owners) if sweep in self.owners[name]]
        return named, [name for name in named if len(self.owners[name]) == 1]


def look(store: Store) -> Ownership:
    """Who names what in a storage. Raises UserError for a place that is none."""
    # Listed first: what is listed then was named by a sweep that is read later, or by none.
    inventory = take(store)
    running = holders(store, [path for files in inventory.sweeps.values() for path in files])
    accounts: dict[str, Account] = {}
    unaccounted: dict[str, str] = {}
    for sweep in _sweeps(store, inventory):
        try:
            if not _is_empty(store, inventory, sweep, sweep in running):
                accounts[sweep] = account(store, sweep, inventory)
        except Exception as error:  # a bug too: nothing may be lost by it
            said = str(error).strip() or type(error).__name__
            unaccounted[sweep] = said.splitlines()[0].removeprefix(f"{store.url}/sweeps/{sweep}: ")
    whole = inventory.whole
    described = descriptions(store, [name for name in whole if name.kind in DESCRIBED])
    owners, unclear = {}, set()
    for name in whole:
        try:
            owners[name] = tuple(s for s, one in accounts.items() if one.names(name, described.get(name, {})))
        except (KeyError, TypeError):
            owners[name] = ()
            unclear.add(name)
        if not owners[name] and (name.kind not in KNOWN or (name.kind in DESCRIBED and name not in described)):
            unclear.add(name)
    return Ownership(store, inventory, running, accounts, unaccounted, owners, frozenset(unclear))


def _sweeps(store: Store, inventory: Inventory) -> list[str]:
    """The sweeps that are there by now."""
    try:
        entries = (store.location / "sweeps").entries()
    except FileNotFoundError:
        entries = {}
    return sorted({*inventory.sweeps, *(name for name, entry in entries.items() if entry.is_folder and is_name(name))})


def _is_empty(store: Store, inventory: Inventory, sweep: str, running: bool) -> bool:
    """Whether a folder without a record was left by a driver that had not begun yet: it names nothing."""
    root = f"sweeps/{sweep}"
    files = inventory.sweeps.get(sweep) or store.listing(root)
    known = f"{root}/{RECORD}" in files or any(path.startswith(f"{root}/trials/") for path in files)
    return not known and not running
