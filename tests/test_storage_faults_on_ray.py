"""The same faults where trials run in processes of Ray's: they pass by, a refusal stops all, and it goes on."""

import os
import subprocess
import sys
import time

import pytest
from s3_faults import PASSING, Faulty

from saeft_ray.store import Store
from saeft_ray.table import read_rows

import sweeps

SECTIONS = {
    "methods": {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}},
    "search": {"trials": 2},
    "rerank": {"top": 1, "seeds": 1},
    "confirm": {"seeds": 2},
}


def comparable(url):
    rows = [row for row in read_rows(url).to_pylist() if row["metric"] != "seconds"]
    return sorted(str(row) for row in rows)


@pytest.mark.slow
def test_a_sweep_on_ray_over_a_faulty_store_that_refuses_for_a_while_ends_as_a_quiet_one(
    s3, s3_url, tmp_path, monkeypatch
):
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    _, quiet, _ = sweeps.run_here(sweeps.config(tmp_path / "quiet", **SECTIONS, compute={"concurrent": 1}))
    compute = {"checkpoint_minutes": 0, "concurrent": 1}
    file = sweeps.file(tmp_path / "a.yaml", s3_url, **SECTIONS, compute=compute)
    command = [sys.executable, "-m", "saeft_ray.sweep", file, "--quiet"]
    with Faulty(s3.endpoint, rate=0.15) as proxy:
        environment = {**os.environ, "AWS_ENDPOINT_URL": proxy.endpoint, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
        driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            sound, deadline = Store(s3_url, endpoint=s3.endpoint), time.monotonic() + 300
            while not any("/trials/confirm-ft" in path for path in sound.list("sweeps/small/trials")):
                assert driver.poll() is None, driver.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            proxy.kinds, proxy.rate = ("AccessDenied",), 1.0
            began = time.monotonic()
            _, said = driver.communicate(timeout=90)
        finally:
            driver.kill()
        assert driver.returncode == 1
        assert time.monotonic() - began < 60
        assert "allow them to list, get, put and delete" in said
        assert "the same command goes on once" in said.lower()
        proxy.kinds, proxy.rate = PASSING, 0.15
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
    assert proxy.faults >= 0.1 * sum(proxy.seen.values())
    assert comparable(f"{s3_url}/sweeps/small") == comparable(quiet.url)
