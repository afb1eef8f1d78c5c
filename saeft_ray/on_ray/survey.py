"""What preflight asks of Ray: which one a sweep would use, whether a trial fits on it and it sees the storage."""

from saeft_ray.config.schema import SweepConfig
from saeft_ray.on_ray.cluster import Cluster, check_room, find_with_room, machines, this_machine
from saeft_ray.on_ray.runner import connection, settled
from saeft_ray.on_ray.shared import check_shared, marked
from saeft_ray.storage.files import Files


def survey(config: SweepConfig) -> str:
    """What a sweep would find, in words. Joins a Ray that is there for a moment; starts none. Raises UserError."""
    found = find_with_room(config.compute)
    if found.address is None:
        return f"{Cluster(None, (this_machine(),), found.aside)}, once a sweep runs"
    with settled(), connection(config.compute, found):
        there = machines()
        check_room(config.compute)
        storage = Files(config.storage.url, endpoint=config.storage.endpoint)
        with marked(storage, "check-shared") as mark:
            check_shared(mark, there)
    return f"{Cluster(found.address, there, found.aside)}; all see the storage"
