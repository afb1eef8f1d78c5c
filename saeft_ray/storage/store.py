"""Shared work, kept by what it is: content-addressed artifacts on a local folder, S3, or any other fsspec URL.

An artifact is a few files in `<url>/artifacts/<kind>/<key>/<build>/`. They are written first and
`<url>/artifacts/<kind>/<key>/manifest.json` last, so what was left half-way does not exist. The first manifest wins.
On a remote store a small artifact is one object: its files follow, byte for byte, the JSON of the manifest.
"""

import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, StringConstraints, ValidationError

from saeft_ray.errors import Damaged, Missing, UserError
from saeft_ray.storage.checksum import from_json, to_json
from saeft_ray.storage.files import NAME, Files, named, sha256_of
from saeft_ray.storage.fingerprint import canonical, fingerprint
from saeft_ray.storage.retry import WAITS, Waits

_log = logging.getLogger(__name__)
_BUILDS = 3
_SMALL = 256 << 10  # bytes of an artifact: so few take less time than one more request
_AT_ONCE = 256  # manifests in memory, with the small files that follow them
_END = b"\n}\n"  # of the JSON, where files follow; its own lines are indented
_digests: dict[tuple[str, int, int], str] = {}

_Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]


class Blob(BaseModel):
    """One file of an artifact: `size` in bytes, `sha256` in hex."""

    model_config = ConfigDict(frozen=True)
    size: NonNegativeInt
    sha256: str


class Manifest(BaseModel):
    """What makes an artifact exist."""

    model_config = ConfigDict(frozen=True)
    kind: _Name
    key: _Name
    build: _Name
    describe: dict[str, Any]
    files: dict[_Name, Blob]


