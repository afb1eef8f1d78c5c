"""A whole sweep over a store that fails at every tenth request ends as over a sound one; refusals stop it soon."""

import errno
import time
from pathlib import Path

import pytest
from s3_faults import PASSING, Faulty

from saeft_ray import sweep
from saeft_ray.patience import Unavailable
from saeft_ray.store import Store
from saeft_ray.table import read_rows

import sweeps

SECTIONS = {
    "methods": {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}},
    "search": {"trials": 2},
    "rerank": {"top": 1, "seeds": 1},
    "confirm": {"seeds": 1},
}


def comparable(url):
    rows = [row for row in read_rows(url).to_pylist() if row["metric"] != "seconds"]
    return sorted(rows, key=lambda row: (row["trial"], row["dataset"], row["metric"]))


@pytest.mark.slow
def test_a_sweep_over_a_faulty_store_ends_with_the_rows_of_a_quiet_one(s3, s3_url, tmp_path, monkeypatch):
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    _, quiet, _ = sweeps.run_here(sweeps.config(tmp_path / "quiet", **SECTIONS))
    with Faulty(s3.endpoint, rate=0.15) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        file = sweeps.file(tmp_path / "a.yaml", s3_url, **SECTIONS, compute={"checkpoint_minutes": 0})
        assert sweep.main([file, "--local", "--quiet"]) == 0
    asked = sum(proxy.seen.values())
    assert proxy.faults >= 0.1 * asked, proxy.seen
    assert set(PASSING) < set(proxy.seen), f"every kind of fault must have happened: {proxy.seen}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert comparable(f"{s3_url}/sweeps/small") == comparable(quiet.url)
    leases = [path.rpartition("/")[2] for path in Store(s3_url).list("sweeps/small/leases")]
    assert [name for name in leases if name[6:] == ".json"] == ["000001.json"], "nobody took the lease from itself"


def test_a_lasting_refusal_stops_a_sweep_within_a_minute_and_it_goes_on_when_mended(
    s3, s3_url, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    methods = {"methods": {"zero_shot": {}, "ft": {}}, "confirm": {"seeds": 1}}
    with Faulty(s3.endpoint, rate=0.0, kinds=("AccessDenied",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        file = sweeps.file(tmp_path / "a.yaml", s3_url, **methods)
        began = []

        def forbid(*_, **__):
            proxy.rate = 1.0
            began.append(time.monotonic())

        monkeypatch.setattr(sweep.Quiet, "phase", forbid)
        assert sweep.main([file, "--local", "--quiet"]) == 1
        assert time.monotonic() - began[0] < 60
        said = capsys.readouterr().err
        assert "allow them to list, get, put and delete" in said
        assert "The same command goes on" in said
        proxy.rate = 0.0
        monkeypatch.undo()
        monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
        for name, value in (("ACCESS_KEY_ID", s3.access_key), ("SECRET_ACCESS_KEY", s3.secret_key)):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert sweep.main([file, "--local", "--quiet"]) == 0


def test_a_bucket_that_is_gone_is_no_missing_file(s3, s3_url):
    store = Store(s3_url.replace("tests-", "gone-"))
    store._fs._limits["refused"] = 0.3
    with pytest.raises(Unavailable, match=r"No such bucket: http.* has none named 'gone-"):
        store.write("sweeps/a", b"1")
    with pytest.raises(Unavailable, match="No such bucket"):
        store.write_once("sweeps/a", b"1")


def test_a_full_cache_disk_is_told_at_once_and_leaves_nothing(s3_url, tmp_path, monkeypatch):
    build = Store(s3_url, cache=tmp_path / "a")
    build.ensure("sae", "k", lambda folder: (folder / "weights.bin").write_bytes(b"w" * 5000))
    there = Store(s3_url, cache=tmp_path / "b")

    opened = Path.open

    def full(path, mode="r", **how):
        if mode == "xb":
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return opened(path, mode, **how)

    began = time.monotonic()
    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space left on device"):
            there.get("sae", "k")
    assert time.monotonic() - began < 5, "a full disk does not pass by waiting"
    assert not list(tmp_path.rglob(".tmp-*"))
    mended = Store(s3_url, cache=tmp_path / "b")
    assert (mended.get("sae", "k") / "weights.bin").read_bytes() == b"w" * 5000
