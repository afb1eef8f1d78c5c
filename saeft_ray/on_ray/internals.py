"""All that this package uses of Ray in addition to its public interface, each with its reason.

`ray` is bounded in pyproject.toml. tests/test_ray_internals.py names the feature of ours that each name carries.
"""

from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

# Train reports these inside its public errors, and only their types distinguish a lost machine from a crash.
STARTUP_FAILED, STARTUP_TIMEOUT = WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
HEALTH_CHECK_FAILED, HEALTH_CHECK_TIMEOUT = WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

# Every head has this resource and no other machine does; labels and affinities need the head's id.
HEAD = "node:__internal_head__"

# Without it Ray listens on the machine's outer address, also where only this process uses it.
LOOPBACK: dict[str, Any] = {"_node_ip_address": "127.0.0.1"}

# What `ray start` says once its node is up: with --block it never returns.
STARTED = "Ray runtime started."


def set_flag(name: str, value: bool) -> None:
    """Sets a flag of the cluster: its key-value store needs no actor, which would need a process and a CPU."""
    if value:
        _internal_kv_put(name.encode(), b"1")
    else:
        _internal_kv_del(name.encode())


def flag(name: str) -> bool:
    """Whether `set_flag` set it."""
    return _internal_kv_get(name.encode()) is not None


def is_draining() -> bool:
    """Whether this process's machine is to go: `ray.train.get_preemption_info` is for workers of Train alone."""
    node = ray.get_runtime_context().get_node_id()
    return node in ray._private.state.state.get_draining_nodes()


def largest_cluster() -> dict[str, float]:
    """The resources that the autoscaler may add up to: publicly, only those that are there now are known."""
    most = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return {name: amount for name, amount in most.items() if amount < 1 << 62}  # sys.maxsize is Ray's "no bound"
