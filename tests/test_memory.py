"""A trial that takes too much memory is tried twice and stands in the table; the others go on."""

import os
import subprocess
import sys

import pytest

from saeft_ray.orchestration.failures import ATTEMPTS
from saeft_ray.records.read import read_rows

import sweeps

pytestmark = pytest.mark.slow
SECTIONS = {"methods": {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": 300}}, "confirm": {"seeds": 1}}


def hungry(log, limited):
    """What each worker runs at its start: it notes every trial, and those of mse take more memory than there is."""

    def hook():
        import resource
        from pathlib import Path

        from saeft_ray.orchestration import trial

        run = trial.run

        def noted(plan, spec, *arguments):
            with Path(log).open("a") as file:
                file.write(f"{spec.method}\n")
            if limited and spec.method == "mse":
                # As a container's limit would, this leaves the process little more than it has.
                before = resource.getrlimit(resource.RLIMIT_AS)
                held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (held + (256 << 20), before[1]))
                try:
                    bytearray(1 << 30)
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, before)
            yield from run(plan, spec, *arguments)

        trial.run = noted

    return hook


def sweep_on_ray(file, log, by):
    """In a process of its own, since its Ray has settings of its own."""
    import ray

    from saeft_ray import sweep
    from saeft_ray.config.sweep_file import load
    from saeft_ray.on_ray.runner import SETTINGS
    from saeft_ray.orchestration import artifacts
    from saeft_ray.training.worker import Worker

    plan, store, _ = sweeps.opened(load(file))
    for artifact in plan.artifacts():  # in peace
        artifacts.ensure(artifact, plan, store, Worker().device)
    # The machine counts as full all the time, and whoever works on it is ended.
    full = {"memory_usage_threshold": 0.001, "memory_monitor_refresh_ms": 100}
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={
            "env_vars": {**SETTINGS, "OMP_NUM_THREADS": "1"},
            "worker_process_setup_hook": hungry(log, limited=by == "its own allocator"),
        },
        _system_config=full if by == "the monitor of Ray" else {},
    )
    return sweep.main([file, "--quiet"])


@pytest.mark.parametrize(("by", "words"), [("its own allocator", "MemoryError"), ("the monitor of Ray", "memory")])
def test_a_trial_without_memory_is_tried_twice_and_stands_in_the_table_while_the_others_go_on(tmp_path, by, words):
    file, log = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **SECTIONS), tmp_path / "log"
    done = subprocess.run(
        [sys.executable, __file__, file, log, by], env=dict(os.environ), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stderr
    rows = read_rows(str(tmp_path / "runs/sweeps/small")).to_pylist()
    (row,) = [row for row in rows if row["method"] == "mse"]
    assert row["status"] == "error"
    assert words in row["error"]
    assert f"{row['trial']}: memory, 2 times" in done.stderr
    if by == "its own allocator":
        assert {row["method"] for row in rows if row["status"] == "ok"} == {"zero_shot", "ft"}
        assert log.read_text().split().count("mse") == ATTEMPTS["memory"]


if __name__ == "__main__":
    sys.exit(sweep_on_ray(*sys.argv[1:]))
