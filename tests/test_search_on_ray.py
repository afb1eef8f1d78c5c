"""The same search on a real Ray with four slots: the table of one process, early stopping included."""

import pytest

from saeft_ray.on_ray.runner import SETTINGS, RayRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.progress import Quiet

import sweeps

OPEN = {"low": 1, "high": 1e6}


@pytest.mark.slow
def test_four_slots_of_ray_give_the_table_of_one_process(tmp_path, caplog):
    import ray

    sections = {
        "methods": {"mse": {"lambda_mse": OPEN}, "l1": {"lambda_l1": OPEN}},
        "train": {"epochs": 2, "batch_size": 256, "lr": 1e-3},
        "search": {"trials": 6, "early_stopping": "asha"},
        "rerank": {"top": 1, "seeds": 1},
        "confirm": {"seeds": 1},
        "report": {"baseline": "mse"},
    }
    _, here, _ = sweeps.run_here(sweeps.config(tmp_path / "here", **sections))
    plan, store, there = sweeps.opened(sweeps.config(tmp_path / "there", **sections))
    environment = {**SETTINGS, "OMP_NUM_THREADS": "1"}
    ray.init("local", num_cpus=6, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment})
    try:
        with RayRunner(plan, store, there) as runner:
            run_phases(plan, there, runner, Quiet())
    finally:
        ray.shutdown()
    table = sweeps.comparable(here.url)
    assert {row["status"] for row in table if row["phase"] == "search"} == {"ok", "stopped"}
    assert sweeps.comparable(there.url) == table
    assert "search: 6 trials fit here at once, 4 may run: 2 of each method (search.lag)" in caplog.text
