"""Which sweeps have a driver that lives: looked at from outside, without taking their leases."""

import re
import socket
import time
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from saeft_ray.errors import Damaged
from saeft_ray.records.lease import LOOKS, PATIENCE, RELEASED, UNKNOWN, Owner, alive, beat_at
from saeft_ray.storage.checksum import from_json
from saeft_ray.storage.files import Files


def holders(files: Files, paths: Iterable[str]) -> dict[str, Owner]:
    """Who drives each sweep that is driven now, by its name. `paths` are the files below `sweeps/`.

    A driver that left, or whose process is gone from this machine, is told at once. Others are watched, all together,
    until their beats change, for `PATIENCE` seconds at most: those whose beats stay as they were are dead.
    """
    watched: dict[str, tuple[Owner, bytes]] = {}
    newest = _newest(paths)
    for sweep, lease in newest.items():
        owner, beat = _owner(files, lease), _beat(files, lease)
        if beat != RELEASED and not (owner.host == socket.gethostname() and not alive(owner.process)):
            watched[sweep] = owner, beat
    return _living(files, watched, newest)


def _living(files: Files, watched: dict[str, tuple[Owner, bytes]], leases: Mapping[str, str]) -> dict[str, Owner]:
    living: dict[str, Owner] = {}
    until = time.monotonic() + PATIENCE
    while watched:
        for sweep, (owner, first) in list(watched.items()):
            now = _beat(files, leases[sweep])
            if now != first:
                del watched[sweep]
                if now != RELEASED:
                    living[sweep] = owner
        if time.monotonic() > until:
            break
        if watched:
            time.sleep(PATIENCE / LOOKS)
    return living


def _newest(paths: Iterable[str]) -> dict[str, str]:
    """The last lease of every sweep that has one, as the path of its files without their suffix."""
    found: dict[str, str] = {}
    for path in sorted(paths):
        if lease := re.fullmatch(r"(sweeps/([^/]+)/leases/\d{6})\.json", path):
            found[lease[2]] = lease[1]
    return found


def _owner(files: Files, lease: str) -> Owner:
    try:
        return Owner.model_validate(from_json(files.read_bytes(f"{lease}.json"), lease))
    except (Damaged, ValidationError, FileNotFoundError):
        return UNKNOWN


def _beat(files: Files, lease: str) -> bytes:
    return beat_at(files, f"{lease}.beat")
