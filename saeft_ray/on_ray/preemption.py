"""When a trial on Ray must stop: its driver was asked to stop, or its machine is drained (a spot notice, say)."""

import time

import ray

from saeft_ray.on_ray import internals

_EVERY = 1.0  # seconds between two questions to the cluster
_asked, _must_stop = float("-inf"), False


def request_stop(stop: bool) -> None:
    """Asks every trial of this driver to save a checkpoint and stop, or takes that back."""
    internals.set_flag(_flag(), stop)


def must_stop() -> bool:
    """Whether this process must save a checkpoint and stop."""
    global _asked, _must_stop
    if time.monotonic() - _asked > _EVERY:
        try:
            _must_stop = internals.flag(_flag()) or internals.is_draining()
        except ray.exceptions.RayError:  # a head that does not answer asks nobody to stop
            _must_stop = False
        _asked = time.monotonic()
    return _must_stop


def _flag() -> str:
    """One per driver: it and its trials are one job of Ray."""
    return f"saeft_ray/stop/{ray.get_runtime_context().get_job_id()}"
