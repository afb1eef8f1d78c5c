"""The causes behind the errors of Ray, Tune and Train."""

import re
from pathlib import Path
from typing import Any

from ray import exceptions
from ray.train import ControllerError, PreemptionError, WorkerGroupError

from saeft_ray.on_ray import internals
from saeft_ray.orchestration.failures import STOPS, Cause, Failure, cause_of, short_traceback
from saeft_ray.storage.redact import redacted

_ORDER: tuple[Cause, ...] = (*STOPS, "lost", "memory", "crashed", "bug")  # of several, the first is the reason
_DIED = exceptions.WorkerCrashedError | exceptions.RaySystemError | exceptions.LocalRayletDiedError
_TEXTS: dict[Cause, str] = {
    "memory": "running low on memory|OutOfMemory",
    "storage": "[Dd]isk is full|OutOfDisk",
    "lost": r"node (has died|was terminated|is dead|was drained|was preempted)|actor \w+ is unavailable",
}


def lost_by(error: BaseException) -> Cause:
    """The cause of a trial's error. Of several workers that failed, one made the others fail."""
    if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        return lost_by(error.cause)
    if isinstance(error, WorkerGroupError):
        found = {lost_by(one) for one in error.worker_failures.values() if not _dragged(one)}
        return next((cause for cause in _ORDER if cause in found), "crashed")
    if isinstance(error, ControllerError):
        return lost_by(error.controller_failure)
    if isinstance(error, internals.HEALTH_CHECK_FAILED):  # how Train reports that a worker has gone
        return lost_by(error.health_check_failure)
    if isinstance(error, exceptions.RayActorError):
        unreachable = isinstance(error, exceptions.ActorUnavailableError)  # its machine is not known to be dead yet
        gone = error.preempted or unreachable or re.search("node (has died|was terminated|is dead)", str(error))
        return "lost" if gone else "crashed"
    if isinstance(error, PreemptionError | exceptions.NodeDiedError | exceptions.ObjectLostError):
        return "lost"
    if isinstance(error, internals.STARTUP_TIMEOUT):  # there are fewer machines than there were
        return "lost"
    if isinstance(error, exceptions.OutOfMemoryError):
        return "memory"
    if isinstance(error, exceptions.OutOfDiskError):
        return "storage"
    if isinstance(error, _DIED | internals.STARTUP_FAILED | internals.HEALTH_CHECK_TIMEOUT):
        return "crashed"
    return cause_of(error)


def death_of(trial: Any) -> Failure:
    """Why the process of a Tune trial died without a report, from the text that Tune keeps of every error: a pickle is
    there for some errors only, and nothing here unpickles."""
    text = Path(trial.error_file).read_text() if trial.error_file else "Ray gave no reason"
    found: list[Cause] = [cause for cause, words in _TEXTS.items() if re.search(words, text)]
    return Failure((*found, "crashed")[0], redacted(text.strip()), short_traceback(text))


def _dragged(error: BaseException) -> bool:
    """Whether a worker only noticed that another had gone."""
    own = not isinstance(error, exceptions.RayError | internals.HEALTH_CHECK_FAILED)
    return own and cause_of(error) == "crashed"
