"""What preflight asks of Ray: which one a sweep would use, whether a trial fits on it and it sees the storage."""

import torch

from saeft_ray.config.schema import SweepConfig
from saeft_ray.errors import UserError
from saeft_ray.on_ray import internals
from saeft_ray.on_ray.address import find
from saeft_ray.on_ray.cluster import Cluster, Machine, check_room, machines, shortage
from saeft_ray.on_ray.runner import connection, settled
from saeft_ray.on_ray.shared import check_shared, marked
from saeft_ray.storage.files import Files


def survey(config: SweepConfig) -> str:
    """What a sweep would find, in words. Joins a Ray that is there for a moment; starts none. Raises UserError."""
    found = find(config.compute.address)
    if found.address is None:
        here = Machine("", "this machine", internals.cpus_here(), torch.cuda.device_count())
        if short := shortage(config.compute, [here]):
            raise UserError(f"{short}; no cluster is there that a sweep would join (RAY_ADDRESS names one)")
        return str(Cluster(None, (here,), found.aside))
    with settled(), connection(config.compute, found):
        there = machines()
        check_room(config.compute, own=False)
        storage = Files(config.storage.url, endpoint=config.storage.endpoint)
        with marked(storage, "check-shared") as mark:
            check_shared(mark, there)
    return f"{Cluster(found.address, there, found.aside)}; all see the storage"
