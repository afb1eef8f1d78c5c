"""What is behind the errors that Ray, Tune and Train hand on."""

import re

from ray import exceptions
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from saeft_ray.orchestration.failures import Cause, cause_of

_ORDER: tuple[Cause, ...] = ("storage", "lost", "memory", "crashed", "bug")  # of several, the first is the reason
_DIED = exceptions.WorkerCrashedError | exceptions.RaySystemError | exceptions.LocalRayletDiedError


def lost_by(error: BaseException) -> Cause:
    """The cause of a failed trial of Tune's. Of several workers that failed, one dragged the others along."""
    if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        return lost_by(error.cause)
    if isinstance(error, WorkerGroupError):
        found = {lost_by(one) for one in error.worker_failures.values() if not _dragged(one)}
        return next((cause for cause in _ORDER if cause in found), "crashed")
    if isinstance(error, ControllerError):
        return lost_by(error.controller_failure)
    if isinstance(error, WorkerHealthCheckFailedError):  # how Train tells that a worker has gone
        return lost_by(error.health_check_failure)
    if isinstance(error, exceptions.RayActorError):
        unreachable = isinstance(error, exceptions.ActorUnavailableError)  # its machine is not known to be dead yet
        gone = error.preempted or unreachable or re.search("node (has died|was terminated|is dead)", str(error))
        return "lost" if gone else "crashed"
    if isinstance(error, PreemptionError | exceptions.NodeDiedError | exceptions.ObjectLostError):
        return "lost"
    if isinstance(error, WorkerGroupStartupTimeoutError):  # there are fewer machines than there were
        return "lost"
    if isinstance(error, exceptions.OutOfMemoryError):
        return "memory"
    if isinstance(error, exceptions.OutOfDiskError):
        return "storage"
    if isinstance(error, _DIED | WorkerGroupStartupFailedError | WorkerHealthCheckTimeoutError):
        return "crashed"
    return cause_of(error)


def _dragged(error: BaseException) -> bool:
    """Whether a worker only noticed that another had gone."""
    own = not isinstance(error, exceptions.RayError | WorkerHealthCheckFailedError)
    return own and cause_of(error) == "crashed"