class Store(Files):
    """Artifacts, and the plain files of `Files`, below one URL. Picklable."""

    def __init__(
        self, url: str, *, endpoint: str | None = None, cache: Path | None = None, waits: Waits = WAITS
    ) -> None:
        """Takes the arguments of `Files`; `cache` is the local folder for copies of remote artifacts (else
        SAEFT_RAY_CACHE of the environment, else ~/.cache/saeft_ray, on each machine its own)."""
        super().__init__(url, endpoint=endpoint, waits=waits)
        self.cache = cache

    def has(self, kind: str, key: str) -> bool:
        """Whether a manifest exists. Reads no blob."""
        return self.exists(f"{_folder(kind, key)}/manifest.json")

    def manifest(self, kind: str, key: str) -> Manifest | None:
        """The artifact's manifest, None if absent. Raises Damaged if it cannot be understood."""
        found = self._look(kind, key)
        return None if found is None else found[0]

    def manifests(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Manifest]:
        """The manifests of artifacts, by kind and key, that are there and sound; several at a time where the store is
        remote."""
        found, asked = {}, list(names)
        for start in range(0, len(asked), _AT_ONCE):
            paths = {f"{_folder(*name)}/manifest.json": name for name in asked[start : start + _AT_ONCE]}
            for path, raw in self.read_many(paths).items():
                with suppress(ValidationError, Damaged):
                    found[paths[path]] = _split(raw, path)[0]
        return found

    def size(self, kind: str, key: str) -> int | None:
        """Bytes in the artifact's files as its manifest says, None if absent."""
        found = self.manifest(kind, key)
        return None if found is None else sum(blob.size for blob in found.files.values())

    def get(self, kind: str, key: str) -> Path:
        """A local folder with the artifact's files, verified: the stored folder itself where the store is local (do
        not write there), else a cached copy. Raises Missing or Damaged."""
        found = self._look(kind, key)
        if found is None:
            raise Missing(f"{self.url}/{_folder(kind, key)}: no such artifact")
        manifest, tail = found
        if not self.local:
            return self._download(manifest, tail)
        folder = Path(self.url, _folder(kind, key), manifest.build)
        _verify(folder, manifest, str(folder))
        return folder

    def ensure(self, kind: str, key: str, build: Callable[[Path], None], describe: Mapping[str, object] = {}) -> Path:
        """Like `get`, but calls `build` with an empty local folder to fill if the artifact is absent or damaged.

        `describe` (JSON) goes into the manifest for people. Of two that build at once, both get the files of the one
        whose manifest came first. What `build` raises passes through and leaves no artifact.
        """
        described = _described(describe)  # before an hour of building
        for _ in range(_BUILDS):
            try:
                return self.get(kind, key)
            except Missing:
                pass
            except Damaged as error:
                _log.warning("%s; the artifact %s/%s is set aside and built again", error, kind, key)
                self._set_aside(kind, key, error.build)
            if built := self._build(kind, key, build, described):
                return built
        return self.get(kind, key)

    def save(self, kind: str, key: str, write: Callable[[Path], None], describe: Mapping[str, object] = {}) -> Path:
        """Like `ensure`, but does not look first: for what is at hand, where writing it costs no more than asking."""
        return self._build(kind, key, write, _described(describe)) or self.ensure(kind, key, write, describe)

    def keys(self, kind: str, prefix: str = "") -> list[str]:
        """Keys of the artifacts of `kind` that begin with `prefix`, sorted."""
        root = f"artifacts/{named(kind, 'kind')}"
        found = {path.split("/")[2] for path in self.list(root) if path.endswith("/manifest.json")}
        return sorted(key for key in found if key.startswith(prefix))

    def remove(self, kind: str, key: str) -> None:
        """Deletes what has served: a checkpoint, the shards of what is whole. Its manifest first, so that it is never
        half there."""
        self.delete(f"{_folder(kind, key)}/manifest.json")
        self.delete_folder(_folder(kind, key))
        if not self.local:
            copies = self._cached(kind, key, "*")
            for copy in copies.parent.glob(copies.name):
                shutil.rmtree(copy, ignore_errors=True)

    def check_writable(self) -> None:
        """As that of `Files`; where the store is remote, the cache of this machine too."""
        super().check_writable()
        if not self.local:
            _ = self._copies

    def _cached(self, kind: str, key: str, build: str) -> Path:
        return self._copies / fingerprint([self.url, self.endpoint]) / kind / f"{key}@{build}"

    @property
    def _copies(self) -> Path:
        """The cache's folder, made if need be. Raises UserError if it cannot be."""
        asked = self.cache or Path(os.environ.get("SAEFT_RAY_CACHE") or "~/.cache/saeft_ray")
        try:
            folder = asked.expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except (OSError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UserError(
                f"{asked}: copies of what lies on remote storage cannot be kept here ({why}); set SAEFT_RAY_CACHE to a "
                "folder of this machine that this user may write to"
            ) from error
        return folder

    def _build(self, kind: str, key: str, build: Callable[[Path], None], describe: dict[str, object]) -> Path | None:
        """The folder, as of `get`; None if another builder's manifest came first."""
        name = uuid.uuid4().hex[:12]
        place = f"{_folder(kind, key)}/{name}"
        folder = Path(self.url, place) if self.local else self._cached(kind, key, f".tmp-{name}")
        folder.mkdir(parents=True)
        with _removed_on_error(folder):
            build(folder)
            names = _plain_files(folder, f"the builder of {kind}/{key}")
            files, tail = self._send(folder, place, names)
        made = Manifest(kind=kind, key=key, build=name, describe=describe, files=files)
        path = f"{_folder(kind, key)}/manifest.json"
        try:
            # Not where the store is local: there the folder is the artifact, whose manifest may be in place already.
            with nullcontext() if self.local else _removed_on_error(folder):
                self.write_once(path, to_json(made.model_dump()) + tail)
        except FileExistsError:
            shutil.rmtree(folder, ignore_errors=True)
            self._drop(place, () if tail else names)
            return None
        if self.local:
            return folder
        cached = self._cached(kind, key, name)
        _into_cache(folder, cached, made)
        return cached

    def _send(self, folder: Path, place: str, names: Sequence[str]) -> tuple[dict[str, Blob], bytes]:
        """What the manifest says of files that were built, and what follows it: they themselves, if they are small;
        else they are in the store when this returns."""
        sizes = {name: (folder / name).stat().st_size for name in names}
        small = not self.local and sum(sizes.values()) <= _SMALL
        files = {}
        for name, size in sizes.items():
            here = small or self.local
            digest = _sha256(folder / name) if here else self.put_file(folder / name, f"{place}/{name}")
            files[name] = Blob(size=size, sha256=digest)
        return files, b"\n" + b"".join((folder / name).read_bytes() for name in names) if small else b""

    def _drop(self, place: str, files: Sequence[str]) -> None:
        """Removes what lost against another builder; left-overs only cost space."""
        if not self.local:
            for file in files:
                with suppress(OSError):
                    self.delete(f"{place}/{file}")

    def _look(self, kind: str, key: str) -> tuple[Manifest, bytes | None] | None:
        """The manifest, and of a small artifact what follows it. Raises as `manifest`."""
        path = f"{_folder(kind, key)}/manifest.json"
        try:
            found, tail = _split(self.read_bytes(path), f"{self.url}/{path}")
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise Damaged(f"{self.url}/{path}: not a manifest ({error.error_count()} faults)") from error
        if (found.kind, found.key) != (kind, key):
            raise Damaged(f"{self.url}/{path}: is the manifest of {found.kind}/{found.key}", found.build)
        return found, tail

    def _download(self, manifest: Manifest, tail: bytes | None) -> Path:
        target = self._cached(manifest.kind, manifest.key, manifest.build)
        temporary = self._cached(manifest.kind, manifest.key, f".tmp-{uuid.uuid4().hex}")
        if target.exists():
            try:
                _verify(target, manifest, str(target))
                return target
            except Damaged as error:
                _log.warning("%s; the cached copy is fetched again", error)
                with suppress(FileNotFoundError):
                    target.rename(temporary)
                shutil.rmtree(temporary, ignore_errors=True)
        place = f"{_folder(manifest.kind, manifest.key)}/{manifest.build}"
        temporary.mkdir(parents=True)
        with _removed_on_error(temporary):
            for file, blob in manifest.files.items():
                if tail is not None:
                    (temporary / file).write_bytes(tail[: blob.size])
                    tail = tail[blob.size :]
                    continue
                with suppress(FileNotFoundError):
                    _remember(temporary / file, self.get_file(f"{place}/{file}", temporary / file, blob.size))
            _verify(temporary, manifest, f"{self.url}/{place}")
        _into_cache(temporary, target, manifest)
        return target

    def _set_aside(self, kind: str, key: str, build: str) -> None:
        """Renames the manifest of `build`, unless another process already put a new one in its place. Between the
        look and the removal a new one can still be lost: then its artifact is only built once more."""
        path = f"{_folder(kind, key)}/manifest.json"
        with suppress(FileNotFoundError):
            raw = self.read_bytes(path)
            if _build_of(raw) != build:
                return
            with suppress(FileExistsError):
                name = build or f"unreadable-{fingerprint(raw.hex())}"
                self.write_once(f"{_folder(kind, key)}/manifest.damaged-{name}.json", raw)
            self.delete(path)


def _folder(kind: str, key: str) -> str:
    return f"artifacts/{named(kind, 'kind')}/{named(key, 'key')}"


def _described(describe: Mapping[str, object]) -> dict[str, object]:
    """A copy that is plain JSON. Raises TypeError for a value that JSON cannot hold."""
    described: dict[str, object] = json.loads(canonical(describe))
    return described


def _split(raw: bytes, shown: str) -> tuple[Manifest, bytes | None]:
    """A manifest, and what follows it. Raises ValidationError or Damaged."""
    text, end, tail = raw.partition(_END)
    manifest = Manifest.model_validate(from_json(text + end[:-1], shown))
    return manifest, tail if end else None


def _build_of(raw: bytes) -> str:
    """The build that a manifest names, "" if it cannot be trusted."""
    try:
        return _split(raw, "manifest")[0].build
    except (ValidationError, Damaged):
        return ""


def _plain_files(folder: Path, whose: str) -> list[str]:
    """The names that a builder left. Raises UserError for what an artifact cannot hold."""
    entries = sorted(folder.iterdir())
    if not entries:
        raise UserError(f"{whose} wrote no file")
    for entry in entries:
        named(entry.name, whose)
        if entry.is_symlink() or not entry.is_file():
            raise UserError(f"{whose} left {entry.name!r}: an artifact is plain files, no folders and no links")
    return [entry.name for entry in entries]


def _verify(folder: Path, manifest: Manifest, shown: str) -> None:
    """Raises Damaged, naming the file as below `shown`, unless every file is what the manifest says."""
    for name, blob in manifest.files.items():
        file, fault = folder / name, ""
        try:
            size = file.stat().st_size
            if size != blob.size:
                fault = f"{size} bytes, not {blob.size}"
            elif _sha256(file) != blob.sha256:
                fault = "content differs from its SHA-256"
        except FileNotFoundError:
            fault = "missing"
        if fault:
            raise Damaged(f"{shown}/{name}: {fault}", manifest.build)


def _sha256(file: Path) -> str:
    """Hex digest; a file whose path, size and time of change are known in this process is not read again."""
    known = _digests.get(_state(file))
    if known is None:
        known = sha256_of(file)
        _remember(file, known)
    return known


def _remember(file: Path, digest: str) -> None:
    _digests[_state(file)] = digest


def _state(file: Path) -> tuple[str, int, int]:
    status = file.stat()
    return str(file), status.st_size, status.st_mtime_ns


def _into_cache(folder: Path, target: Path, manifest: Manifest) -> None:
    """Moves verified files to their place in the cache, unless another process was first."""
    try:
        folder.rename(target)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        _verify(target, manifest, str(target))
        return
    for name, blob in manifest.files.items():
        _remember(target / name, blob.sha256)


@contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
