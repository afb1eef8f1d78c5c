"""A Ray whose machines do not share the storage is refused before anything is built; later machines look themselves."""

import shlex
import sys
import time
from pathlib import Path

import pytest

from saeft_ray.errors import Unseen, UserError
from saeft_ray.on_ray import shared
from saeft_ray.on_ray.cluster import Machine
from saeft_ray.on_ray.shared import check_shared, marked
from saeft_ray.storage.files import Files

import hosts
import sweeps

ROOT = Path(__file__).parent.parent
MACHINES = [Machine(f"node{number}", f"host{number} (10.0.0.{number})", 2.0, 0.0) for number in (1, 2, 3)]


@pytest.fixture
def disks(tmp_path, monkeypatch):
    """The storage of each machine; a test may give one another. They look in this process, not in tasks of Ray."""
    seen = {machine.id: str(tmp_path / "shared") for machine in MACHINES}

    def asked(mark, machines):
        return {one.name: shared._look(mark._replace(url=seen[one.id]), one.id) for one in machines}

    monkeypatch.setattr(shared, "_asked", asked)
    monkeypatch.setattr(shared, "_LATE", 0.0)
    monkeypatch.setattr(shared, "_seen", set())
    return seen


def files_below(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_one_storage_for_all_passes_and_nothing_stays(disks, tmp_path):
    with marked(Files(str(tmp_path / "shared")), "sweeps/a/leases") as mark:
        check_shared(mark, MACHINES)
        mark.check()
    assert not files_below(tmp_path)


def test_machines_with_disks_of_their_own_are_named_and_get_no_files(disks, tmp_path):
    disks["node2"], disks["node3"] = str(tmp_path / "two"), str(tmp_path / "three")
    (tmp_path / "three").write_text("a file where there should be a folder")
    with (
        marked(Files(str(tmp_path / "shared")), "sweeps/a/leases") as mark,
        pytest.raises(UserError, match=r"host2 .*does not hold") as caught,
    ):
        check_shared(mark, MACHINES)
    assert "host3 " in str(caught.value)
    assert "host1 " not in str(caught.value)
    assert "s3://BUCKET" in str(caught.value)
    assert files_below(tmp_path) == [tmp_path / "three"]


def test_a_machine_that_reads_but_whose_writing_goes_elsewhere_is_named(disks, tmp_path, monkeypatch):
    look = shared._look

    def losing(mark, node):
        said = look(mark, node)
        if node == "node2":
            mark.files.delete(shared._answer(mark, node))
        return said

    monkeypatch.setattr(shared, "_look", losing)
    with (
        marked(Files(str(tmp_path / "shared")), "sweeps/a/leases") as mark,
        pytest.raises(UserError, match=r"host2 .*writes there what the driver does not see"),
    ):
        check_shared(mark, MACHINES)
    assert not files_below(tmp_path)


def test_a_machine_that_comes_later_looks_itself(disks, tmp_path):
    with marked(Files(str(tmp_path / "shared")), "sweeps/a/leases") as mark:
        with pytest.raises(Unseen, match="All machines must see one storage"):
            mark._replace(url=str(tmp_path / "elsewhere")).check()
        mark.check()


@pytest.mark.slow
@pytest.mark.skipif(hosts.missing() is not None, reason=str(hosts.missing()))
def test_a_sweep_on_two_hosts_with_separate_disks_is_refused_within_a_minute(tmp_path):
    file = sweeps.file(tmp_path / "small.yaml", "/root/runs", methods={"ft": {}}, confirm={"seeds": 1})
    folders = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    with hosts.Hosts(tmp_path, 2, folders) as network:
        head, worker = network.addresses
        start = f"{sys.prefix}/bin/ray start --disable-usage-stats --num-cpus 1 --node-ip-address"
        assert on(network, head, f"{start} {head} --head --port 6379 --include-dashboard=false")[0] == 0
        assert on(network, worker, f"{start} {worker} --address {head}:6379")[0] == 0
        began = time.monotonic()
        status, said = on(network, head, f"{sys.executable} -m saeft_ray.sweep {shlex.quote(file)}")
        assert time.monotonic() - began < 120  # with its imports, on a machine that is busy
        assert status == 2, said
        assert "host2 (10.77.0.2): does not hold what the driver wrote there" in said
        assert "Traceback" not in said
        assert "artifacts" not in on(network, head, "ls -R /root/runs")[1]


def on(network, address, command):
    """Status and output of `command` on a host."""
    settings = f"env PYTHONPATH={ROOT} RAY_AUTH_MODE=disabled OMP_NUM_THREADS=1"
    options = ["-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
    done = network.run(["ssh", "-i", str(network.key), *options, f"root@{address}", f"{settings} {command}"], 300)
    return done.returncode, done.stdout
