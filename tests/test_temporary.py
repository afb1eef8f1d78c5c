"""Temporary folders: gone when their process has gone, however it went."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from saeft_ray.storage.temporary import scratch

HOLD = """
from saeft_ray.storage.temporary import scratch
with scratch("here") as folder:
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A folder of temporary files with nothing of others in it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def aged(folder):
    os.utime(folder, (0, 0))
    return folder


def test_a_folder_goes_with_its_block_even_if_that_fails():
    block = scratch("here")
    folder = Path(block.__enter__())
    (folder / "file").write_text("x")
    assert not block.__exit__(RuntimeError, RuntimeError(), None)
    assert not folder.exists()


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays():
    command = [sys.executable, "-c", HOLD]
    owners = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    living, killed = [aged(Path(owner.stdout.readline().strip())) for owner in owners]
    try:
        owners[1].send_signal(signal.SIGKILL)
        owners[1].wait()
        (killed / "confirm").mkdir()
        aged(killed)
        with scratch("here"), scratch("here"):
            assert living.is_dir()
            assert not killed.exists()
    finally:
        _, _ = owners[0].communicate("\n")
        owners[1].communicate()
    assert not living.exists()


def test_what_is_young_or_of_another_use_is_left_alone(tmp_path):
    young = Path(tempfile.mkdtemp(prefix="saeft_ray-here-"))
    other = aged(Path(tempfile.mkdtemp(prefix="saeft_ray-there-")))
    link = tmp_path / "saeft_ray-here-link"
    link.symlink_to(aged(Path(tempfile.mkdtemp())))
    with scratch("here"):
        assert young.is_dir()
        assert other.is_dir()
        assert link.is_dir()
