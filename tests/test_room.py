"""What a plan sees of the storage: a disk that is too small, and a server that does not answer."""

import time
from collections import namedtuple

import pytest
import yaml
from rich.console import Console

from saeft_ray import sweep
from saeft_ray.config.sweep_file import parse
from saeft_ray.model import encoder
from saeft_ray.orchestration import room, show_plan
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.room import check_room, to_keep
from saeft_ray.storage.retry import Waits

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


def test_a_plan_asks_a_dead_storage_in_haste(monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-key")
    monkeypatch.setattr(show_plan, "HASTY", Waits(0.3, 0.3))
    asked = []
    monkeypatch.setattr(show_plan.earlier, "opened_before", lambda *_: asked.append(1))
    dead = parse(yaml.safe_dump({**sweeps.SMALL, "storage": {"url": "s3://b/x", "endpoint": "http://127.0.0.1:1"}}))
    began = time.monotonic()
    show_plan.show(Plan(dead, find_facts(dead)), Console())
    assert time.monotonic() - began < 30
    assert "s3://b/x could not be read: " in capsys.readouterr().out
    assert not asked, "it is asked once"
