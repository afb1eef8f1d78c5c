"""One driver a sweep; a dead one is succeeded, a zombie is stopped."""

import subprocess
import sys
import threading

import pytest

from saeft_ray.files import Files
from saeft_ray.lease import Lease, Owner, Taken


@pytest.fixture(params=["local", "s3"])
def files(request, tmp_path):
    return Files(str(tmp_path)) if request.param == "local" else Files(request.getfixturevalue("s3_url"))


def stranger(files, token, host="elsewhere", process=1, beat=b"1"):
    """A lease that another machine took."""
    owner = Owner(host=host, process=process, since="2026-01-01T00:00:00+00:00")
    files.write_once(f"s/leases/{token:06d}.json", owner.model_dump_json().encode())
    files.write(f"s/leases/{token:06d}.beat", beat)


def test_the_second_is_told_who_runs_it_and_since_when(files):
    with Lease(files, "s", beat=0.1) as first:
        assert first.token == 1
        with pytest.raises(Taken, match=r"process \d+ on .* runs this sweep since 20\d\d-"), Lease(files, "s"):
            pass
    with Lease(files, "s") as next_one:  # the first has left
        assert next_one.token == 2


def test_a_process_that_is_gone_from_this_machine_is_succeeded_at_once(tmp_path):
    code = (
        "import os; from saeft_ray.files import Files; from saeft_ray.lease import Lease\n"
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
    lease = Lease(files, "s", beat=0.05)

    def hold():
        with lease:
            stranger(files, 2)
            threading.Event().wait(20)

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert lease.lost
    assert files.read_bytes("s/leases/000002.beat") == b"1"  # the zombie touched nothing of its successor's


def test_of_many_at_once_one_wins(tmp_path):
    won, lost = [], []
    together = threading.Barrier(8)
    hold = threading.Event()

    def contend():
        together.wait()
        try:
            with Lease(Files(str(tmp_path)), "s", beat=0.1):
                won.append(1)
                hold.wait(20)
        except Taken:
            lost.append(1)
        if len(lost) == 7:
            hold.set()

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
