"""Mirrors as people see them: the servers of TensorBoard, Optuna and MLflow on loopback show what was copied."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from saeft_ray import mirror, mirrors

from mirrored import Running, free_port

pytestmark = pytest.mark.slow
START = 240.0  # seconds for a server on a busy machine


@pytest.fixture
def sweep(tmp_path):
    return Running(tmp_path)


@contextmanager
def serving(folder, port, *command, **environment):
    """A server in a process of its own, which ends with the context."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            stdout=log, stderr=log, cwd=folder, env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
    try:
        eventually(lambda: process.poll() is None and _answers(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _answers(port):
    """Whether something listens there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60):
        return True


def asked(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_tensorboard_shows_scalars_and_hparams(sweep, tmp_path):
    pytest.importorskip("tensorboard")
    assert mirror.main([sweep.url, "--to", f"tensorboard:{tmp_path}/tb"]) == 0
    port = free_port()
    command = (
        "tensorboard",
        "--logdir",
        str(tmp_path / "tb"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--load_fast=false",
    )
    with serving(tmp_path, port, *command) as url:
        run = f"small/{sweep.running.id}"
        read = f"{url}/data/plugin/scalars/tags"
        tags = eventually(lambda: run in (found := asked(read)) and found)
        assert "loss.cross_entropy" in tags[run]
        points = asked(f"{url}/data/plugin/scalars/scalars?run={run.replace('/', '%2F')}&tag=selection")
        assert [point[1] for point in points] == [1, 2]
        every = {"allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"]}
        groups = asked(f"{url}/data/plugin/hparams/session_groups", {**every, "startIndex": 0, "sliceSize": 100})
        values = {group["name"]: group["hparams"] for group in groups["sessionGroups"]}
        assert values[f"search-{sweep.ok.configuration}"]["lambda_mse"] == 10


def eventually(found):
    """What `found` returns once it is true; a server reads its files a while after it answers."""
    end = time.monotonic() + START
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.5)
    return value


def test_optuna_dashboard_opens_the_studies(sweep, tmp_path):
    pytest.importorskip("optuna_dashboard")
    database, port = f"sqlite:///{tmp_path}/optuna.db", free_port()
    assert mirror.main([sweep.url, "--to", f"optuna:{database}"]) == 0
    with serving(tmp_path, port, "optuna-dashboard", "--host", "127.0.0.1", "--port", str(port), database) as url:
        (study,) = asked(f"{url}/api/studies")["study_summaries"]
        trials = asked(f"{url}/api/studies/{study['study_id']}?after=0")["trials"]
        assert study["study_name"] == "small/mse"
        states = ["Complete", "Pruned", "Fail", "Running", "Waiting", "Waiting"]
        assert [trial["state"] for trial in trials] == states
        assert trials[0]["params"][0]["param_external_value"] == "10.0"


def test_an_mlflow_server_that_is_down_loses_nothing(sweep, tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlflow")
    pytest.importorskip("flask_cors")
    port = free_port()
    target = f"mlflow:http://127.0.0.1:{port}"
    monkeypatch.setattr(mirrors, "PATIENCE", 1.0)
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    places = ("--backend-store-uri", f"sqlite:///{tmp_path}/ml.db", "--artifacts-destination", str(tmp_path / "kept"))
    with serving(tmp_path, port, *command, *places, **quiet):
        assert mirror.main([sweep.url, "--to", target]) == 0
    sweep.finish()
    assert mirror.main([sweep.url, "--to", target]) == 1
    assert "does not answer" in capsys.readouterr().err
    monkeypatch.setattr(mirrors, "PATIENCE", 60.0)
    with serving(tmp_path, port, *command, *places, **quiet):
        assert mirror.main([sweep.url, "--to", target]) == 0
        assert "2 trials and 7 epochs added" in capsys.readouterr().out
        assert mirror.main([sweep.url, "--to", target]) == 0
        assert "nothing new" in capsys.readouterr().out
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=target.partition(":")[2])
        (one,) = client.search_experiments(filter_string="name = 'small'")
        runs = {run.info.run_name: run for run in client.search_runs([one.experiment_id])}
        assert len(runs) == 8
        history = client.get_metric_history(runs[sweep.running.id].info.run_id, "loss.cross_entropy")
        assert [point.step for point in history] == [1, 2, 3]
        (page,) = client.list_artifacts(runs["report"].info.run_id, "report")
        assert page.path == "report/index.html"
