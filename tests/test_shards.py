"""Tar shards hold the same samples as the folder; the node's cache fetches them once, whole and within its bound."""

import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import tarfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from remote import filesystem

from saeft_ray import data as door
from saeft_ray.datasets import Split
from saeft_ray.datasets.folder import Folder
from saeft_ray.datasets.imagenet import ImageNet
from saeft_ray.datasets.images.cache import Cache, Remote
from saeft_ray.datasets.images.find import find
from saeft_ray.datasets.images.imagenet_classes import synsets
from saeft_ray.datasets.images.sharding import shard
from saeft_ray.datasets.images.shards import INDEX, TarShards, read_index
from saeft_ray.errors import NoRoom, Unseen
from saeft_ray.storage.location import Location, _connected
from saeft_ray.storage.retry import Waits

from imagenet_trees import WNIDS, plant

SIZE = 16
SMALL = 6_000  # bytes of a shard: several of them
NAMES = ("train", "val", "v2", "r", "a", "sketch")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return plant(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SAEFT_RAY_SHARDS_GB", raising=False)
    return tmp_path / "cache" / "shards"


def imagenet(places: dict[str, str]) -> ImageNet:
    return ImageNet.model_validate({**places, "selection": 2, "expect": "none", "classes": WNIDS})


def sharded(trees: dict[str, str], where: str) -> dict[str, str]:
    """All sets as shards below `where`, which is a folder or a URL."""
    for name in NAMES:
        shard(trees[name], f"{where}/{name}", SMALL)
    shard(f"{trees['objectnet']}/images", f"{where}/objectnet/images", SMALL)
    fs, root = filesystem(where)
    fs.put(f"{trees['objectnet']}/mappings", f"{root}/objectnet/mappings", recursive=True)
    return {name: f"{where}/{name}" for name in (*NAMES, "objectnet")}


def test_the_same_samples_from_a_real_s3_server(
    trees: dict[str, str], s3_url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, shards = imagenet(trees), imagenet(sharded(trees, s3_url))
    assert shards.problems() == []
    assert shards.fingerprint() == folder.fingerprint(), "artifacts are shared between a folder and its shards"
    assert shards.train_fingerprint() == folder.train_fingerprint()
    assert shards.sizes() == folder.sizes()
    for name, count in folder.sizes().items():
        ours, theirs = folder.split(name, SIZE), shards.split(name, SIZE)
        assert (ours.example_order, ours.labels.tolist()) == (theirs.example_order, theirs.labels.tolist())
        everything = np.arange(count)
        assert torch.equal(ours.images(everything), theirs.images(everything))
        assert torch.equal(ours.views(everything, everything % 3, 5), theirs.views(everything, everything % 3, 5))
    # Another process of this node reads what is there, and asks the server for no shard.
    monkeypatch.setattr(Cache, "_fetch", None)
    again = pickle.loads(pickle.dumps(shards)).split("train", SIZE)
    assert torch.equal(again.images(np.arange(36)), folder.split("train", SIZE).images(np.arange(36)))
    files = [path for path in cache.iterdir() if path.suffix not in {".lock", ".part"}]
    assert len(files) == len({path.name for path in files}) > 10
    for path in files:
        digest, _, size = path.name.partition(".")
        assert (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size) == (digest, int(size))


class Batches(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, split: Split, count: int):
        self._split, self._count = split, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> torch.Tensor:
        return self._split.views(np.arange(i, len(self._split.labels), self._count), np.array(0), 3)


def test_loader_processes_fetch_for_themselves(trees: dict[str, str], s3_url: str, cache: Path) -> None:
    """Neither connections, threads nor open shards of the parent may be used after a fork."""
    shard(trees["train"], f"{s3_url}/train", SMALL)
    split = imagenet({**trees, "train": f"{s3_url}/train"}).split("train", SIZE)
    first = split.images(np.array([0]))  # the parent has connected, and holds a shard
    before = len([path for path in cache.iterdir() if path.suffix != ".lock"])
    loader = torch.utils.data.DataLoader(
        Batches(split, 6), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    seen = list(loader)
    assert len([path for path in cache.iterdir() if path.suffix != ".lock"]) > before == 1
    folder = imagenet(trees).split("train", SIZE)
    expected = Batches(folder, 6)
    assert all(torch.equal(batch, expected[i]) for i, batch in enumerate(seen))
    assert torch.equal(split.images(np.array([0])), first)


def test_a_folder_at_a_url_is_read_too(trees: dict[str, str], s3_url: str) -> None:
    fs, root = filesystem(s3_url)
    fs.put(trees["val"], f"{root}/val", recursive=True)
    folder, remote = (Folder.model_validate({"train": place, "tests": {}}) for place in (trees["val"], f"{s3_url}/val"))
    assert remote.sizes() == folder.sizes()
    assert remote.fingerprint() == folder.fingerprint()
    index = np.arange(remote.sizes()["train"])
    assert torch.equal(remote.split("train", SIZE).images(index), folder.split("train", SIZE).images(index))


def test_an_unreadable_bucket_is_told(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unseen, match=r"s3://no-such-bucket-here/train (is missing|cannot be read)"):
        find(Location("s3://no-such-bucket-here/train", waits=Waits(1.0, 0.3)))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    _connected.cache_clear()
    with pytest.raises(Unseen, match=f"{s3_url}/train cannot be read: "):
        find(Location(f"{s3_url}/train", waits=Waits(1.0, 0.3)))
    _connected.cache_clear()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_are_the_same_each_time_and_resume(
    trees: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert door.main(["shard", trees["train"], str(whole), "--shard-mb", "1"]) == 0
    assert "54 images in shards" in capsys.readouterr().out
    shutil.rmtree(whole)
    shard(trees["train"], str(whole), SMALL)
    assert sorted(contents(whole)) == [INDEX, *(f"shard-{i:05d}.tar" for i in range(len(contents(whole)) - 1))]
    with tarfile.open(whole / "shard-00000.tar") as tar:
        first = tar.getnames()
    assert first == sorted(find(Location(trees["train"])).files)[: len(first)]

    from saeft_ray.datasets.images.files import LocalFolder

    read, reads = LocalFolder.read, list[int]()

    def dies(self: LocalFolder, i: int) -> bytes:
        if i == 30:
            raise OSError("the disk is gone")
        return read(self, i)

    monkeypatch.setattr(LocalFolder, "read", dies)
    assert door.main(["shard", trees["train"], str(broken)]) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        shard(trees["train"], str(broken), SMALL)
    assert not (broken / INDEX).exists()
    written = {path.name: path.stat().st_mtime_ns for path in broken.glob("*.tar")}
    assert written

    def counts(self: LocalFolder, i: int) -> bytes:
        reads.append(i)
        return read(self, i)

    monkeypatch.setattr(LocalFolder, "read", counts)
    shard(trees["train"], str(broken), SMALL)
    assert contents(broken) == contents(whole)
    assert 0 < len(reads) < 54
    assert {name: (broken / name).stat().st_mtime_ns for name in written} == written
    # Once more is no work; other images are not written over these.
    reads.clear()
    shard(trees["train"], str(broken), SMALL)
    assert reads == []
    assert door.main(["shard", trees["val"], str(broken)]) == 2
    assert "holds shards of other images" in capsys.readouterr().err
    assert door.main(["shard", str(whole / "nowhere"), str(broken)]) == 2


def foreign(tars: Path, source: Path) -> None:
    """WebDataset tars as others make them: no index, flat names, the class in a .cls."""
    tars.mkdir()
    for number, wnids in enumerate((WNIDS[:4], WNIDS[4:])):
        with tarfile.open(tars / f"imagenet1k-validation-{number:02d}.tar", "w") as tar:
            for wnid in wnids:
                for path in sorted((source / wnid).iterdir()):
                    for suffix, content in (
                        ("cls", str(synsets().index(wnid)).encode()),
                        ("jpg", path.read_bytes()),
                        ("json", b"{}"),
                    ):
                        info = tarfile.TarInfo(f"{wnid}_{path.stem}.{suffix}")
                        info.size = len(content)
                        tar.addfile(info, BytesIO(content))


def test_tars_of_others_are_indexed_when_first_opened(
    trees: dict[str, str], tmp_path: Path, s3_url: str, cache: Path
) -> None:
    foreign(tmp_path / "wds", Path(trees["val"]))
    fs, root = filesystem(s3_url)
    fs.put(str(tmp_path / "wds"), f"{root}/wds", recursive=True)
    expected = imagenet(trees).split("ImageNet", SIZE)
    by_label = np.argsort(expected.labels, kind="stable")
    for place in (str(tmp_path / "wds"), f"{s3_url}/wds"):
        data = imagenet({**trees, "val": place})
        assert data.problems() == []
        split = data.split("ImageNet", SIZE)
        mine = np.argsort(split.labels, kind="stable")
        assert split.labels[mine].tolist() == expected.labels[by_label].tolist()
        assert torch.equal(split.images(mine), expected.images(by_label))
    assert len(list(cache.glob("index-*.parquet"))) == 1
    assert door.main(["index", f"{s3_url}/wds"]) == 0
    assert door.main(["index", f"{s3_url}/wds"]) == 2
    assert imagenet({**trees, "val": f"{s3_url}/wds"}).fingerprint() == data.fingerprint()
    assert all(each.sha256 for each in read_index(Location(f"{s3_url}/wds")).shards)
    # Tars that changed in their place are not taken for the old ones.
    fs.rm_file(f"{root}/wds/{INDEX}")
    name = "imagenet1k-validation-00.tar"
    content = (tmp_path / "wds" / name).read_bytes()
    jpeg = Path(trees["val"], WNIDS[0], "ILSVRC2012_val_00000000.JPEG").read_bytes()
    fs.pipe_file(f"{root}/wds/{name}", content.replace(jpeg, bytes(len(jpeg))))
    (words,) = imagenet({**trees, "val": f"{s3_url}/wds"}).problems()
    assert "cannot be read as an image" in words


def test_missing_shards_and_cut_tars_are_named_before_anything_runs(trees: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "shards"
    shard(trees["train"], str(place), SMALL)
    second = place / "shard-00001.tar"
    whole = second.read_bytes()
    second.write_bytes(whole[:-700])
    words = imagenet({**trees, "train": str(place)}).problems()
    assert words == [
        f"data.train: {place}: shard-00001.tar has {len(whole) - 700:,} bytes instead of {len(whole):,}; "
        f"restore what {INDEX} lists"
    ]
    second.unlink()
    assert "shard-00001.tar is missing" in imagenet({**trees, "train": str(place)}).problems()[0]
    (place / INDEX).write_bytes(b"no parquet")
    assert "is not an index of shards" in imagenet({**trees, "train": str(place)}).problems()[0]

    foreign(tmp_path / "wds", Path(trees["val"]))
    tar = tmp_path / "wds" / "imagenet1k-validation-01.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    (words,) = imagenet({**trees, "val": str(tmp_path / "wds")}).problems()
    assert f"data.val: {tar}: is cut off or no tar" in words
    with tarfile.open(tar, "w"):
        tar.with_name("imagenet1k-validation-00.tar").unlink()
    (words,) = imagenet({**trees, "val": str(tmp_path / "wds")}).problems()
    assert f"{tmp_path / 'wds'}: its tars hold no image" in words
    # The same where nothing was said before: a shard that is cut while the sweep runs.
    second.write_bytes(whole)
    shutil.rmtree(place)
    shard(trees["train"], str(place), SMALL)
    split = imagenet({**trees, "train": str(place)}).split("train", SIZE)
    (place / "shard-00001.tar").write_bytes(whole[:600])
    with pytest.raises(OSError, match=r"shard-00001\.tar: cut off before n0"):
        split.images(np.arange(36))


# The cache -------------------------------------------------------------------------------------------------------


class Server:
    """Files that can be fetched, and a record of what was."""

    def __init__(self, **files: bytes):
        self.files, self.asked = files, list[tuple[str, int]]()

    def remote(self, name: str, sha256: str | None = None) -> Remote:
        content = self.files[name]

        def read(start: int, end: int) -> bytes:
            self.asked.append((name, start))
            return self.files[name][start:end]

        return Remote(f"far://{name}", len(content), sha256 or hashlib.sha256(content).hexdigest(), read)


def blob(seed: int, size: int = 1000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def test_the_least_recently_used_goes_and_never_under_a_reader(tmp_path: Path) -> None:
    server, cache = Server(a=blob(1), b=blob(2), c=blob(3), d=blob(4)), Cache(tmp_path, limit=2500)
    held = cache.open(server.remote("a"))
    cache.open(server.remote("b")).close()
    os.utime(tmp_path / f"{hashlib.sha256(blob(1)).hexdigest()}.1000", (1, 1))
    cache.open(server.remote("c")).close()  # b goes: a is older, but in use
    assert held.read() == blob(1)
    assert names(tmp_path) == {hashlib.sha256(blob(seed)).hexdigest() for seed in (1, 3)}
    with cache.open(server.remote("c")), pytest.raises(NoRoom, match=r"far://d: 0\.00 GB do not fit into the cache"):
        cache.open(server.remote("d"))
    assert not list(tmp_path.glob("*.part"))
    held.close()
    cache.open(server.remote("d")).close()
    assert sum(path.stat().st_size for path in tmp_path.glob("*.1000")) <= 2500
    assert [name for name, _ in server.asked] == ["a", "b", "c", "d"]


def names(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in folder.glob("*.1000")}


def test_a_download_resumes_and_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saeft_ray.datasets.images import cache

    monkeypatch.setattr(cache, "_BLOCK", 100)
    server, cache = Server(a=blob(1)), Cache(tmp_path, limit=5000)
    remote = server.remote("a")
    broken = remote._replace(read=lambda start, end: remote.read(start, end) if start < 500 else fail())

    def fail() -> bytes:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        cache.open(broken)
    assert names(tmp_path) == set()
    server.asked.clear()
    assert cache.open(remote).read() == blob(1)
    assert server.asked[0] == ("a", 500)
    # What a dead process left may be anything: then it is fetched from the beginning.
    (path,) = tmp_path.glob("*.1000")
    path.unlink()
    path.with_name(path.name + ".part").write_bytes(b"x" * 300)
    assert cache.open(remote).read() == blob(1)
    # A file that is not what the index says never gets in.
    server.files["a"] = blob(2)
    path.unlink()
    with pytest.raises(OSError, match=r"far://a: its content differs from the SHA-256 in the index; it was changed"):
        cache.open(remote)
    server.files["a"] = blob(1)[:450]
    with pytest.raises(OSError, match="far://a: ends at byte 450 of 1,000"):
        cache.open(remote)
    assert names(tmp_path) == set()
    assert not list(tmp_path.glob("*.part"))


def _opens(folder: Path, log: Path) -> None:
    def read(start: int, end: int) -> bytes:
        with log.open("a") as file:
            file.write(f"{os.getpid()} ")
        time.sleep(0.05)
        return blob(1, 4000)[start:end]

    remote = Remote("far://a", 4000, hashlib.sha256(blob(1, 4000)).hexdigest(), read)
    assert Cache(folder, limit=5000).open(remote).read() == blob(1, 4000)


def test_of_many_processes_one_fetches(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_opens, args=(tmp_path / "cache", tmp_path / "log")) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len((tmp_path / "log").read_text().split()) == 1


def test_too_small_a_cache_is_told_before_anything_is_fetched(
    trees: dict[str, str], s3_url: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    shard(trees["train"], f"{s3_url}/train", SMALL)
    monkeypatch.setenv("SAEFT_RAY_SHARDS_GB", "0.00001")
    data = imagenet({**trees, "train": f"{s3_url}/train"})
    assert data.problems() == [], "the machine that plans need not hold what workers will"
    match = (
        f"{s3_url}/train has 0.0 GB and is read as a whole, but the cache in {cache} may hold .* SAEFT_RAY_SHARDS_GB"
    )
    with pytest.raises(NoRoom, match=match):
        data.split("train", SIZE)
    assert not cache.exists()


def test_staging_ahead(trees: dict[str, str], s3_url: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(trees["val"], f"{s3_url}/val", SMALL)
    assert door.main(["stage", f"{s3_url}/val"]) == 0
    files = find(Location(f"{s3_url}/val"))
    assert isinstance(files, TarShards)
    assert sum(path.stat().st_size for path in cache.iterdir()) == files.total
    assert door.main(["stage", trees["val"]]) == 2
    assert "is not a URL of tar shards" in capsys.readouterr().err
    assert json.dumps(files.files)  # all of them text
