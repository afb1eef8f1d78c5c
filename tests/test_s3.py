"""What the store asks of an S3 server, and what it makes of wrong answers: a proxy before the real one may lie."""

import base64
import errno
import hashlib
import logging
import os
import pickle
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from s3_faults import Faulty

from saeft_ray.errors import Unavailable
from saeft_ray.storage.retry import Waits
from saeft_ray.storage.s3 import PART, S3
from saeft_ray.storage.store import Damaged, Store

BYTES = bytes(range(256)) * 1200
SMALL = BYTES[:10240]  # travels with its manifest


class Proxy(Faulty):
    """A sound one unless told otherwise: `asked` is what came through, `lie` may change a body or an answer."""

    def __init__(self, endpoint, lie_up=None, lie_down=None):
        super().__init__(endpoint, rate=0.0)
        self.asked, self.lie_up, self.lie_down = [], lie_up, lie_down

    def forward(self, method, path, headers, body):
        self.asked.append(method)
        body = self.lie_up(method, path, body) if self.lie_up else body
        answer = super().forward(method, path, headers, body)
        return self.lie_down(method, path, *answer) if self.lie_down else answer


@pytest.fixture
def through(s3, s3_url, tmp_path, monkeypatch):
    """Opens a store behind a proxy of these lies."""
    opened = []

    def open_(**lies):
        proxy = Proxy(s3.endpoint, **lies).__enter__()
        opened.append(proxy)
        return proxy, Store(f"{s3_url}/x", endpoint=proxy.endpoint, cache=tmp_path / f"cache-{len(opened)}")

    yield open_
    for proxy in opened:
        proxy.__exit__()


def write(content=BYTES):
    return lambda folder: (folder / "weights.bin").write_bytes(content)


def is_content(path):
    return "weights.bin" in path or "manifest.json" in path


def flipped(data):
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


@pytest.mark.parametrize(
    ("content", "sent", "read"),
    [
        pytest.param(BYTES, ["PUT", "PUT"], ["GET", "GET"], id="the content, the manifest"),
        pytest.param(SMALL, ["PUT"], ["GET"], id="both in one"),
    ],
)
def test_an_artifact_takes_few_requests(through, content, sent, read):
    proxy, store = through()
    store.check_writable()
    proxy.asked.clear()
    store.save("sae", "k", write(content))
    assert proxy.asked == sent
    proxy.asked.clear()
    copy = pickle.loads(pickle.dumps(store))
    copy.ensure("sae", "k2", write(content))
    assert proxy.asked == ["GET", *sent], "a look; a copy knows that the server refuses a second writer"
    other, there = through()
    there.get("sae", "k")
    assert other.asked == read


def test_who_does_not_know_whether_a_second_writer_is_refused_looks_first(through):
    proxy, store = through()
    store.write_once("rows/a", b"1")
    assert proxy.asked == ["HEAD", "PUT"]


def test_a_server_that_ignores_the_condition_is_told_and_looked_at_first(s3_url, monkeypatch, caplog):
    put = S3.pipe_file
    monkeypatch.setattr(S3, "pipe_file", lambda self, place, data, mode="overwrite": put(self, place, data))
    store = Store(s3_url)
    with caplog.at_level(logging.WARNING):
        store.check_writable()
    assert "ignores If-None-Match" in caplog.text
    store.write_once("rows/a", b"1")
    with pytest.raises(FileExistsError, match="written only once"):
        store.write_once("rows/a", b"2")
    assert store.read_bytes("rows/a") == b"1"


def test_the_server_refuses_content_that_differs_from_its_checksum(s3):
    bucket, client = s3.bucket(), s3.client()
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        client.put_object(Bucket=bucket, Key="a", Body=BYTES, ChecksumSHA256=wrong)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("content", [SMALL, BYTES, os.urandom(2 * PART + 1)])
def test_what_changes_on_its_way_up_is_refused_and_sent_again(through, content):
    spoiled = []

    def spoil(method, path, body):
        if method == "PUT" and is_content(path) and not spoiled:
            spoiled.append(path)
            return flipped(body)
        return body

    _, store = through(lie_up=spoil)
    store.ensure("sae", "k", write(content))
    assert spoiled
    _, other = through()
    assert (other.get("sae", "k") / "weights.bin").read_bytes() == content


@pytest.mark.parametrize("content", [SMALL, BYTES])
def test_what_cannot_be_sent_leaves_nothing_in_the_cache(through, tmp_path, content):
    proxy, store = through()
    store.check_writable()
    store._fs._waits = Waits(0.3, 0.3)
    proxy.kinds, proxy.rate = ("AccessDenied",), 1.0
    with pytest.raises(Unavailable, match="Access Denied"):
        store.save("sae", "k", write(content))
    assert not list(tmp_path.rglob("weights.bin"))


