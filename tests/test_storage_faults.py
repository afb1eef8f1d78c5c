"""A whole sweep over a store that fails at every tenth request ends as over a sound one; refusals stop it soon."""

import errno
import re
import subprocess
import time
from pathlib import Path

import pytest
from s3_faults import PASSING, Faulty

from saeft_ray import driver, sweep
from saeft_ray.errors import Unavailable
from saeft_ray.storage.retry import Waits
from saeft_ray.storage.store import Store

import sweeps
from sweeps import Begun, comparable

SECTIONS = {
    "methods": {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}},
    "search": {"trials": 2},
    "rerank": {"top": 1, "seeds": 1},
    "confirm": {"seeds": 1},
}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Rows of sweeps that nobody disturbed, by their sections."""
    known = {}

    def rows(**sections):
        if repr(sections) not in known:
            _, ledger, _ = sweeps.run_here(sweeps.config(tmp_path_factory.mktemp("quiet"), **sections))
            known[repr(sections)] = comparable(ledger.url)
        return known[repr(sections)]

    return rows


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--local"], pytest.param([], marks=pytest.mark.long)], ids=["local", "ray"])
def test_a_sweep_over_a_faulty_store_ends_with_the_rows_of_a_quiet_one(quiet, s3, s3_url, tmp_path, monkeypatch, how):
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with Faulty(s3.endpoint, rate=0.2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        file = sweeps.file(tmp_path / "a.yaml", s3_url, **SECTIONS, compute={"checkpoint_minutes": 0, "concurrent": 1})
        assert sweep.main([file, *how, "--quiet"]) == 0
    asked = sum(proxy.seen.values())
    assert proxy.faults >= 0.1 * asked, proxy.seen
    assert set(PASSING) < set(proxy.seen), f"every kind of fault must have happened: {proxy.seen}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert comparable(f"{s3_url}/sweeps/small") == quiet(**SECTIONS)
    leases = [path.rpartition("/")[2] for path in Store(s3_url).list("sweeps/small/leases")]
    assert [name for name in leases if name[6:] == ".json"] == ["000001.json"], "nobody took the lease from itself"


PERMANENT = {"methods": {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": 300}}, "confirm": {"seeds": 2}}
LASTING = {
    "AccessDenied": r"Access Denied.*: allow them to list, get, put and delete objects here",
    "NoSuchBucket": r"The specified bucket does not exist.* No such bucket: http.* has none named 'tests-",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how"), [
        ("AccessDenied", ["--local"]),
        pytest.param("NoSuchBucket", ["--local"], marks=pytest.mark.long),
        pytest.param("AccessDenied", [], marks=pytest.mark.long),
    ],
    ids=["403", "no such bucket", "403 on Ray"],
)  # fmt: skip
def test_a_lasting_refusal_stops_a_sweep_within_a_minute_and_it_goes_on_when_mended(
    quiet, s3, s3_url, tmp_path, monkeypatch, capsys, kind, how
):
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with Faulty(s3.endpoint, rate=0.0, kinds=(kind,)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        file = sweeps.file(tmp_path / "a.yaml", s3_url, **PERMANENT)
        began = []

        def refuse():
            proxy.rate = 1.0
            began.append(time.monotonic())

        with monkeypatch.context() as patch:
            patch.setattr(driver, "Quiet", lambda: Begun(refuse))
            assert sweep.main([file, *how, "--quiet"]) == 1
        assert time.monotonic() - began[0] < 60
        said = capsys.readouterr().err
        assert re.search(LASTING[kind], said)
        assert "Nothing is lost; the same command goes on" in said or "run the same command to resume" in said
        proxy.rate = 0.0
        assert not Store(s3_url).list("sweeps/small/report")
        assert sweep.main([file, *how, "--quiet"]) == 0
        assert comparable(f"{s3_url}/sweeps/small") == quiet(**PERMANENT)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB, and what makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("only root may mount a disk")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--local"], pytest.param([], marks=pytest.mark.long)], ids=["local", "ray"])
def test_a_full_node_cache_stops_a_sweep_within_a_minute_and_it_goes_on_when_there_is_room(
    quiet, s3_url, tmp_path, monkeypatch, capsys, small_disk, how
):
    disk, enlarge = small_disk
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(disk))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    file = sweeps.file(tmp_path / "a.yaml", s3_url, **PERMANENT)
    began = []
    with monkeypatch.context() as patch:
        patch.setattr(driver, "Quiet", lambda: Begun(lambda: began.append(time.monotonic())))
        assert sweep.main([file, *how, "--quiet"]) == 1
    assert time.monotonic() - began[0] < 60
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "run the same command to resume" in said
    assert "error.parquet" not in "".join(Store(s3_url).list("sweeps/small")), "no trial is to blame"
    enlarge()
    assert sweep.main([file, *how, "--quiet"]) == 0
    assert comparable(f"{s3_url}/sweeps/small") == quiet(**PERMANENT)


def test_a_disk_that_is_full_from_the_start_is_told_too(s3_url, tmp_path, monkeypatch, capsys, small_disk):
    disk, _ = small_disk
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(disk))
    (disk / "others").write_bytes(bytes(2 << 20))
    file = sweeps.file(tmp_path / "a.yaml", s3_url, **PERMANENT)
    assert sweep.main([file, "--local", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "Fix this, then run the same command to resume" in said


def test_a_bucket_that_is_gone_is_no_missing_file(s3, s3_url):
    store = Store(s3_url.replace("tests-", "gone-"))
    store._fs._waits = Waits(0.3, 0.3)
    with pytest.raises(Unavailable, match=r"No such bucket: http.* has none named 'gone-"):
        store.write("sweeps/a", b"1")
    with pytest.raises(Unavailable, match="No such bucket"):
        store.write_once("sweeps/a", b"1")


@pytest.mark.parametrize("size", [5_000, 500_000])
def test_a_full_cache_disk_is_told_at_once_and_leaves_nothing(s3_url, tmp_path, monkeypatch, size):
    build = Store(s3_url, cache=tmp_path / "a")
    build.ensure("sae", "k", lambda folder: (folder / "weights.bin").write_bytes(b"w" * size))
    there = Store(s3_url, cache=tmp_path / "b")

    opened = Path.open

    def full(path, mode="r", **how):
        if mode in ("xb", "wb"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return opened(path, mode, **how)

    began = time.monotonic()
    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space left on device"):
            there.get("sae", "k")
    assert time.monotonic() - began < 5, "a full disk does not pass by waiting"
    assert not list(tmp_path.rglob("*.tmp-*"))
    mended = Store(s3_url, cache=tmp_path / "b")
    assert (mended.get("sae", "k") / "weights.bin").read_bytes() == b"w" * size
