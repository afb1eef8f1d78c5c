"""Which Ray a sweep joins, what it must have, and what is said while it has not."""

import logging
import os
import re
import socket
import time
from pathlib import Path

import pytest

from saeft_ray import sweep
from saeft_ray.errors import Unfinished, UserError
from saeft_ray.on_ray import address, cluster, internals, runner
from saeft_ray.on_ray.address import Found, find
from saeft_ray.on_ray.cluster import Cluster, Machine, Waiting, check_room, shortage
from saeft_ray.settings import Compute

import sweeps
from s3_server import free_ports

SMALL = Machine("a", "one (10.0.0.1)", 2.0, 0.0)
LARGE = Machine("b", "two (10.0.0.2)", 8.0, 1.0)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A folder of Ray in which no other Ray of this machine left anything, and no process of one in sight."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(address, "_raylets", lambda: [])
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray/ray_current_cluster"


@pytest.fixture
def answering(monkeypatch):
    """The addresses at which a Ray answers."""
    there = set()
    monkeypatch.setattr(address, "_silent", lambda each: "" if each in there else "Connection refused")
    return there


def raylet(at, owner=None, by_ray_start=True):
    return address._Raylet(at, os.getuid() if owner is None else owner, by_ray_start)


def test_the_ray_of_this_user_is_joined(own_folder, answering):
    assert find(None) == Found(None)
    own_folder.write_text("10.0.0.1:6379")
    answering.add("10.0.0.1:6379")
    assert find(None) == find("auto") == find("10.0.0.1:6379") == Found("10.0.0.1:6379")
    assert find("local") == Found(None)


def test_a_setting_counts_before_the_environment(own_folder, answering, monkeypatch):
    answering |= {"10.0.0.1:1", "10.0.0.1:2"}
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:2")
    assert find("10.0.0.1:1").address == "10.0.0.1:1"
    assert find(None).address == "10.0.0.1:2"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert find(None).address is None


def test_a_stale_file_joins_nobody(own_folder, answering, monkeypatch):
    own_folder.write_text("10.0.0.1:6379")
    answering.add("10.0.0.1:6380")
    monkeypatch.setattr(address, "_raylets", lambda: [raylet("10.0.0.1:6380", os.getuid() + 1)])
    found = find(None)
    assert found.address is None
    assert "names 10.0.0.1:6379, where no Ray answers" in found.aside
    with pytest.raises(UserError, match=r"RAY_ADDRESS: auto|compute.address: auto"):
        find("auto")


@pytest.mark.parametrize("whose", ["the file", "the process on the port that the file names"])
def test_another_users_ray_is_joined_only_where_it_is_named(own_folder, answering, monkeypatch, whose):
    own_folder.write_text("10.0.0.1:6379")
    answering.add("10.0.0.1:6379")
    if whose == "the file":
        monkeypatch.setattr(os, "getuid", lambda: own_folder.stat().st_uid + 1)
    else:
        monkeypatch.setattr(address, "_raylets", lambda: [raylet("10.0.0.1:6379", os.getuid() + 1)])
    found = find(None)
    assert found.address is None
    assert "another user at 10.0.0.1:6379" in found.aside
    assert find("10.0.0.1:6379").address == "10.0.0.1:6379"


@pytest.mark.parametrize(
    ("running", "joined"),
    [
        ([raylet("10.0.0.1:1")], "10.0.0.1:1"),  # `ray start --temp-dir`
        ([raylet("10.0.0.1:1"), raylet("10.0.0.1:1")], "10.0.0.1:1"),  # two machines of it are here
        ([raylet("10.0.0.1:1"), raylet("10.0.0.1:2")], None),
        ([raylet("10.0.0.1:1", by_ray_start=False)], None),  # of a notebook
        ([raylet("10.0.0.1:1", owner=os.getuid() + 1)], None),
        ([raylet("10.0.0.1:3")], None),  # it does not answer
    ],
)
def test_without_a_file_the_only_one_that_this_user_started_is_joined(
    own_folder, answering, monkeypatch, running, joined
):
    answering |= {"10.0.0.1:1", "10.0.0.1:2"}
    monkeypatch.setattr(address, "_raylets", lambda: running)
    assert find(None).address == joined


def test_processes_are_told_by_what_they_were_started_with(tmp_path, monkeypatch):
    """Of this machine's true processes none may stop the search."""
    list(address._raylets())
    (tmp_path / "ray_current_cluster").write_text("10.0.0.1:1\n")
    assert address._holds(internals.address_file(str(tmp_path)), "10.0.0.1:1")
    assert not address._holds(internals.address_file(str(tmp_path / "none")), "10.0.0.1:1")


@pytest.mark.parametrize(
    "named",
    ["http://127.0.0.1:8265", "ray://127.0.0.1:10001", "localhost", "10.0.0.1:", ":6379", "10.0.0.1:70000", "a b:6379"],
)
def test_what_is_no_address_is_one_line(named):
    with pytest.raises(UserError, match=r"^compute\.address: .*") as caught:
        find(named)
    assert "\n" not in str(caught.value)


