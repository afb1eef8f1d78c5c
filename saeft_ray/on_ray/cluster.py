"""What the Ray of a sweep has: its machines, whether a trial fits on them, and what is waited for where none does."""

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

import ray

from saeft_ray.errors import UserError
from saeft_ray.on_ray import internals
from saeft_ray.on_ray.address import Found, find
from saeft_ray.settings import Compute

_log = logging.getLogger(__name__)
EVERY = 60.0  # seconds between two lines about what is waited for
_ADVICE = "lower compute.workers, compute.cpus or compute.gpus, or use a cluster that has them"


class Machine(NamedTuple):
    """A machine of a cluster that lives."""

    id: str
    name: str
    cpus: float
    gpus: float


class Cluster(NamedTuple):
    """The Ray that a sweep runs on, as its record holds it. `address` is None for a Ray of our own."""

    address: str | None
    machines: tuple[Machine, ...]
    aside: str = ""

    def __str__(self) -> str:
        if self.address is None:
            words = f"started its own on this machine ({_amounts(self.machines)})"
        else:
            count = len(self.machines)
            nodes = f"{count} node{'' if count == 1 else 's'}"
            words = f"joined the cluster at {self.address} ({nodes}, {_amounts(self.machines)})"
        return f"{words}; {self.aside}" if self.aside else words

    def record(self) -> dict[str, object]:
        """The same for the record of a sweep."""
        machines = [{"name": one.name, "cpus": one.cpus, "gpus": one.gpus} for one in self.machines]
        return {"address": self.address or "its own", "version": ray.__version__, "nodes": machines}


def machines() -> tuple[Machine, ...]:
    """The machines that live, by name."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            host, address, has = node["NodeManagerHostname"], node["NodeManagerAddress"], node["Resources"]
            found.append(Machine(node["NodeID"], f"{host} ({address})", has.get("CPU", 0.0), has.get("GPU", 0.0)))
    return tuple(sorted(found, key=lambda machine: machine.name))


def find_with_room(compute: Compute) -> Found:
    """The Ray that a sweep would use (`address.find`), before anything is started, read or taken.

    Raises UserError if the one that is named cannot be used, or no trial would fit on a Ray of our own.
    """
    found = find(compute.address)
    if found.address is None and (short := shortage(compute, [this_machine()])):
        aside = f" ({found.aside})" if found.aside else ""
        raise UserError(f"{short}, and no cluster that a sweep would join{aside}; {_ADVICE}, which RAY_ADDRESS names")
    return found


def this_machine() -> Machine:
    """What a Ray of our own would have."""
    import torch

    return Machine("", "this machine", internals.cpus_here(), torch.cuda.device_count())


def check_room(compute: Compute) -> None:
    """Raises UserError if a trial of `compute` can never begin: it fits on no machine, and none can come."""
    if not (short := shortage(compute, machines())):
        return
    if not internals.may_grow():
        raise UserError(f"{short}, and no autoscaler that would add machines; {_ADVICE}")
    if most := internals.largest_cluster():
        need = {"CPU": compute.workers * compute.cpus, "GPU": compute.workers * compute.gpus}
        if any(amount > most.get(name, 0) for name, amount in need.items()):
            may = f"may grow to {_units(most.get('CPU', 0), most.get('GPU', 0))}"
            raise UserError(f"{short} and {may}; {_ADVICE}")


def shortage(compute: Compute, there: Sequence[Machine]) -> str:
    """What a trial needs that the machines `there` do not have, in words; "" if it fits."""
    if sum(_holds(one, compute) for one in there) >= compute.workers:
        return ""
    of = f" for each of {compute.workers} workers" if compute.workers > 1 else ""
    need = f"compute: a trial needs {_units(compute.cpus, compute.gpus)} on one machine{of}"
    if not there:
        return f"{need}, but the cluster has no machine"
    if len(there) == 1:
        return f"{need}, but there is one machine with {_units(there[0].cpus, there[0].gpus)}"
    largest = max(there, key=lambda one: (_holds(one, compute), one.gpus, one.cpus))
    return (
        f"{need}, but the cluster has {len(there)} machines with {_amounts(there)} in all, at most "
        f"{_units(largest.cpus, largest.gpus)} on one"
    )


def slots(compute: Compute, there: Sequence[Machine]) -> int:
    """Trials that fit on the machines `there` at once."""
    fit = sum(_holds(one, compute) for one in there) // compute.workers
    return min(fit, compute.concurrent or fit)


class Waiting:
    """Says at once and each minute what trials wait for, while no machines have it."""

    def __init__(self, compute: Compute, every: float = EVERY):
        self._compute, self._every, self._next = compute, every, time.monotonic()

    def look(self) -> None:
        """Looks at the cluster, if a minute has passed."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        try:
            short = shortage(self._compute, machines())
        except ray.exceptions.RayError:  # a head that does not answer is reported by whoever needs it
            return
        if short:
            _log.warning("waiting for machines: %s", short)


def _holds(machine: Machine, compute: Compute) -> int:
    """How many workers fit on `machine`."""
    slots = [int(machine.cpus / compute.cpus + 1e-9)]
    if compute.gpus:
        slots.append(int(machine.gpus / compute.gpus + 1e-9))
    return min(slots)


def _amounts(there: Sequence[Machine]) -> str:
    cpus, gpus = sum(one.cpus for one in there), sum(one.gpus for one in there)
    return f"{cpus:g} CPU{'' if cpus == 1 else 's'}, {gpus:g} GPU{'' if gpus == 1 else 's'}"


def _units(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU{'' if cpus == 1 else 's'} and {gpus:g} GPU{'' if gpus == 1 else 's'}"
