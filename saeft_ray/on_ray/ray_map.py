"""A `Map` whose work is done by Ray tasks, with the resources of one worker of a trial each."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

from saeft_ray.features.each import Map
from saeft_ray.settings import Compute

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 2  # tasks that wait for each one that runs, so that results do not pile up before they are read


def ray_map(compute: Compute) -> Map:
    """A map for whoever is connected to Ray. A task whose machine is lost runs again; what `act` raises is raised here,
    and the tasks that have not begun are cancelled."""

    def each(act: Callable[[T], R], things: Sequence[T], /) -> Iterator[R]:
        task = ray.remote(num_cpus=compute.cpus, num_gpus=compute.gpus, max_retries=3)(_called).options(name="features")
        shared = ray.put(act)
        at_once = compute.concurrent or max(1, int(ray.cluster_resources().get("CPU", 1)) // compute.cpus)
        waiting = list(things)
        pending: list[Any] = []
        try:
            while waiting or pending:
                while waiting and len(pending) < (1 + _AHEAD) * at_once:
                    pending.append(task.remote(shared, waiting.pop(0)))
                try:
                    done: R = ray.get(pending.pop(0))
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                yield done
        finally:
            for left in pending:
                ray.cancel(left)

    return each


def _called(act: Callable[[T], R], thing: T) -> R:
    return act(thing)