def test_a_dead_address_is_told_in_one_line_and_takes_no_lease(tmp_path, monkeypatch, capsys):
    named = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("RAY_ADDRESS", named)
    began = time.monotonic()
    assert sweep.main([sweeps.file(tmp_path / "a.yaml", tmp_path / "runs"), "--quiet"]) == 2
    assert time.monotonic() - began < 30
    said = capsys.readouterr().err
    assert f"RAY_ADDRESS: no Ray answers at {named}" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_what_listens_but_is_no_ray_is_told(monkeypatch):
    monkeypatch.setattr(address, "_HEALTH", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        named = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Ray answers at {named}"):
            find(named)


# What it must have ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compute", "there", "words"),
    [
        ({"cpus": 2}, [SMALL], ""),
        ({"cpus": 64}, [SMALL], "needs 64 CPUs and 0 GPUs .*there is one machine with 2 CPUs and 0 GPUs"),
        ({"gpus": 1}, [SMALL], "needs 1 CPU and 1 GPU .*2 CPUs and 0 GPUs"),
        ({"gpus": 0.5, "workers": 2}, [LARGE], ""),
        ({"workers": 2, "cpus": 2}, [SMALL], "for each of 2 workers"),
        ({"workers": 5, "cpus": 2}, [SMALL, LARGE], ""),
        ({"workers": 6, "cpus": 2}, [SMALL, LARGE], "2 machines with 10 CPUs, 1 GPU in all"),
        ({"cpus": 10}, [SMALL, LARGE], "at most 8 CPUs and 1 GPU on one"),  # together they have 10
        ({"cpus": 1}, [], "has no machine"),
    ],
)
def test_what_is_short(compute, there, words):
    found = shortage(Compute(**compute), there)
    assert bool(found) == bool(words)
    assert re.search(words, found)


@pytest.fixture
def has(monkeypatch):
    """A cluster of one small machine; whether it may grow, and how far."""
    facts = {"grows": False, "most": {}}
    monkeypatch.setattr(cluster, "machines", lambda: (SMALL,))
    monkeypatch.setattr(internals, "may_grow", lambda: facts["grows"])
    monkeypatch.setattr(internals, "largest_cluster", lambda: facts["most"])
    return facts


def test_more_than_there_is_is_an_error_where_nothing_can_come(has):
    check_room(Compute(cpus=2))
    with pytest.raises(UserError, match=r"needs 1 CPU and 1 GPU .*no autoscaler"):
        check_room(Compute(gpus=1))


def test_more_than_this_machine_has_is_an_error_before_a_ray_of_ours_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", compute={"workers": 2, "cpus": 4096})
    assert sweep.main([file, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "needs 4096 CPUs and 0 GPUs on one machine for each of 2 workers" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_cluster_that_may_grow_is_waited_for_as_far_as_it_may(has, caplog):
    has |= {"grows": True}
    check_room(Compute(gpus=1))
    has |= {"most": {"CPU": 64, "GPU": 1}}
    check_room(Compute(gpus=1))
    with pytest.raises(UserError, match="may grow to 64 CPUs and 1 GPU"):
        check_room(Compute(gpus=1, workers=2))


def test_what_is_waited_for_is_said_each_minute(has, caplog):
    with caplog.at_level(logging.WARNING):
        often = Waiting(Compute(gpus=1), every=0.0)
        often.look()
        often.look()
        seldom = Waiting(Compute(gpus=1), every=60.0)
        seldom.look()
        seldom.look()
        Waiting(Compute()).look()
    assert [record.getMessage()[:20] for record in caplog.records] == ["waiting for machines"] * 3
    assert "1 GPU" in caplog.text


def test_a_sweep_says_which_ray_it_uses():
    assert str(Cluster(None, (SMALL,))) == "started its own on this machine (2 CPUs, 0 GPUs)"
    joined = Cluster("10.0.0.1:6379", (SMALL, LARGE), "aside")
    assert str(joined) == "joined the cluster at 10.0.0.1:6379 (2 nodes, 10 CPUs, 1 GPU); aside"
    assert joined.record()["nodes"] == [
        {"name": SMALL.name, "cpus": 2.0, "gpus": 0.0},
        {"name": LARGE.name, "cpus": 8.0, "gpus": 1.0},
    ]


@pytest.mark.parametrize("name", ["a" * 60, "é"])
def test_where_sockets_cannot_lie_a_ray_of_our_own_lies_elsewhere(tmp_path, monkeypatch, name):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / name))
    with runner._session_folder() as folder:
        assert folder.isascii()
        assert len(f"{folder}/session_2026-11-26_23-59-59_999999_4194304/sockets/plasma_store") <= 107
        assert Path(folder).is_dir()
    assert not Path(folder).exists()


def test_a_ray_that_does_not_start_is_one_line(monkeypatch):
    def init(**_):
        raise Exception("The current node timed out during startup.\nMore words")

    monkeypatch.setattr(runner.ray, "init", init)
    with pytest.raises(Unfinished) as caught, runner.connection(Compute(), Found(None)):
        pass
    assert str(caught.value) == "Ray could not be started here: The current node timed out during startup."


def test_ray_s_usual_folder_is_kept_where_it_serves(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    with runner._session_folder() as folder:
        assert folder == "/tmp/ray"
