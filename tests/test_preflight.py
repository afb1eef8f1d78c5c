"""Preflight on a sweep that is fine, on the real S3 server; and each of its checks made to fail."""

import os

import pytest
import torch

from saeft_ray import preflight
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.storage.files import Files

import sweeps


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No Ray that runs on this machine is asked."""
    monkeypatch.setenv("RAY_ADDRESS", "local")


NAMES = [check.name for check in preflight.CHECKS]


def states(capsys, *arguments):
    """(exit status, state by check, all that was printed)."""
    status = preflight.main([*arguments, "--steps", "2"])
    said = capsys.readouterr().out
    found = {line[5:17].strip(): line[:5].strip() for line in said.splitlines() if line[:5].strip()}
    return status, found, said


def test_a_sweep_that_is_fine_on_s3(tmp_path, s3_url, capsys):
    search = {"trials": 3, "early_stopping": "asha"}
    train = {**sweeps.SMALL["train"], "epochs": 10}
    confirm = {"seeds": {"min": 5, "max": 20}}
    file = sweeps.file(tmp_path / "a.yaml", f"{s3_url}/saeft", search=search, train=train, confirm=confirm)
    status, found, said = states(capsys, file)
    assert found == dict.fromkeys(NAMES, "ok")
    assert status == 0
    for words in (
        "from env",
        "train 1,500",
        "fingerprint",
        "images per second: ft ",
        "sae_ft ",
        "CPU-hours",
        "GB kept",
    ):
        assert words in said
    assert "early stopping may save up to 74% of search" in said  # 1 + 1/2 + 2/4 + 4/8 + 2/16 of 10 epochs are run
    assert "saves 75% of its seeds in confirm" in said
    assert Files(s3_url).list() == ()  # and nothing is left


@pytest.fixture
def local(tmp_path):
    """Writes a sweep file of one method, stored in a folder."""

    def write(**sections):
        return sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **{"methods": {"ft": {}}, **sections})

    return write


def test_without_credentials(tmp_path, s3_url, monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    status, found, said = states(capsys, sweeps.file(tmp_path / "a.yaml", s3_url, methods={"ft": {}}))
    assert status == 1
    assert found == dict.fromkeys(NAMES, "ok") | {"credentials": "FAIL", "bucket": "skip", "ray": "skip"}
    assert "give this machine a role" in said


def test_with_a_bucket_that_is_not_there(tmp_path, s3_url, capsys):
    status, found, said = states(capsys, sweeps.file(tmp_path / "a.yaml", f"{s3_url}-not", methods={"ft": {}}))
    assert (status, found["bucket"]) == (1, "FAIL")
    assert "No such bucket" in said
    assert "create it or correct the URL" in said


def test_with_a_bucket_far_away(local, monkeypatch, capsys):
    monkeypatch.setattr(preflight, "SLOW", 0.0)
    status, found, said = states(capsys, local())
    assert (status, found["bucket"]) == (1, "FAIL")
    assert "use a bucket in the region of the machines" in said


def test_with_more_than_a_ray_of_ours_would_have(local, capsys):
    status, found, said = states(capsys, local(compute={"cpus": 4096}))
    assert (status, found["ray"]) == (1, "FAIL")
    assert "a trial needs 4096 CPUs and 0 GPUs on one machine" in said


def test_without_data(local, tmp_path, capsys):
    data = {"type": "folder", "train": str(tmp_path / "none"), "tests": {"T": {"path": str(tmp_path), "role": "id"}}}
    status, found, said = states(capsys, local(data=data))
    assert status == 1
    assert found == dict.fromkeys(NAMES, "ok") | {
        "data": "FAIL",
        **dict.fromkeys(("cue", "memory", "throughput", "cost"), "skip"),
    }
    assert str(tmp_path / "none") in said


def test_with_weights_of_another_architecture(local, tmp_path, capsys):
    torch.save({"text": torch.zeros(1)}, tmp_path / "other.pt")
    status, found, said = states(capsys, local(model={"arch": "digit-clip", "pretrained": str(tmp_path / "other.pt")}))
    assert (status, found["weights"], found["memory"]) == (1, "FAIL", "skip")
    assert "give weights of this architecture" in said


def test_with_weights_that_cannot_be_fetched(local, monkeypatch, capsys):
    def download(*_):
        raise ConnectionError("no way to the hub")

    monkeypatch.setattr("open_clip.pretrained.download_pretrained", download)
    model = {"arch": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}
    status, found, said = states(capsys, local(model=model))
    assert (status, found["weights"]) == (1, "FAIL")
    assert "no way to the hub" in said
    assert "give a file or URL of the weights" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_there_is_no_gpu_to_train_on(local, capsys):
    status, found, said = states(capsys, local(compute={"gpus": 1}))
    assert (status, found["memory"], found["cost"]) == (1, "FAIL", "skip")
    assert "torch sees no GPU here; run this where a trial would run" in said


def test_with_a_gpu_that_is_too_small(local, monkeypatch, capsys):
    def train(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(preflight.Rehearsal, "train", train)
    status, found, said = states(capsys, local())
    assert (status, found["memory"]) == (1, "FAIL")
    assert "ft: a step of train.batch_size = 128" in said
    assert "compute.accumulate" in said


def test_with_images_that_cannot_be_read_in_time(local, monkeypatch, capsys):
    def correct(*_):
        raise TimeoutError("images/7.jpg")

    monkeypatch.setattr(preflight, "correct", correct)
    status, found, said = states(capsys, local())
    assert status == 1
    assert found == dict.fromkeys(NAMES, "ok") | {"throughput": "FAIL", "cost": "skip"}
    assert "TimeoutError: images/7.jpg" in said


def test_a_mistake_in_the_sweep_file(tmp_path, capsys):
    assert preflight.main([sweeps.file(tmp_path / "a.yaml", tmp_path, search={"trails": 3})]) == 2
    assert "did you mean 'trials'" in capsys.readouterr().err


def test_hours_are_steps_and_evaluated_images():
    """By hand, for 3 methods that train, at 0.5 s per step and 100 evaluated images per second."""
    config = sweeps.config("runs", methods={"ft": {}, "mse": {"lambda_mse": {"low": 1, "high": 9}}})
    plan = Plan(config, find_facts(config))
    rehearsal = preflight.Rehearsal(config, 1)
    rehearsal.seconds, rehearsal.images_a_second = {"ft": 0.4, "mse": 0.6}, 100.0
    found = {name: (seconds, kept) for name, seconds, kept in preflight._phases(rehearsal)}
    sizes = plan.facts.sizes
    assert plan.steps == 1500 // 128
    assert found["artifacts"] == (sizes["train"] / 100, sum(artifact.bytes for artifact in plan.artifacts()))
    assert found["search"] == (pytest.approx(3 * (11 * 0.5 + sizes["selection"] / 100)), 0)
    assert found["rerank"] == (pytest.approx(2 * (11 * 0.5 + sizes["selection"] / 100)), 0)
    seconds, kept = found["confirm"]
    assert seconds == pytest.approx(4 * (11 * 0.5 + (sum(sizes.values()) - sizes["train"]) / 100))
    weights = sum(p.numel() for p in rehearsal.classifier().parameters())
    assert kept == 4 * 4 * weights


def test_flyp_is_said_not_to_be_tried(local, capsys):
    status, _, said = states(capsys, local(methods={"ft": {}, "flyp": {}}))
    assert status == 0
    assert "not tried: flyp" in said


def test_a_cue_in_the_training_images_is_told(local, capsys):
    said = [states(capsys, local(data={"type": "digit_world", "cue": cue}))[2] for cue in (0.8, 0.0)]
    assert "5 groups of 1,000 training images" in said[0]
    assert "a feature that the classes do not need tells it. Fine-tuning can" in said[0]
    assert "no feature that the classes do not need tells it" in said[1]


def test_penalties_on_predictions_are_tried(local, capsys):
    methods = {"ft": {}, "lwf": {"lambda_lwf": 1}, "group_covariance": {"lambda_group": 1}}
    status, _, said = states(capsys, local(methods=methods))
    assert status == 0
    assert "group_covariance " in said


def test_several_workers_rehearse_one_share_of_the_batch():
    config = sweeps.config("runs", methods={"ft": {}}, compute={"workers": 4, "loaders": 0})
    worker = preflight.Rehearsal(config, 1).worker
    assert (worker.world_size, worker.rank) == (4, 0)
