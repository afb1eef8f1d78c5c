"""A real `ray up` with cluster/onprem.yaml: over ssh, to hosts that are namespaces of this machine."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import hosts
import s3_server
import sweeps

ROOT = Path(__file__).parent.parent
RAY = str(Path(sys.prefix) / "bin/ray")
CONFIG = "cluster/onprem.yaml"
VENV = "~/venv"  # of every host
QUERY = "SELECT method, count(*) AS n FROM results WHERE metric = 'accuracy' GROUP BY ALL ORDER BY ALL"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(hosts.missing() is not None, reason=str(hosts.missing())),
    pytest.mark.skipif(s3_server.executable() is None, reason="no weed"),
]
SERVE = """
import json, pathlib, sys, s3_server
server, _ = s3_server.start(pathlib.Path(sys.argv[1]), sys.argv[2])
print(json.dumps([server.endpoint, server.bucket()]), flush=True)
sys.stdin.read()
"""
# One trial on two workers, each of which wants a whole host.
SWEEP = {
    "methods": {"mse": {"lambda_mse": 300}},
    "confirm": {"seeds": 1},
    "report": {"baseline": "mse"},
    "compute": {"workers": 2, "cpus": os.cpu_count()},
}


def test_ray_up_runs_a_sweep_across_two_hosts_and_ray_down_ends_it(tmp_path):
    checkout = tmp_path / "checkout"
    for name in ("saeft_ray", "cluster"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "s3.env"))
    shared = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    with hosts.Hosts(tmp_path, 2, shared) as network, serve_s3(network, tmp_path) as s3:
        storage = f"s3://{s3.bucket}/saeft"
        prepare(checkout, network, s3, storage)

        ray(network, checkout, "up", "--yes", CONFIG, timeout=300)
        tail = "tail -n 40 /tmp/ray/session_latest/logs/monitor.*"
        told = partial(ray, network, checkout, "exec", CONFIG, tail, timeout=30)
        wait(lambda: network.processes("raylet") == 2, 240, told)
        submit = "ray job submit --submission-id small"
        sweep = "python -m saeft_ray.sweep checkout/sweeps/small.yaml"
        said = ray(network, checkout, "exec", CONFIG, f"{submit} -- {sweep}", timeout=540)
        assert f"{storage}/sweeps/small" in said

        asked = [sys.executable, "-m", "saeft_ray.results", f"{storage}/sweeps/small", QUERY, "--format", "csv"]
        answered = network.run(asked, 60, {**s3.environment, "PYTHONPATH": str(checkout)})
        assert list(csv.reader(answered.stdout.splitlines())) == [["method", "n"], ["mse", "10"]]

        assert network.processes("raylet") == 2
        ray(network, checkout, "down", "--yes", CONFIG, timeout=90)
        assert not network.processes("gcs_server")
        wait(lambda: not network.processes("raylet"), 180, lambda: "a worker still runs")
    wait(lambda: not processes_of(tmp_path), 30, lambda: processes_of(tmp_path))


def processes_of(folder):
    """Command lines of this machine that name `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:  # it ended meanwhile
            continue
    return [line for line in found if str(folder).encode() in line]


class S3(NamedTuple):
    endpoint: str
    bucket: str

    @property
    def environment(self):
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": s3_server.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": s3_server.SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def serve_s3(network, folder):
    """An S3 server on the laptop, where the hosts reach it."""
    (folder / "s3").mkdir()
    serve = [sys.executable, "-c", SERVE, str(folder / "s3"), network.laptop]
    command = network.command(serve, {"PYTHONPATH": str(Path(__file__).parent)})
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, "no S3 server"
            yield S3(*json.loads(line))
        finally:
            process.stdin.close()
            process.wait(timeout=30)


def prepare(checkout, network, s3, storage):
    """The user's part of cluster/onprem.yaml, and in the place of a download the environment of this test."""
    config = yaml.safe_load((checkout / CONFIG).read_text())
    head, *workers = network.addresses
    config["provider"] |= {"head_ip": head, "worker_ips": workers}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(network.key)}
    config["setup_commands"][:2] = install()
    (checkout / CONFIG).write_text(yaml.safe_dump(config))
    lines = [f"{name}={value}\n" for name, value in s3.environment.items()]
    (checkout / "cluster/s3.env").write_text("".join(lines))
    (checkout / "sweeps").mkdir()
    sweeps.file(checkout / "sweeps/small.yaml", storage, **SWEEP)


def install():
    """Commands that make ~/venv of the packages that are here already, and of the code that was copied."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    script = "#!$HOME/venv/bin/python\\nfrom ray.scripts.scripts import main\\nmain()\\n"
    return [
        f"{sys.executable} -m venv --without-pip {VENV}",
        f'printf "$HOME/checkout\\n{packages}\\n" > {VENV}/lib/{version}/site-packages/here.pth',
        f'printf "{script}" > {VENV}/bin/ray; chmod +x {VENV}/bin/ray',
    ]


def ray(network, checkout, *words, timeout):
    """`ray …` on the laptop, in the checkout; what it said. Fails the test if it failed."""
    environment = {"RAY_UP_enable_autoscaler_v2": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = network.run(["env", "-C", str(checkout), RAY, *words], timeout, environment)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def wait(condition, seconds, told):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.5)
