"""Whether the disk of a local storage has room for what a sweep keeps."""

import shutil
from pathlib import Path

from saeft_ray.errors import UserError
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.store import Store


def to_keep(plan: Plan, store: Store, ledger: Ledger) -> int:
    """Bytes that a run will add: artifacts whose size is known and that are not there, and the weights."""
    artifacts = sum(each.bytes or 0 for each in plan.artifacts() if not store.has(each.kind, each.key))
    return artifacts + weights_to_keep(plan, ledger)


def weights_to_keep(plan: Plan, ledger: Ledger | None = None) -> int:
    """Bytes of the weights in which the trials of the confirm phase end, save for those that have ended by the
    `ledger`."""
    from saeft_ray.model import encoder

    ended = {trial for trial in ledger.finished() if trial.startswith("confirm-")} if ledger else set()
    left = max(0, dict(plan.trainings())["confirm"] - len(ended))
    return left * encoder.bytes_of(plan.config.model)


def free(store: Store) -> int | None:
    """Bytes that are free where a local `store` lies; None for a remote one."""
    if not store.local:
        return None
    place = Path(store.url)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def check_room(plan: Plan, store: Store, ledger: Ledger) -> None:
    """Raises UserError if the disk is too small for what is still to be kept."""
    there = free(store)
    if there is not None and (needed := to_keep(plan, store, ledger)) > there:
        raise UserError(
            f"storage: {store.url} lies on a disk with {there / 1e9:,.1f} GB free, and this sweep keeps "
            f"{needed / 1e9:,.1f} GB more; make room, give another folder or s3://bucket/folder, or fewer confirm seeds"
        )
