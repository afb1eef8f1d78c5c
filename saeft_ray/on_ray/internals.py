"""All that this package uses of Ray in addition to its public interface, each with its reason.

`ray` is bounded in pyproject.toml. tests/test_ray_internals.py names the feature of ours that each name carries.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir, get_ray_address_file
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.tune.trainable import wrap_function

# Train reports these inside its public errors, and only their types distinguish a lost machine from a crash.
STARTUP_FAILED, STARTUP_TIMEOUT = WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
HEALTH_CHECK_FAILED, HEALTH_CHECK_TIMEOUT = WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

# Every head has this resource and no other machine does; labels and affinities need the head's id.
HEAD = "node:__internal_head__"

# `ray health-check` is hidden in Ray's help. In this process, a dead address would hold a client for many minutes.
HEALTH_CHECK = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address"]

# How Ray names the kind of a machine that no autoscaler started.
_STATIC = re.compile("node_[0-9a-f]{56}")
# Where autoscalers say which kinds of machines they have.
_STATUS = b"__autoscaling_status"


def options_of_own(folder: str) -> dict[str, Any]:
    """Options of `ray.init` for a Ray of our own: without them it listens on the machine's outer address, and its
    sockets lie where their paths may be too long."""
    return {"_node_ip_address": "127.0.0.1", "_temp_dir": folder}


def temporary_folder() -> str:
    """The folder in which Ray would make that of its session."""
    return str(get_default_ray_temp_dir())


def address_file(folder: str | None = None) -> Path:
    """The file in which `ray start` leaves the address of its cluster, wherever RAY_TMPDIR or --temp-dir put it."""
    return Path(get_ray_address_file(folder))


def cpus_here() -> int:
    """The CPUs that a Ray of our own would have: those that the container allows, which the system does not count."""
    return int(ray._private.utils.get_num_cpus())


def may_grow() -> bool:
    """Whether an autoscaler can add machines to this cluster. Publicly, only its state in words is known."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    if not ray.is_initialized():
        return False
    state = get_cluster_status(ray.get_runtime_context().gcs_address)
    kinds = {node.ray_node_type_name for node in (*state.active_nodes, *state.idle_nodes)}
    report = json.loads(_internal_kv_get(_STATUS) or b"{}").get("autoscaler_report") or {}
    kinds |= {*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})}
    return any(kind and not _STATIC.fullmatch(kind) for kind in kinds)


def named_trainable(function: Callable[..., Any], name: str) -> type[Any]:
    """What Tune makes of `function` itself, but called `name` in the dashboard and in lists of processes: Tune calls
    every one ImplicitFunc."""
    made: type[Any] = wrap_function(function, name=name)
    made.__name__ = made.__qualname__ = name
    return made


# What `ray start --block`, which never returns, says once its node is up and its address file is written.
STARTED = "This command will now block forever"

# Names a function that `ray start` calls with its settings before it starts anything.
START_HOOK = {"RAY_START_HOOK": f"{__name__}.without_client_server"}


def without_client_server(settings: Any, head: bool) -> None:
    """No option turns off the server of Ray's client. It wants the same port in every Ray of a machine; where another
    user has it, the server ends, and `ray start --block` ends everything with it."""
    settings.ray_client_server_port = None


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
