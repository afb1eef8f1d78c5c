"""A disk that is too small for what a sweep keeps is told before anything runs."""

from collections import namedtuple

import pytest

from saeft_ray import sweep
from saeft_ray.model import encoder
from saeft_ray.orchestration import room
from saeft_ray.orchestration.room import check_room, to_keep

import sweeps


@pytest.fixture
def disk(monkeypatch):
    def of(free):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(room.shutil, "disk_usage", lambda place: usage(10**12, 0, free))

    return of


def test_what_is_kept_are_artifacts_and_the_weights_of_the_confirm_phase(tmp_path):
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path, methods={"ft": {}}, confirm={"seeds": 3}))
    tower = encoder.bytes_of(plan.config.model)
    loaded = encoder.load(plan.config.model).clip.visual.parameters()
    assert tower == sum(parameter.numel() * parameter.element_size() for parameter in loaded)
    head = sum(artifact.bytes for artifact in plan.artifacts())
    assert to_keep(plan, store, ledger) == head + 3 * tower


def test_a_small_disk_is_told_by_the_plan_and_refused_by_the_run(tmp_path, disk, capsys):
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path / "runs"))
    disk(to_keep(plan, store, ledger))
    check_room(plan, store, ledger)
    disk(3000)
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs")
    assert sweep.main([file, "--plan"]) == 0
    assert "MB more; 3.0 kB are free there" in " ".join(capsys.readouterr().out.split())
    assert sweep.main([file, "--local"]) == 2
    said = capsys.readouterr().err
    assert "lies on a disk with 0.0 GB free, and this sweep keeps" in said
    assert not (tmp_path / "runs/artifacts").exists()


def test_of_a_remote_storage_nothing_is_known(s3_url, disk):
    plan, store, ledger = sweeps.opened(sweeps.config(s3_url))
    disk(0)
    check_room(plan, store, ledger)
