"""What tells a trial on Ray to go: its driver was told to stop, or its machine is drained (a spot notice, say)."""

import time

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

_EVERY = 1.0  # seconds between two questions to the cluster
_asked, _told = float("-inf"), False


def tell(go: bool) -> None:
    """Tells every trial of this driver to go, or takes it back."""
    if go:
        _internal_kv_put(_key(), b"1")
    else:
        _internal_kv_del(_key())


def told() -> bool:
    """Whether this process must go."""
    global _asked, _told
    if time.monotonic() - _asked > _EVERY:
        try:
            node = ray.get_runtime_context().get_node_id()
            _told = _internal_kv_get(_key()) is not None or node in ray._private.state.state.get_draining_nodes()
        except ray.exceptions.RayError:  # a head that does not answer tells nobody to go
            _told = False
        _asked = time.monotonic()
    return _told


def _key() -> bytes:
    """Of this driver and its trials alone: they are one job of Ray's."""
    return f"saeft_ray/leave/{ray.get_runtime_context().get_job_id()}".encode()