@pytest.mark.parametrize("content", [SMALL, BYTES])
def test_what_changes_on_its_way_down_is_damaged(through, content):
    _, store = through()
    store.ensure("sae", "k", write(content))

    def spoil(method, path, status, headers, data):
        spoilt = method == "GET" and is_content(path) and len(data) > len(SMALL) - 1
        return status, headers, flipped(data) if spoilt else data

    _, other = through(lie_down=spoil)
    with pytest.raises(Damaged, match=r"weights\.bin: content differs from its SHA-256"):
        other.get("sae", "k")


def test_what_changes_once_on_its_way_down_is_asked_for_again(through):
    _, store = through()
    store.ensure("sae", "k", write(SMALL))
    spoiled = []

    def spoil(method, path, status, headers, data):
        if method == "GET" and not spoiled:
            spoiled.append(path)
            return status, headers, flipped(data)
        return status, headers, data

    proxy, other = through(lie_down=spoil)
    assert (other.get("sae", "k") / "weights.bin").read_bytes() == SMALL
    assert spoiled
    assert proxy.asked == ["GET", "GET"]


def without_checksum(method, path, status, headers, data):
    return status, [(name, value) for name, value in headers if "checksum" not in name.lower()], data


def test_a_server_that_compares_no_checksum_is_asked_for_the_size(through):
    proxy, store = through(lie_down=without_checksum)
    store.check_writable()
    proxy.asked.clear()
    store.ensure("sae", "k", write())
    assert proxy.asked == ["GET", "PUT", "HEAD", "PUT"]

    def shorter(method, path, status, headers, data):
        status, headers, data = without_checksum(method, path, status, headers, data)
        changed = [(name, "7" if name.lower() == "content-length" else value) for name, value in headers]
        return status, changed if method == "HEAD" and is_content(path) else headers, data

    _, lying = through(lie_down=shorter)
    with pytest.raises(OSError, match=r"weights\.bin: 307200 bytes sent, 7 stored"):
        lying.ensure("sae", "k2", write())
    assert not store.has("sae", "k2")


@pytest.mark.parametrize(
    "kind", ["cut", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("lost answer", "reset"))]
)
def test_a_faulty_way_changes_nothing(s3, s3_url, tmp_path, kind):
    sizes = {"small": SMALL, "middle": BYTES, "large": os.urandom(3 * PART + 5)}
    with Faulty(s3.endpoint, rate=0.25, kinds=(kind,), seed=1) as proxy:
        stores = [Store(s3_url, endpoint=proxy.endpoint, cache=tmp_path / side) for side in "ab"]
        for key, content in sizes.items():
            stores[0].ensure("sae", key, write(content))
            assert (stores[1].get("sae", key) / "weights.bin").read_bytes() == content
    assert proxy.seen[kind]
    manifests = [path for path in Store(s3_url).list() if path.endswith("/manifest.json")]
    assert manifests == [f"artifacts/sae/{key}/manifest.json" for key in sorted(sizes)]


def test_an_object_that_was_cut_off_between_two_parts_is_damaged(s3, s3_url, tmp_path):
    Store(s3_url, cache=tmp_path / "a").ensure("sae", "k", write(bytes(2 * PART + 1)))
    store = Store(s3_url, cache=tmp_path / "b")
    found = store.manifest("sae", "k")
    store.write(f"artifacts/sae/k/{found.build}/weights.bin", bytes(PART))
    with pytest.raises(Damaged, match=rf"{PART} bytes, not {2 * PART + 1}"):
        store.get("sae", "k")


def test_an_error_of_the_disk_names_the_file(s3, s3_url):
    Store(s3_url).write("a", BYTES)
    with pytest.raises(OSError, match="No space left") as caught:
        S3(s3.endpoint).get_part(f"{s3_url}/a", Path("/dev/full"), 0, len(BYTES))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


def test_a_bucket_that_is_gone_holds_not_nothing(s3_url):
    store = Store(s3_url.replace("tests-", "gone-"))
    store._fs._waits = Waits(0.3, 0.3)
    with pytest.raises(Unavailable, match="No such bucket"):
        store.list("rows")


def test_empty_files_travel(s3_url, tmp_path):
    Store(s3_url, cache=tmp_path / "a").ensure("sae", "k", write(b""))
    assert (Store(s3_url, cache=tmp_path / "b").get("sae", "k") / "weights.bin").read_bytes() == b""
