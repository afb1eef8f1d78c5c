"""One contract for the store, on a local folder, in memory and on a real S3 server."""

import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3_faults import Faulty

import saeft_ray.storage.store
from saeft_ray.errors import Missing, UserError
from saeft_ray.storage.checksum import from_json, to_json
from saeft_ray.storage.files import Files
from saeft_ray.storage.location import Location
from saeft_ray.storage.s3 import _encryption
from saeft_ray.storage.store import Damaged, Manifest, Store

from s3_server import S3Server, free_ports

BYTES = bytes(range(256)) * 1200
SMALL = BYTES[:10240]  # on a remote store beside the manifest, in one object


@pytest.fixture(params=["local", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "store")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/store"
    return f"{request.getfixturevalue('s3_url')}/some/store"


@pytest.fixture
def make(url: str, tmp_path: Path) -> Callable[[], Store]:
    """Stores on the same URL, each with a cache of its own, as on another machine."""
    return lambda: Store(url, cache=tmp_path / f"cache-{uuid.uuid4().hex}")


@pytest.fixture
def store(make: Callable[[], Store]) -> Store:
    return make()


class Builder:
    def __init__(self, content: bytes = BYTES) -> None:
        self.runs = 0
        self.content = content

    def __call__(self, folder: Path) -> None:
        self.runs += 1
        (folder / "weights.bin").write_bytes(self.content)
        (folder / "card.json").write_bytes(b'{"k": 32}')


def raw(store: Store) -> fsspec.AbstractFileSystem:
    """The file system behind the store, to damage things."""
    return store._fs


def blob(store: Store, name: str = "weights.bin", key: str = "k1") -> str:
    found = store.manifest("sae", key)
    assert found is not None
    return store._place(f"artifacts/sae/{key}/{found.build}/{name}")


@pytest.mark.parametrize("content", [BYTES, SMALL, b"", b"\n}\n"], ids=["large", "small", "empty", "end"])
def test_built_once_for_forty_trials_and_not_again_by_a_second_store(
    make: Callable[[], Store], store: Store, content: bytes
) -> None:
    build = Builder(content)
    for _ in range(40):
        folder = store.ensure("sae", "k1", build, {"k": 32})
        assert (folder / "weights.bin").read_bytes() == content
    assert build.runs == 1
    again = make().ensure("sae", "k1", build)
    assert sorted(path.name for path in again.iterdir()) == ["card.json", "weights.bin"]
    assert (again / "weights.bin").read_bytes() == content
    assert (again / "card.json").read_bytes() == b'{"k": 32}'
    assert build.runs == 1


@pytest.mark.parametrize("content", [BYTES, SMALL], ids=["large", "small"])
def test_what_is_saved_is_what_was_first_and_sound(make: Callable[[], Store], store: Store, content: bytes) -> None:
    build, late = Builder(content), Builder(b"late")
    assert (store.save("sae", "k1", build, {"k": 32}) / "weights.bin").read_bytes() == content
    assert (make().save("sae", "k1", late) / "weights.bin").read_bytes() == content
    assert (make().get("sae", "k1") / "weights.bin").read_bytes() == content
    if content == BYTES:
        flip(store)
    else:
        store.write("artifacts/sae/k1/manifest.json", b"?")
    assert (make().save("sae", "k1", late) / "weights.bin").read_bytes() == b"late"
    assert (make().get("sae", "k1") / "weights.bin").read_bytes() == b"late"


def test_every_byte_of_a_small_artifact_counts(make: Callable[[], Store], store: Store) -> None:
    if store.local:
        pytest.skip("a local store keeps files as files")
    store.ensure("sae", "k1", Builder(SMALL[:300]))
    path = "artifacts/sae/k1/manifest.json"
    assert store.list() == (path,)
    sound = store.read_bytes(path)
    reader = make()
    for place in range(len(sound)):
        flipped = bytes([sound[place] ^ 1])
        for damaged in (sound[:place], sound[:place] + flipped + sound[place + 1 :]):
            reader.write(path, damaged)
            with pytest.raises(Damaged):
                reader.get("sae", "k1")
    reader.write(path, sound)
    assert (reader.get("sae", "k1") / "weights.bin").read_bytes() == SMALL[:300]


def test_small_artifacts_of_before_are_read(make: Callable[[], Store], store: Store, tmp_path: Path) -> None:
    """A folder copied to a bucket is one: every file is by itself."""
    local = Store(str(tmp_path / "local"))
    local.ensure("sae", "k1", Builder(SMALL), {"k": 32})
    for path in local.list():
        store.write(path, local.read_bytes(path))
    assert (make().get("sae", "k1") / "weights.bin").read_bytes() == SMALL


def test_an_artifact_is_hashed_once_a_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.ensure("sae", "k1", Builder())
    monkeypatch.setattr(saeft_ray.storage.store, "sha256_of", lambda _: pytest.fail("hashed again"))
    for _ in range(3):
        store.get("sae", "k1")


def test_what_is_known_about_an_artifact(store: Store) -> None:
    assert not store.has("sae", "k1")
    assert store.size("sae", "k1") is None
    with pytest.raises(Missing, match=r"artifacts/sae/k1: no such artifact"):
        store.get("sae", "k1")
    store.ensure("sae", "k1", Builder(), {"k": 32, "name": "Wörter"})
    assert store.has("sae", "k1")
    assert store.size("sae", "k1") == len(BYTES) + 9
    found = json.loads(store.read_bytes("artifacts/sae/k1/manifest.json"))
    assert store.manifest("sae", "k1") == Manifest.model_validate(found)
    assert (found["kind"], found["key"], found["describe"]) == ("sae", "k1", {"k": 32, "name": "Wörter"})
    assert found["files"]["weights.bin"]["size"] == len(BYTES)
    assert not store.has("sae", "k2")
    assert not store.has("head", "k1")


def test_a_description_that_json_cannot_hold_is_told_before_building(store: Store) -> None:
    build = Builder()
    with pytest.raises(TypeError):
        store.ensure("sae", "k1", build, {"fvu": float("nan")})
    assert build.runs == 0


def test_a_builder_that_fails_leaves_nothing(store: Store) -> None:
    def fails(folder: Path) -> None:
        (folder / "weights.bin").write_bytes(b"half")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.ensure("sae", "k1", fails)
    assert not store.has("sae", "k1")
    assert store.list() == ()
    build = Builder()
    assert (store.ensure("sae", "k1", build) / "weights.bin").read_bytes() == BYTES
    assert build.runs == 1


def test_blobs_without_a_manifest_do_not_exist(store: Store) -> None:
    store.write("artifacts/sae/k1/0123456789ab/weights.bin", b"from a killed builder")
    assert not store.has("sae", "k1")
    build = Builder()
    assert (store.ensure("sae", "k1", build) / "weights.bin").read_bytes() == BYTES
    assert build.runs == 1


def flip(store: Store) -> None:
    content = bytearray(BYTES)
    content[5000] ^= 1
    raw(store).pipe_file(blob(store), bytes(content))


def truncate(store: Store) -> None:
    raw(store).pipe_file(blob(store), BYTES[:-1])


def remove(store: Store) -> None:
    raw(store).rm_file(blob(store))


@pytest.mark.parametrize(
    ("damage", "said"),
    [(flip, "differs from its SHA-256"), (truncate, "307199 bytes, not 307200"), (remove, "missing")],
)
def test_damage_is_noticed_and_built_again(
    make: Callable[[], Store],
    store: Store,
    damage: Callable[[Store], None],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    build = Builder()
    store.ensure("sae", "k1", build)
    old = store.manifest("sae", "k1")
    damage(store)
    other = make()
    with pytest.raises(Damaged, match=rf"weights\.bin: .*{said}"):
        other.get("sae", "k1")
    with caplog.at_level(logging.WARNING):
        folder = other.ensure("sae", "k1", build)
    assert said in caplog.text
    assert "weights.bin" in caplog.text
    assert (folder / "weights.bin").read_bytes() == BYTES
    assert build.runs == 2
    new = other.manifest("sae", "k1")
    assert old is not None
    assert new is not None
    assert new.build != old.build
    kept = other.list("artifacts/sae/k1")
    assert f"artifacts/sae/k1/manifest.damaged-{old.build}.json" in kept
    assert f"artifacts/sae/k1/{old.build}/card.json" in kept
    assert (make().get("sae", "k1") / "weights.bin").read_bytes() == BYTES


@pytest.mark.parametrize("content", [b"", b'{"kind": "sae"', b"[]"])
def test_an_unreadable_manifest_is_set_aside(store: Store, content: bytes) -> None:
    build = Builder()
    store.ensure("sae", "k1", build)
    store.write("artifacts/sae/k1/manifest.json", content)
    with pytest.raises(Damaged, match=r"manifest\.json: its checksum is damaged or missing"):
        store.get("sae", "k1")
    assert (store.ensure("sae", "k1", build) / "weights.bin").read_bytes() == BYTES
    assert build.runs == 2


def test_a_manifest_at_the_wrong_place_or_with_a_path_in_it_is_not_used(store: Store) -> None:
    build = Builder()
    store.ensure("sae", "k1", build)
    manifest = store.read_bytes("artifacts/sae/k1/manifest.json")
    store.write("artifacts/sae/k2/manifest.json", manifest)
    with pytest.raises(Damaged, match="is the manifest of sae/k1"):
        store.get("sae", "k2")
    store.ensure("sae", "k2", build)
    assert build.runs == 2
    hostile = from_json(manifest, "k1")
    hostile |= {"key": "k3", "files": {"../../x": hostile["files"]["weights.bin"]}}
    store.write("artifacts/sae/k3/manifest.json", to_json(hostile))
    with pytest.raises(Damaged, match="not a manifest"):
        store.get("sae", "k3")


def test_a_damaged_cache_copy_is_fetched_again(store: Store) -> None:
    if store.local:
        pytest.skip("a local store has no cache")
    build = Builder()
    folder = store.ensure("sae", "k1", build)
    (folder / "weights.bin").write_bytes(b"short")
    assert (store.get("sae", "k1") / "weights.bin").read_bytes() == BYTES
    (folder / "card.json").unlink()
    assert (store.get("sae", "k1") / "card.json").read_bytes() == b'{"k": 32}'
    assert build.runs == 1


@pytest.mark.parametrize("content", [BYTES, SMALL], ids=["large", "small"])
def test_two_builders_at_once_end_with_one_manifest(make: Callable[[], Store], content: bytes) -> None:
    both = threading.Barrier(2)
    results: dict[int, bytes] = {}

    def work(number: int) -> None:
        def build(folder: Path) -> None:
            (folder / "weights.bin").write_bytes(content + bytes([number]))
            both.wait(20)

        results[number] = (make().ensure("sae", "k1", build) / "weights.bin").read_bytes()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results[0] == results[1]
    store = make()
    assert [path for path in store.list() if "manifest" in path] == ["artifacts/sae/k1/manifest.json"]
    alone = content == SMALL and not store.local
    assert len(store.list("artifacts/sae/k1")) == (1 if alone else 2), "the loser's blob is removed"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../b", "/etc", "a b", "a\n", ".hidden", "a\x00"])
def test_names_that_leave_the_store_are_refused(store: Store, name: str) -> None:
    for attempt in (
        lambda: store.has(name, "k1"),
        lambda: store.ensure("sae", name, Builder()),
        lambda: store.get("sae", name),
        lambda: store.exists(name),
        lambda: store.write(name, b""),
        lambda: store.write_once(f"rows/{name}", b""),
    ):
        with pytest.raises(ValueError, match="is not a name"):
            attempt()


def test_an_artifact_is_plain_files(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    with pytest.raises(ValueError, match="no folders and no links"):
        store.ensure("sae", "k1", lambda folder: (folder / "sub").mkdir())
    with pytest.raises(ValueError, match="no folders and no links"):
        store.ensure("sae", "k1", lambda folder: (folder / "link").symlink_to(secret))
    with pytest.raises(ValueError, match="wrote no file"):
        store.ensure("sae", "k1", lambda folder: None)
    assert not store.has("sae", "k1")


def test_keys_and_removal(make: Callable[[], Store], store: Store) -> None:
    assert store.keys("checkpoint") == []
    store.remove("checkpoint", "none")
    for key in ("a-00002", "a-00001", "b-00001"):
        store.ensure("checkpoint", key, Builder())
    store.ensure("sae", "a-00003", Builder())
    store.write("artifacts/checkpoint/a-00009/0123456789ab/weights.bin", b"from a killed builder")
    assert store.keys("checkpoint") == ["a-00001", "a-00002", "b-00001"]
    assert make().keys("checkpoint", "a-") == ["a-00001", "a-00002"]
    make().remove("checkpoint", "a-00001")
    assert store.keys("checkpoint", "a-") == ["a-00002"]
    assert store.list("artifacts/checkpoint/a-00001") == ()
    with pytest.raises(Missing):
        store.get("checkpoint", "a-00001")
    build = Builder(b"new")
    assert (store.ensure("checkpoint", "a-00001", build) / "weights.bin").read_bytes() == b"new"
    assert (store.get("checkpoint", "a-00002") / "weights.bin").read_bytes() == BYTES
    with pytest.raises(ValueError, match="is not a name"):
        store.remove("checkpoint", "..")


DIES_WRITING = """
import os, pathlib, sys
from saeft_ray.storage.store import Store
def write(folder):
    (folder / "weights.bin").write_bytes(b"half")
    os._exit(9)
Store(sys.argv[1], cache=pathlib.Path(sys.argv[2])).save("checkpoint", "a", write)
"""


def test_what_is_removed_leaves_the_cache_too(url: str, tmp_path: Path) -> None:
    store = Store(url, cache=tmp_path / "cache")
    folders = [store.save("checkpoint", key, Builder()) for key in ("a", "a-1", "a.1")]
    subprocess.run([sys.executable, "-c", DIES_WRITING, url, tmp_path / "cache"])
    assert len(list(tmp_path.rglob("weights.bin"))) == 4
    store.remove("checkpoint", "a")
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert len(list(tmp_path.rglob("weights.bin"))) == 2


def test_plain_files(store: Store, make: Callable[[], Store]) -> None:
    assert store.list("rows") == ()
    store.write_once("rows/confirm/a.parquet", b"1")
    store.write_once("rows/b.parquet", b"")
    with pytest.raises(FileExistsError, match=r"a\.parquet"):
        make().write_once("rows/confirm/a.parquet", b"2")
    assert store.read_bytes("rows/confirm/a.parquet") == b"1"
    store.write("sweep.json", b"old")
    store.write("sweep.json", b"new")
    assert make().read_bytes("sweep.json") == b"new"
    assert make().list() == ("rows/b.parquet", "rows/confirm/a.parquet", "sweep.json")
    assert store.list("rows") == ("rows/b.parquet", "rows/confirm/a.parquet")
    assert store.list("row") == ()
    assert store.exists("rows/b.parquet")
    assert not store.exists("rows")
    assert not store.exists("rows/b.parquet/below")
    with pytest.raises(FileNotFoundError):
        store.read_bytes("rows/none")


def test_of_many_writers_one_wins(make: Callable[[], Store]) -> None:
    won: list[int] = []
    together = threading.Barrier(8)

    def claim(number: int) -> None:
        store = make()
        store.exists("claim")
        together.wait(20)
        try:
            store.write_once("claim", str(number).encode())
        except FileExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1
    assert make().read_bytes("claim") == str(won[0]).encode()


def test_a_manifest_written_elsewhere_is_seen_at_once(make: Callable[[], Store]) -> None:
    here, there = make(), make()
    assert not here.has("sae", "k1")
    assert here.list() == ()
    there.ensure("sae", "k1", Builder())
    assert here.has("sae", "k1")
    assert len(here.list()) == 3


def test_a_pickled_store_works_and_holds_no_secret(store: Store) -> None:
    store.check_writable()
    folder = store.ensure("sae", "k1", Builder())
    pickled = pickle.dumps(store)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if os.environ.get(name):
            assert os.environ[name].encode() not in pickled
    again = pickle.loads(pickled)
    assert (again.url, again.endpoint) == (store.url, store.endpoint)
    assert again.get("sae", "k1") == folder
    assert pickle.loads(pickle.dumps(Files(store.url))).list() == store.list()


def test_a_writable_place_passes_and_stays_clean(store: Store) -> None:
    store.check_writable()
    assert store.list() == ()


def test_large_files_survive_multipart(s3_url: str, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 101  # above s3fs's limit of 100 MB for a single put

    def build(folder: Path) -> None:
        (folder / "large.bin").write_bytes(content)

    Store(s3_url, cache=tmp_path / "a").ensure("activations", "k", build)
    got = Store(s3_url, cache=tmp_path / "b").get("activations", "k")
    assert (got / "large.bin").read_bytes() == content


def test_local_urls_are_absolute_and_need_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store("runs/store").url == Store(f"file://{tmp_path}/runs/store").url == str(tmp_path / "runs" / "store")
    folder = Store("runs/store").ensure("sae", "k1", Builder())
    assert folder.is_relative_to(tmp_path / "runs" / "store")
    assert not list(tmp_path.rglob("*.tmp*"))


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "fast-disk"))
    folder = Store(f"memory://{uuid.uuid4().hex}").ensure("sae", "k1", Builder())
    assert folder.is_relative_to(tmp_path / "fast-disk")


@pytest.mark.parametrize("bad", ["", "  ", "s3://", "s3:///", "s3://key:secret@bucket/x"])
def test_urls_that_name_no_place_or_carry_secrets(bad: str) -> None:
    with pytest.raises(ValueError, match="store") as caught:
        Store(bad)
    assert "key:secret" not in str(caught.value)


class Unlisted(Faulty):
    """A server whose credentials may do all but list."""

    def forward(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        return _DENIED if "list-type" in path else super().forward(method, path, headers, body)


class Encrypted(Faulty):
    """A server that takes what is to be encrypted alone; it keeps that itself, for the real one has no keys."""

    kept: ClassVar[dict[str, bytes]] = {}

    def forward(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        place = path.partition("?")[0]
        if method == "PUT" and headers.get("x-amz-server-side-encryption") != "AES256":
            return _DENIED
        if method == "PUT" and place in self.kept:
            return 412, [], b"<Error><Code>PreconditionFailed</Code><Message>It is there</Message></Error>"
        if method == "PUT":
            self.kept[place] = body
            return 200, [], b""
        return (
            (200, [], self.kept[place])
            if method == "GET" and place in self.kept
            else super().forward(method, path, headers, body)
        )


_DENIED = 403, [], b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class TestCheckWritable:
    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match=r"file/store: cannot be used.*Not a directory.*Give a folder"):
            Store(str(tmp_path / "file" / "store")).check_writable()

    def test_wrong_credentials(self, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
        with pytest.raises(ValueError, match=r"tests-.*signature.*Wrong credentials for http") as caught:
            Store(s3_url).check_writable()
        assert "not-the-secret" not in str(caught.value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        with pytest.raises(ValueError, match=r"Wrong credentials.*AWS_ACCESS_KEY_ID"):
            Store(s3_url).check_writable()

    def test_no_credentials(self, s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        with pytest.raises(ValueError, match="No credentials: set AWS_ACCESS_KEY_ID"):
            Store(s3_url).check_writable()

    def test_no_such_bucket(self, s3_url: str) -> None:
        with pytest.raises(ValueError, match=r"No such bucket: http.*'nowhere-at-all'; create it"):
            Store("s3://nowhere-at-all/x").check_writable()

    def test_an_endpoint_that_does_not_answer(self, s3: S3Server, s3_url: str) -> None:
        closed = f"http://127.0.0.1:{free_ports(1)[0]}"
        start = time.monotonic()
        with pytest.raises(ValueError, match=rf"endpoint {closed} cannot be reached: correct AWS_ENDPOINT_URL"):
            Store(s3_url, endpoint=closed).check_writable()
        assert time.monotonic() - start < 10

    def test_a_cache_that_cannot_be_made(self, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        for place, why in (
            (str(tmp_path / "file" / "cache"), "Not a directory"),
            ("~nobody-of-this-name/cache", "home directory"),
        ):
            monkeypatch.setenv("SAEFT_RAY_CACHE", place)
            with pytest.raises(UserError, match=rf"{why}\.?\); set SAEFT_RAY_CACHE to a folder"):
                Store(s3_url).check_writable()
            Store(str(tmp_path / "store")).check_writable()  # needs no copies

    @pytest.mark.parametrize("server", [Unlisted, Encrypted])
    def test_rights_that_a_sweep_will_use(
        self, server: type[Faulty], s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SAEFT_RAY_S3_ENCRYPTION", raising=False)
        with server(s3.endpoint, rate=0) as guarded:
            with pytest.raises(UserError, match=r"allow them to list, .*SAEFT_RAY_S3_ENCRYPTION"):
                Store(s3_url, endpoint=guarded.endpoint).check_writable()
            if server is Encrypted:
                monkeypatch.setenv("SAEFT_RAY_S3_ENCRYPTION", "AES256")
                Store(s3_url, endpoint=guarded.endpoint).check_writable()

    def test_words_that_are_no_encryption(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert _encryption("aws:kms:arn:aws:kms:x") == {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": "arn:aws:kms:x",
        }
        for word in ("aes256", "aws:kms:", "aws:kmsx", "kms"):
            with pytest.raises(UserError, match="allowed are AES256, aws:kms and aws:kms:KEY"):
                _encryption(word)

    def test_an_unknown_protocol(self) -> None:
        with pytest.raises(ValueError, match="nonsense:// is not a kind of storage that is known here"):
            Store("nonsense://x").check_writable()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("$SCRATCH/runs", r"variables such as \$SCRATCH are not expanded"),
        ("s3://${BUCKET}/x", r"variables such as \$\{BUCKET\} are not expanded"),
        ("s3:/bucket/x", "give s3://bucket/x, or ./s3:/bucket/x for a folder so named"),
        ("s3:bucket/x", "give s3://bucket/x,"),
        ("s3//bucket/x", "give s3://bucket/x,"),
        ("s3:///x", "names no bucket"),
        ("file:/runs", "give /runs,"),
        ("~nobody-of-this-name/runs", "no home folder of ~nobody-of-this-name"),
        (r"C:\runs", "a path of Windows"),
        ("runs ", "begins or ends with a blank"),
        ("$(pwd)/runs", r"commands such as \$\(pwd\) are not run"),
        ("`pwd`/runs", "commands such as `pwd` are not run"),
        ("{HOME}/runs", "{HOME} stands for something"),
        ("s3://{bucket}/runs", "{bucket} stands for something"),
        ("<STORAGE>", "<STORAGE> stands for something"),
        ("${X", r"variables such as \$\{X are not expanded"),
        ("s3;//b/x", "give s3://b/x,"),
        ("s3.amazonaws.com/b", "names the server s3.amazonaws.com and no folder; give s3://bucket/folder"),
        ("b.s3.eu-west-1.amazonaws.com", "names the server b.s3.eu-west-1.amazonaws.com"),
        (r"\\srv\share", "a path of Windows"),
        ("C:x", "a path of Windows"),
        ("s3://s3://b/x", "a second ://"),
        ("s3://b a/x", "a bucket has no ' ' in its name"),
        ("s3://b/../x", r"holds \. or \.\."),
        ("a\0b", r"holds '\\x00'"),
        ("s3://b/a\nb", r"holds '\\n'"),
    ],
)
def test_a_mistyped_place_makes_no_folder_of_that_name(url, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told):
        Location(url)


def test_a_place_of_an_odd_name_that_exists_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "$kept",
        "s3:kept",
        "{kept}",
        "<a>",
        "`b`",
        "C:x",
        "s3.amazonaws.com",
        r"a\b",
        "a//b",
        "S3://Bucket/x",
    ):
        if "://" not in name:
            Path(name).mkdir(parents=True)
        Location(name)
    assert Location("S3://bucket/x").url == "s3://bucket/x"


def test_names_that_are_found_are_taken_however_they_look():
    for name in ("{a}.png", "$b.png", "<c>.png", "d\te.png"):
        assert (Location("s3://bucket/x") / name).url == f"s3://bucket/x/{name}"
    assert Location("https://host/a%20b%20c/%C3%A9%C3%A9.pt").url == "https://host/a%20b%20c/%C3%A9%C3%A9.pt"


def test_a_file_system_that_a_program_registered_is_known():
    class Own(MemoryFileSystem):
        protocol = "own"

    fsspec.register_implementation("own", Own, clobber=True)
    assert Location("own://x/y").scheme == "own"
