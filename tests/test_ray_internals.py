"""Private names of Ray: all of them stand in on_ray/internals.py, and each is in the Ray that is installed."""

import importlib
import re
from pathlib import Path

import pytest
import ray

import saeft_ray

INTERNALS = "saeft_ray/on_ray/internals.py"
NEEDED = {  # by its private name, our feature that needs it
    "ray.experimental.internal_kv:_internal_kv_put": "trials save checkpoints when the driver is told to stop",
    "ray.experimental.internal_kv:_internal_kv_get": "trials save checkpoints when the driver is told to stop",
    "ray.experimental.internal_kv:_internal_kv_del": "a sweep runs again on the Ray on which one was stopped",
    "ray._private.state:state.get_draining_nodes": "trials save checkpoints when their spot machine is taken",
    "ray._private.state:state.get_max_resources_from_cluster_config": "trials on workers use machines yet to start",
    "ray.train.v2._internal.exceptions:WorkerGroupStartupFailedError": "a crash is told from a lost machine",
    "ray.train.v2._internal.exceptions:WorkerGroupStartupTimeoutError": "a crash is told from a lost machine",
    "ray.train.v2._internal.exceptions:WorkerHealthCheckFailedError": "a crash is told from a lost machine",
    "ray.train.v2._internal.exceptions:WorkerHealthCheckTimeoutError": "a crash is told from a lost machine",
    "ray.tune.experiment:Trial.error_file": "a trial whose process died is tried again as its cause asks",
    "ray.tune.trainable:wrap_function": "a trial is called Trial in the dashboard and in lists of processes",
    "ray._common.utils:get_ray_address_file": "a sweep joins the Ray that `ray start` left, and no stale one",
    "ray._common.utils:get_default_ray_temp_dir": "a Ray of our own starts where TMPDIR is too long for its sockets",
    "ray._private.utils:get_num_cpus": "preflight says what a Ray of our own would have",
    "ray.autoscaler.v2.sdk:get_cluster_status": "what can never come is an error, and what may come is waited for",
    "ray.scripts.scripts:healthcheck": "a dead address is told within seconds",
    "ray._common.constants:HEAD_NODE_RESOURCE_NAME": "drivers of trials stay on the head",
}


@pytest.mark.parametrize("name", NEEDED)
def test_every_private_name_is_there(name):
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        pytest.fail(
            f"Ray {ray.__version__} has no {name.replace(':', '.')} any more. {INTERNALS} needs it so that "
            f"{NEEDED[name]}. Change that file, or keep ray below {ray.__version__} in pyproject.toml"
        )


def test_the_resource_of_a_head_and_the_address_of_ours_are_what_ray_calls_them():
    from ray._common.constants import HEAD_NODE_RESOURCE_NAME
    from ray._private import worker

    from saeft_ray.on_ray import internals

    assert internals.HEAD == HEAD_NODE_RESOURCE_NAME, f"{INTERNALS}: HEAD keeps drivers of trials on the head"
    for option in internals.options_of_own("/tmp"):
        assert f'"{option}"' in Path(worker.__file__).read_text(), f"{INTERNALS}: ray.init has no option {option}"


def test_private_names_stand_in_one_file():
    private = re.compile(
        r"ray\.(_private|experimental|[\w.]*\._internal)|ray\.train\.v2|__internal|\b_node_ip|\.handle_error"
    )
    folder = Path(saeft_ray.__file__).parent
    found = {str(path.relative_to(folder.parent)) for path in folder.rglob("*.py") if private.search(path.read_text())}
    assert found == {INTERNALS}


def test_a_node_that_blocks_says_that_it_is_up_as_we_expect():
    from ray.scripts import scripts

    from saeft_ray.on_ray import internals

    written, _, said = Path(scripts.__file__).read_text().rpartition("write_ray_address(")
    assert written, f"{INTERNALS}: a node of a Slurm job tells what `ray start` wrote into its address file"
    assert said.count(internals.STARTED) == 1, f"{INTERNALS}: a Slurm job waits for STARTED, which follows that file"


def test_a_node_starts_without_the_server_of_rays_client():
    from ray._private import ray_constants
    from ray._private.parameter import RayParams

    from saeft_ray.on_ray import internals

    ((name, function),) = internals.START_HOOK.items()
    assert name == ray_constants.RAY_START_HOOK
    settings, (module, _, called) = RayParams(ray_client_server_port=10001), function.rpartition(".")
    getattr(importlib.import_module(module), called)(settings, True)
    assert settings.ray_client_server_port is None, f"{INTERNALS}: two users' Slurm jobs share a machine"
