"""Machines that the network cuts off in the middle of trials, for a while or for ever: no row is lost, changed or there
twice."""

import csv
import io
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hosts
import s3_server
import sweeps

ROOT = Path(__file__).parent.parent
SERVER = """
import pathlib, sys
sys.path.insert(0, {tests!r})
import s3_server
server, process = s3_server.start(pathlib.Path({folder!r}), {address!r})
print(server.endpoint, server.bucket(), flush=True)
process.wait()
"""
ROWS = "SELECT trial, dataset, metric, value FROM results WHERE metric <> 'seconds'"


@pytest.mark.slow
@pytest.mark.skipif(hosts.missing() is not None, reason=str(hosts.missing()))
@pytest.mark.skipif(s3_server.executable() is None, reason="no weed")
def test_two_of_three_machines_are_cut_off_and_the_rows_are_those_of_a_quiet_run(tmp_path):
    sections = {"methods": {"ft": {}, "sae_ft": {"lambda_add": 300}}, "confirm": {"seeds": 4}, "name": "cut"}
    quiet = sweeps.run_here(sweeps.config(tmp_path / "quiet", **sections))[1]
    (tmp_path / "s3").mkdir()
    folders = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    with hosts.Hosts(tmp_path, 3, folders) as network:
        words = SERVER.format(tests=str(ROOT / "tests"), folder=str(tmp_path / "s3"), address=network.laptop)
        served = subprocess.Popen(network.command([sys.executable, "-c", words]), stdout=subprocess.PIPE, text=True)
        endpoint, bucket = served.stdout.readline().split()
        storage = f"s3://{bucket}"
        file = sweeps.file(tmp_path / "cut.yaml", storage, compute={"cpus": 1, "address": "10.77.0.1:6379"}, **sections)
        start = f"{sys.prefix}/bin/ray start --disable-usage-stats --num-cpus 1 --node-ip-address"
        on(network, endpoint, 1, f"{start} 10.77.0.1 --head --port 6379 --include-dashboard=false")
        for number in (2, 3):
            on(network, endpoint, number, f"{start} 10.77.0.{number} --address 10.77.0.1:6379")

        log = tmp_path / "driver.log"
        command = remote(network, endpoint, 1, f"{sys.executable} -m saeft_ray.sweep {shlex.quote(file)}")
        with log.open("w") as told:
            driver = subprocess.Popen(command, stdout=told, stderr=told)
        wait_for(lambda: "confirm:" in log.read_text() or driver.poll() is not None, log)
        time.sleep(5)  # trials run on every machine now
        for number in (2, 3):
            assert network.run(["ip", "link", "set", f"host{number}", "down"], 30).returncode == 0
        time.sleep(10)
        assert network.run(["ip", "link", "set", "host2", "up"], 30).returncode == 0
        wait_for(lambda: driver.poll() is not None, log)
        assert driver.returncode == 0, log.read_text()
        asked = shlex.join(
            [sys.executable, "-m", "saeft_ray.results", f"{storage}/sweeps/cut", ROWS, "--format", "csv"]
        )
        found = list(csv.DictReader(io.StringIO(on(network, endpoint, 1, asked))))
    there = [(row["trial"], row["dataset"], row["metric"], float(row["value"])) for row in found]
    wanted = [(r["trial"], r["dataset"], r["metric"], r["value"]) for r in sweeps.comparable(quiet.url)]
    assert sorted(there) == sorted(wanted)


def remote(network, endpoint, number, command):
    """The words that run `command` on a host, with the S3 server in its environment."""
    settings = {
        "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": s3_server.SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "RAY_worker_niceness": "0",
    }  # fmt: skip
    options = ["-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
    line = f"env {' '.join(f'{name}={shlex.quote(value)}' for name, value in settings.items())} {command}"
    return network.command(["ssh", "-i", str(network.key), *options, f"root@10.77.0.{number}", line])


def on(network, endpoint, number, command):
    done = subprocess.run(remote(network, endpoint, number, command), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(condition, log, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
