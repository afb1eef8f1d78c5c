"""Every way in which Ray reports that a trial did not end has its cause."""

import pickle
from types import SimpleNamespace

import pytest
from botocore import exceptions as boto
from ray import cloudpickle, exceptions
from ray.core.generated.common_pb2 import ActorDiedErrorContext, NodeDeathInfo
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.preemption import PreemptionInfo
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from saeft_ray.errors import Preempted, Unavailable, Unfinished
from saeft_ray.on_ray import tune
from saeft_ray.on_ray.failures import death_of, lost_by
from saeft_ray.orchestration.failures import ATTEMPTS, Attempts, Failure, cause_of

CUT_OFF = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")
MONITOR = exceptions.OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.")


def died(words, preempted=False):
    """As Ray itself makes it from what the head knows of a dead actor."""
    node = NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED) if preempted else None
    told = {"class_name": "ImplicitFunc", "actor_id": b"1" * 16, "error_message": words, "node_death_info": node}
    return exceptions.ActorDiedError(cause=ActorDiedErrorContext(**told))


CRASHED = died("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR")
GONE = died("The actor died because its node has died. Node Id: 7")
TAKEN = died("The actor died because its node was drained.", preempted=True)


def task(cause):
    return exceptions.RayTaskError("train", "Traceback", cause)


def group(*failures):
    return WorkerGroupError("", dict(enumerate(failures)))


def noticed(failure):
    return WorkerHealthCheckFailedError("A worker health check failed.", failure)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (CRASHED, "crashed"),
        (GONE, "lost"),
        (TAKEN, "lost"),
        (exceptions.ActorUnavailableError("away", b"1" * 16), "lost"),
        (exceptions.NodeDiedError("gone"), "lost"),
        (exceptions.ObjectLostError("ab" * 28, None, ""), "lost"),
        (exceptions.OwnerDiedError("ab" * 28, None, ""), "lost"),
        (exceptions.WorkerCrashedError(), "crashed"),
        (exceptions.RaySystemError("broken"), "crashed"),
        (exceptions.LocalRayletDiedError(), "crashed"),
        (exceptions.OutOfDiskError(), "storage"),
        (MONITOR, "memory"),
        (task(Preempted("saved")), "lost"),
        (task(MemoryError()), "memory"),
        (task(task(MONITOR)), "memory"),
        (task(KeyError("head")), "bug"),
        (task(Unavailable("s3://b: Access Denied")), "storage"),
        (task(group(noticed(TAKEN), CUT_OFF)), "lost"),
        (group(noticed(GONE), noticed(GONE)), "lost"),
        (group(noticed(CRASHED), CUT_OFF), "crashed"),
        (group(CUT_OFF, noticed(MONITOR)), "memory"),
        (group(CUT_OFF, MemoryError()), "memory"),
        (group(CUT_OFF, KeyError("head")), "bug"),
        (group(noticed(CRASHED), KeyError("head")), "crashed"),
        (group(CUT_OFF, Unavailable("s3://b: Access Denied")), "storage"),
        (group(CUT_OFF, CUT_OFF), "crashed"),
        (group(), "crashed"),
        (ControllerError(WorkerGroupStartupTimeoutError(2)), "lost"),
        (ControllerError(WorkerGroupStartupFailedError("a node died")), "crashed"),
        (ControllerError(exceptions.NodeDiedError("gone")), "lost"),
        (ControllerError(KeyError("head")), "bug"),
        (group(WorkerHealthCheckTimeoutError("no answer")), "crashed"),
        (PreemptionError(PreemptionInfo({}, {}), drain_timed_out=True), "lost"),
    ],
)
def test_causes_on_ray_also_after_a_journey(error, cause):
    assert lost_by(error) == cause
    assert lost_by(pickle.loads(cloudpickle.dumps(error))) == cause


def test_machines_may_be_taken_for_ever_while_memory_and_bugs_have_few_attempts():
    attempts = Attempts()
    for error in (TAKEN, GONE, task(group(noticed(TAKEN)))) * 50:
        assert attempts.wait("t", Failure.of(error, lost_by(error))) is not None
    for error in (MONITOR, task(KeyError("head")), CRASHED):
        cause = lost_by(error)
        waits = [attempts.wait("t", Failure.of(error, cause)) for _ in range(ATTEMPTS[cause])]
        assert None not in waits[:-1]
        assert waits[-1] is None


AWAY = exceptions.ActorUnavailableError("away", b"1" * 16)
DEATHS = [(CRASHED, "crashed"), (GONE, "lost"), (TAKEN, "lost"), (AWAY, "lost"), (MONITOR, "memory")]


@pytest.mark.parametrize(("error", "cause"), DEATHS)
def test_a_death_without_a_report_has_its_cause_from_the_text_that_tune_keeps(tmp_path, error, cause):
    text = tmp_path / "error.txt"
    text.write_text(f"Failure # 1 (occurred at noon)\n{error}\n")
    assert death_of(SimpleNamespace(error_file=str(text))).cause == cause
    assert death_of(SimpleNamespace(error_file=None)).cause == "crashed"


CODES = (
    *("SlowDown", "InternalError", "ServiceUnavailable", "ExpiredToken", "RequestTimeTooSkewed", "RequestTimeout"),
    *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"),
)


def answered(code):
    return boto.ClientError({"Error": {"Code": code, "Message": "said so"}}, "GetObject")


def from_s3fs(code):
    """As s3fs hands it on: an OSError whose cause is the server's answer."""
    error = OSError(16, "said so")
    error.__cause__ = answered(code)
    return error


def out_of_a_loader(error):
    """As a data loader of torch raises again what its worker raised."""
    from torch._utils import ExceptionWrapper

    try:
        raise error
    except Exception:
        wrapped = pickle.loads(pickle.dumps(ExceptionWrapper(where="in DataLoader worker process 0")))
    try:
        wrapped.reraise()
    except Exception as again:
        return again


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("made", [answered, from_s3fs])
@pytest.mark.parametrize("journey", [lambda error: error, out_of_a_loader])
def test_every_code_of_s3_is_the_storage(code, made, journey):
    assert cause_of(journey(made(code))) == "storage"


@pytest.mark.parametrize(
    "error",
    [
        boto.EndpointConnectionError(endpoint_url="http://s3"),
        boto.ConnectTimeoutError(endpoint_url="http://s3"),
        boto.ReadTimeoutError(endpoint_url="http://s3"),
        boto.ConnectionClosedError(endpoint_url="http://s3"),
        boto.ResponseStreamingError(error="reset"),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        boto.NoCredentialsError(),
        Unavailable("s3://b/a.jpg: Access Denied"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("journey", [lambda error: error, out_of_a_loader])
def test_no_answer_is_the_storage(error, journey):
    assert cause_of(journey(error)) == "storage"


@pytest.mark.parametrize("code", ["NoSuchKey", "404", "InvalidRange"])
def test_a_missing_object_is_not(code):
    assert cause_of(answered(code)) == "bug"


def test_workers_that_memory_ended_at_their_start_leave_the_sweep_unfinished():
    def ends(words):
        def fit():
            raise RuntimeError(words)

        return SimpleNamespace(fit=fit)

    with pytest.raises(Unfinished, match="workers of the search phase, for its machine is low on memory"):
        tune.fit(ends("2 worker(s) were killed due to the node running low on memory."), "search")
    with pytest.raises(RuntimeError, match="another"):
        tune.fit(ends("another"), "search")
