"""Machines that die: several raylets on loopback, of which some are killed while trials run on them."""

import os
import subprocess
import sys
import time

import pytest

from saeft_ray.on_ray.runner import SETTINGS
from saeft_ray.table import read_rows

import sweeps

pytestmark = pytest.mark.slow
ENVIRONMENT = {**SETTINGS, "OMP_NUM_THREADS": "1"}


def comparable(url):
    rows = [row for row in read_rows(url).to_pylist() if row["metric"] != "seconds"]
    return sorted(str(row) for row in rows)


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
