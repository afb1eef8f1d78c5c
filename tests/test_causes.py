"""What is behind the errors that Ray hands on: real ones of Ray's, and real processes that ran out of memory."""

import pytest
from ray import exceptions
from ray.core.generated.common_pb2 import ActorDeathCause, NodeDeathInfo
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from saeft_ray.faults import ATTEMPTS
from saeft_ray.leaving import Left
from saeft_ray.local import LocalRunner
from saeft_ray.on_ray.causes import lost_by
from saeft_ray.on_ray.runner import SETTINGS, RayRunner
from saeft_ray.progress import Quiet
from saeft_ray.protocol import Unfinished, conduct
from saeft_ray.table import read_rows

import sweeps


def died(why, preempted=False):
    context = ActorDeathCause().actor_died_error_context
    context.error_message, context.actor_id = why, bytes(16)
    if preempted:
        context.node_death_info.reason = NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED
    return exceptions.ActorDiedError(context)


def raised(cause):
    """As Ray hands on what a task raised."""
    return exceptions.RayTaskError("f", "a traceback", cause)


CRASHED = died("The actor is dead because its worker process has died.")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (raised(Left("saved")), "lost"),
        (raised(MemoryError()), "memory"),
        (raised(KeyError("x")), "bug"),
        (CRASHED, "crashed"),
        (died("The actor died because its node has died."), "lost"),
        (died("It was taken.", preempted=True), "lost"),
        (exceptions.NodeDiedError("gone"), "lost"),
        (exceptions.ActorUnavailableError("its machine does not answer", bytes(16)), "lost"),
        (exceptions.OutOfMemoryError("low"), "memory"),
        (exceptions.OutOfDiskError("full"), "storage"),
        (exceptions.WorkerCrashedError(), "crashed"),
        (raised(raised(exceptions.OutOfMemoryError("low"))), "memory"),
        (WorkerGroupError("two", {0: RuntimeError("Connection closed by peer"), 1: died("its node has died")}), "lost"),
        (WorkerGroupError("two", {0: RuntimeError("Connection closed by peer"), 1: CRASHED}), "crashed"),
        (WorkerGroupError("two", {0: RuntimeError("Connection closed by peer"), 1: MemoryError()}), "memory"),
        (ControllerError(exceptions.NodeDiedError("gone")), "lost"),
        (ControllerError(RuntimeError("shapes")), "bug"),
    ],
)
def test_causes_of_rays_errors(error, cause):
    assert lost_by(error) == cause


@pytest.mark.slow
def test_trials_that_ray_kills_for_memory_are_tried_twice_and_stand_in_the_table(tmp_path, monkeypatch):
    """A node whose limit for memory is nothing kills whatever runs on it."""
    import ray

    config = sweeps.config(tmp_path, methods={"ft": {}, "mse": {"lambda_mse": 300}}, confirm={"seeds": 1})
    plan, store, ledger = sweeps.opened(config)
    LocalRunner(plan, store, ledger).build(plan.artifacts(), Quiet())
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.0")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    environment = {**SETTINGS, "OMP_NUM_THREADS": "1"}
    ray.init("local", num_cpus=1, log_to_driver=False, runtime_env={"env_vars": environment})
    try:
        with pytest.raises(Unfinished, match=r"2 confirm trials could not be run") as caught:
            conduct(plan, ledger, RayRunner(plan, store, ledger).__enter__(), Quiet())
    finally:
        ray.shutdown()
    assert str(caught.value).count(f"memory, {ATTEMPTS['memory']} times") == 2
    rows = read_rows(ledger.url).to_pylist()
    assert {(row["method"], row["status"], row["value"]) for row in rows} == {
        ("ft", "error", None),
        ("mse", "error", None),
    }
    assert all("memory" in row["error"] for row in rows)
