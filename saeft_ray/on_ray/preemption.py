"""What tells a trial on Ray to go: its driver was told to stop, or its machine is drained (a spot notice, say)."""

import time

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

_EVERY = 1.0  # seconds between two questions to the cluster
_asked, _must_stop = float("-inf"), False


def request_stop(stop: bool) -> None:
    """Asks every trial of this driver to save a checkpoint and stop, or takes that back."""
    if stop:
        _internal_kv_put(_key(), b"1")
    else:
        _internal_kv_del(_key())


def must_stop() -> bool:
    """Whether this process must save a checkpoint and stop."""
    global _asked, _must_stop
    if time.monotonic() - _asked > _EVERY:
        try:
            node = ray.get_runtime_context().get_node_id()
            _must_stop = _internal_kv_get(_key()) is not None or node in ray._private.state.state.get_draining_nodes()
        except ray.exceptions.RayError:  # a head that does not answer tells nobody to go
            _must_stop = False
        _asked = time.monotonic()
    return _must_stop


def _key() -> bytes:
    """Of this driver and its trials alone: they are one job of Ray's."""
    return f"saeft_ray/leave/{ray.get_runtime_context().get_job_id()}".encode()
