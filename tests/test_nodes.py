"""Machines that die: several raylets on loopback, of which some are killed while trials run on them."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback import Metadata

from saeft_ray.on_ray.runner import SETTINGS, RayRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.progress import Quiet

import sweeps
from s3_server import free_ports
from sweeps import comparable

pytestmark = pytest.mark.slow
ENVIRONMENT = {**SETTINGS, "OMP_NUM_THREADS": "1"}
LONG = {"train": {**sweeps.SMALL["train"], "epochs": 3}, "confirm": {"seeds": 1}, "methods": {"ft": {}}}


@pytest.fixture
def cluster():
    """A head that runs no trials, and two machines of two CPUs each."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": free_ports(1)[0]}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=2)
    yield made
    made.shutdown()


@pytest.fixture
def connected(cluster):
    import ray

    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": ENVIRONMENT})
    yield cluster
    ray.shutdown()


def disturbed(config, disturb):
    """Runs the sweep; `disturb` is called in a thread once its first checkpoint is there."""
    plan, store, ledger = sweeps.opened(config)

    def wait():
        deadline = time.monotonic() + 200
        while not store.keys("checkpoint"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        disturb()

    with ThreadPoolExecutor(1) as pool, RayRunner(plan, store, ledger) as runner:
        disturbance = pool.submit(wait)
        run_phases(plan, ledger, runner, Quiet())
        disturbance.result()
    return ledger.url


def processes(title):
    """Of this user's Ray, by their title; every test here kills only below its own process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(title) and descends(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def descends(process):
    while process > 1:
        if process == os.getpid():
            return True
        process = parent(process)
    return False


def test_a_machine_dies_with_a_trial_on_it_and_the_rows_are_those_of_an_undisturbed_run(connected, tmp_path):
    _, quiet, _ = sweeps.run_here(sweeps.config(tmp_path / "quiet", **LONG))
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in connected.worker_nodes}

    def kill():
        (trial,) = processes(b"ray::Trial")
        connected.remove_node(raylets[parent(trial)], allow_graceful=False)

    config = sweeps.config(tmp_path / "there", **LONG, compute={"checkpoint_minutes": 0})
    assert comparable(disturbed(config, kill)) == comparable(quiet.url)


@pytest.mark.long
def test_a_machine_with_a_spot_notice_is_left_with_a_checkpoint_before_it_goes(connected, tmp_path, caplog):
    long = {**LONG, "train": {**LONG["train"], "epochs": 60}}
    _, quiet, _ = sweeps.run_here(sweeps.config(tmp_path / "quiet", **long))
    nodes = {node.all_processes["raylet"][0].process.pid: node.node_id for node in connected.worker_nodes}

    def give_notice():
        (trial,) = processes(b"ray::Trial")
        with Metadata() as machine:
            command = [sys.executable, "-m", "saeft_ray.on_ray.spot", "--every", "0.1"]
            command += ["--address", connected.address, "--node", nodes[parent(trial)]]
            environment = {**os.environ, "AWS_EC2_METADATA_SERVICE_ENDPOINT": machine.endpoint}
            watch = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            machine.ends_in(90)
            said, _ = watch.communicate(timeout=60)
        assert watch.returncode == 0
        assert said.startswith("spot notice: this machine goes in ")

    # A first checkpoint starts the disturbance; the next would come six seconds later.
    config = sweeps.config(tmp_path / "there", **long, compute={"checkpoint_minutes": 0.1})
    assert comparable(disturbed(config, give_notice)) == comparable(quiet.url)
    (told,) = (record.getMessage() for record in caplog.records if record.name == "saeft_ray.on_ray.tune")
    assert re.search(r"lost \(saved after \d+ epochs and \d+ steps\); tried again in 1 s$", told)


@pytest.mark.long
def test_one_of_two_workers_dies_and_the_rows_are_those_of_two_that_live(connected, tmp_path):
    compute = {"workers": 2, "checkpoint_minutes": 0}
    quiet = disturbed(sweeps.config(tmp_path / "quiet", **LONG, compute=compute), lambda: None)

    def kill():
        os.kill(processes(b"ray::RayTrainWorker")[-1], signal.SIGKILL)

    assert comparable(disturbed(sweeps.config(tmp_path / "there", **LONG, compute=compute), kill)) == comparable(quiet)


def test_the_whole_cluster_dies_with_its_head_and_the_same_command_goes_on_from_storage(tmp_path):
    from ray.cluster_utils import Cluster

    methods = {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}}
    sections = {"methods": methods, "confirm": {"seeds": 1}, "search": {"trials": 3}}
    _, quiet, _ = sweeps.run_here(sweeps.config(tmp_path / "quiet", **sections, compute={"concurrent": 1}))
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **sections, compute={"concurrent": 1})
    trials = tmp_path / "runs/sweeps/small/trials"

    def started(cluster):
        environment = {**os.environ, **ENVIRONMENT, "RAY_ADDRESS": cluster.address}
        environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = "5"
        command = [sys.executable, "-m", "saeft_ray.sweep", file, "--quiet"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    first = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    driver = started(first)
    deadline = time.monotonic() + 200
    while len(list(trials.glob("search-*/rows.parquet"))) < 2:
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.1)
    first.remove_node(first.head_node, allow_graceful=False)
    try:
        assert driver.wait(timeout=120) != 0
    finally:
        driver.kill()
        driver.wait()
    kept = {path: path.read_bytes() for path in trials.glob("*/rows.parquet")}
    second = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        assert started(second).wait(timeout=300) == 0
    finally:
        second.shutdown()
    assert {path: path.read_bytes() for path in kept} == kept
    # Suggestions, seeds and choices are those of a sweep that nobody disturbed.
    assert comparable(str(trials.parent)) == comparable(quiet.url)
