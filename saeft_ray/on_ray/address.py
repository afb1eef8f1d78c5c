"""The address of the Ray that a sweep joins: the one that is named, or else this user's own on this machine."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from saeft_ray.errors import UserError
from saeft_ray.on_ray import internals

_ANSWER = 5.0  # seconds for a connection
_HEALTH = 30.0  # seconds for Ray to say that it is well
_PLACE = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+):(?P<port>\d{1,5})")


class Found(NamedTuple):
    """`address` is host:port; None for a Ray of our own. `aside` says what was passed over, "" for nothing."""

    address: str | None
    aside: str = ""


def find(setting: str | None) -> Found:
    """The Ray that a sweep joins: that of `setting` (compute.address), else that of RAY_ADDRESS, else, as `ray.init`
    has it, the last that this user started here with `ray start`. A Ray that another user or program started is joined
    only where it is named.

    Raises UserError within seconds if the one that is named does not answer, or cannot be joined.
    """
    named = (setting or os.environ.get("RAY_ADDRESS") or "").strip()
    place = "compute.address" if setting else "RAY_ADDRESS"
    if named == "local":
        return Found(None)
    if not named or named == "auto":
        found = _of_this_user()
        if named and found.address is None:
            raise UserError(f"{place}: auto: no Ray of yours runs on this machine{found.aside and f' ({found.aside})'}")
        return found
    if "://" in named:
        raise UserError(
            f"{place}: {named!r} is an address of Ray's client or job server, through which a sweep cannot run; give "
            "HOST:PORT of the cluster on one of its machines, or run this command there: ray job submit -- python -m …"
        )
    match = _PLACE.fullmatch(named)
    if not match or not 0 < int(match["port"]) < 65536:
        raise UserError(f"{place}: {named!r} is not an address of a Ray; allowed are HOST:PORT, auto and local")
    if why := _silent(named):
        raise UserError(
            f"{place}: no Ray answers at {named}: {why}. Start it, correct the address (`ray status` on its head names "
            "it), or give the address local for a Ray of its own on this machine"
        )
    return Found(named)


def _of_this_user() -> Found:
    """The Ray that this user's last `ray start` left in Ray's own folder; without one there, the only one that runs
    with another folder."""
    file = internals.address_file()
    try:
        address, owner = file.read_text().strip(), file.stat().st_uid
    except OSError:
        return _running()
    others = {each.address for each in _raylets() if each.owner != os.getuid()}
    if owner != os.getuid() or address in others:
        return Found(None, f"that of another user at {address} is not joined; RAY_ADDRESS={address} would join it")
    if why := _silent(address):
        return Found(None, f"{file} names {address}, where no Ray answers: {why}")
    return Found(address)


def _running() -> Found:
    addresses = sorted({each.address for each in _raylets() if each.owner == os.getuid() and each.by_ray_start})
    answering = [address for address in addresses if not _silent(address)]
    if len(answering) == 1:
        return Found(answering[0])
    if answering:
        return Found(None, f"of those at {' and '.join(answering)} none is joined; RAY_ADDRESS names one")
    return Found(None)


class _Raylet(NamedTuple):
    """A process of a Ray on this machine."""

    address: str
    owner: int
    by_ray_start: bool  # and not by a program for itself


def _raylets() -> Iterator[_Raylet]:
    """The raylets that run here, of every user, as far as the system shows them."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            owner = process.stat().st_uid
        except OSError:  # it has ended
            continue
        if Path(words[0]).name != "raylet":
            continue
        given = dict(word.lstrip("-").split("=", 1) for word in words[1:] if word.startswith("--") and "=" in word)
        address = given.get("gcs-address", "")
        yield _Raylet(address, owner, _holds(internals.address_file(given.get("temp_dir", "")), address))


def _holds(file: Path, address: str) -> bool:
    try:
        return file.read_text().strip() == address
    except OSError:
        return False


def _silent(address: str) -> str:
    """Why no Ray answers at `address`; "" if one does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    except (OSError, ValueError) as error:  # also a name that is unknown
        return str(error) or type(error).__name__
    ask, settings = [*internals.HEALTH_CHECK, address], {"RAY_AUTH_MODE": "disabled", **os.environ}
    try:
        told = subprocess.run(ask, env=settings, capture_output=True, text=True, timeout=_HEALTH)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired:
        return f"what listens there does not answer as a Ray within {_HEALTH:.0f} s"
    words = [line.strip() for line in told.stderr.splitlines() if line.strip()]
    return "" if told.returncode == 0 else (words or ["it is not healthy"])[-1][:300]
