"""One driver a sweep; a dead one is succeeded, a zombie is stopped."""

import os
import socket
import subprocess
import sys
import threading

import pytest
from s3_faults import Faulty

from saeft_ray import sweep
from saeft_ray.errors import Taken
from saeft_ray.orchestration.signals import StopSignals, interrupt
from saeft_ray.records.lease import Lease, Owner
from saeft_ray.storage.checksum import to_json
from saeft_ray.storage.files import Files

import sweeps


@pytest.fixture(params=["local", "s3"])
def files(request, tmp_path):
    return Files(str(tmp_path)) if request.param == "local" else Files(request.getfixturevalue("s3_url"))


def stranger(files, token, host="elsewhere", process=1, beat=b"1"):
    """A lease that another machine took."""
    owner = Owner(host=host, process=process, since="2026-01-01T00:00:00+00:00")
    files.write(f"s/leases/{token:06d}.beat", beat)
    files.write_once(f"s/leases/{token:06d}.json", to_json(owner.model_dump()))


def test_the_second_is_told_who_runs_it_and_since_when(files):
    with Lease(files, "s", beat=0.1) as first:
        assert first.token == 1
        with pytest.raises(Taken, match=r"process \d+ on .* runs this sweep since 20\d\d-"), Lease(files, "s"):
            pass
    with Lease(files, "s") as next_one:  # the first has left
        assert next_one.token == 2


def test_a_process_that_is_gone_from_this_machine_is_succeeded_at_once(tmp_path):
    code = (
        "import os; from saeft_ray.storage.files import Files; from saeft_ray.records.lease import Lease\n"
        f"Lease(Files({str(tmp_path)!r}), 's').__enter__(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with Lease(Files(str(tmp_path)), "s") as mine:
        assert mine.token == 2


def test_a_stranger_without_a_beat_is_succeeded_and_one_with_it_is_not(files):
    stranger(files, 1)
    with Lease(files, "s", beat=0.05, patience=0.3) as mine:
        assert mine.token == 2
    stranger(files, 3)
    stop = threading.Event()

    def live():
        count = 0
        while not stop.wait(0.02):
            count += 1
            files.write("s/leases/000003.beat", str(count).encode())

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(Taken, match="process 1 on elsewhere"), Lease(files, "s", beat=0.05, patience=2.0):
            pass
    finally:
        stop.set()
        thread.join()


def test_a_zombie_is_interrupted_when_it_was_succeeded(files):
    lease = Lease(files, "s", beat=0.05, on_lost=interrupt)

    def hold():
        with StopSignals(), lease:  # as a sweep does, and whatever the shell has done with SIGINT
            stranger(files, 2)
            threading.Event().wait(20)

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert lease.lost
    assert files.read_bytes("s/leases/000002.beat") == b"1"  # the zombie touched nothing of its successor's


DAMAGES = {
    "flip": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "zero": lambda data: bytes(len(data)),
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "other": lambda data: b'{"a": 1}',
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_lease_files_let_nobody_in_beside_the_holder_and_nobody_wait_for_the_dead(files, how, caplog):
    names = ("s/leases/000001.json", "s/leases/000001.beat")
    with Lease(files, "s", beat=0.1) as holder:
        for hurt in (names[:1], names[1:], names):
            for name in hurt:
                files.write(name, DAMAGES[how](files.read_bytes(name)))
            with pytest.raises(Taken, match="runs this sweep since"), Lease(files, "s", patience=4.0):
                pass
    assert not holder.lost
    for name in names:
        files.write(name, DAMAGES[how](files.read_bytes(name)))
    with Lease(files, "s", patience=0.3) as next_one:
        assert next_one.token == 2
    assert f"{files.url}/s/leases/000001.json: damaged" in caplog.text


def contest(url, contenders=8):
    """All want the same sweep at once: the tokens of those that got it, and what the others were told."""
    won, told = [], []
    together, hold = threading.Barrier(contenders), threading.Event()

    def contend():
        files = Files(url)
        files.list("s")  # connected
        together.wait()
        try:
            with Lease(files, "s", beat=0.1) as lease:
                won.append(lease.token)
                hold.wait(60)
                assert not lease.lost
        except Taken as error:
            told.append(str(error))
        if len(won) + len(told) == contenders:
            hold.set()

    threads = [threading.Thread(target=contend) for _ in range(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won, told


def test_of_many_at_once_one_wins(files):
    won, told = contest(files.url)
    assert (won, len(told)) == ([1], 7)


def test_of_many_at_once_one_wins_where_the_server_ignores_the_condition(s3, s3_url, monkeypatch):
    with Faulty(s3.endpoint, rate=0.0, conditions="ignored") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        won, told = contest(s3_url)
        assert proxy.seen["ignored"] >= 9, "several must have believed that the lease was theirs"
        assert (len(won), len(told)) == (1, 7)
        assert all(f"process {os.getpid()} on {socket.gethostname()} runs this sweep since 20" in line for line in told)


@pytest.mark.slow
def test_who_wrote_too_late_stands_back_and_the_holder_puts_its_name_back(s3, s3_url, monkeypatch):
    with Faulty(s3.endpoint, rate=0.0, conditions="ignored") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        holder, late = Lease(Files(s3_url), "s", beat=0.1, moment=5.0), Files(s3_url)
        holder._me = Owner(host="elsewhere", process=7, since="2026-01-01T00:00:00+00:00")

        def write_once(path, data):
            """As where the machine sleeps between the look and the put: there was nothing, and the put succeeds."""
            holder.__enter__()
            late.write(path, data)

        monkeypatch.setattr(late, "write_once", write_once)
        with pytest.raises(Taken, match="process 7 on elsewhere"), Lease(late, "s", beat=0.1, moment=5.0):
            pass
        holder.__exit__(None, None, None)
        assert not holder.lost
        assert b"elsewhere" in late.read_bytes("s/leases/000001.json")


def test_a_server_that_refuses_the_condition_is_no_store(s3, s3_url, monkeypatch, tmp_path, capsys):
    with Faulty(s3.endpoint, rate=0.0, conditions="refused") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        file = sweeps.file(tmp_path / "a.yaml", s3_url)
        assert sweep.main([file, "--local", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "cannot be used as a store" in said
    assert "not implemented" in said
    assert Files(s3_url, endpoint=s3.endpoint).list() == ()
