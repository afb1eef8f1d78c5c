"""Images in tar shards (WebDataset), with an index for random access; from a URL through the node's cache.

`index.parquet` holds one line per image (name, shard, offset, size), in the order of the names, and in its metadata one
entry per shard (name, size, SHA-256). It is written last: without it a shard that we wrote does not count.
Tars without an index are indexed when they are first opened: their images are those whose name has a folder, their
class, or a `.cls` next to it, the number of their class (`tar_members.py`).
"""

import json
import os
import tarfile
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import file_digest, sha256
from io import BytesIO, FileIO
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saeft_ray.datasets.images.cache import Cache, Remote
from saeft_ray.datasets.images.files import Samples
from saeft_ray.datasets.images.tar_members import images_of, members_of
from saeft_ray.errors import UserError
from saeft_ray.storage.location import Location

INDEX = "index.parquet"
_OPEN = 256  # shards that a process keeps open


class Shard(NamedTuple):
    name: str
    size: int
    sha256: str | None  # None in a tar of others, until `python -m saeft_ray.data index` has read it
    tag: str = ""  # what the server says of its content, then


class Index(NamedTuple):
    """Columns of equal length, in the order of `files`."""

    shards: tuple[Shard, ...]
    files: tuple[str, ...]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    passed_over: Mapping[str, int] = MappingProxyType({})  # what else the tars hold, counted by suffix


class TarShards(Samples):
    """Images of shards at `location`, local or not."""

    def __init__(self, location: Location, index: Index) -> None:
        self._location = location
        super().__init__(
            location.url, sorted({file.partition("/")[0] for file in index.files}), index.files, index.size
        )
        self.shards, self._shard, self._offset = index.shards, index.shard, index.offset
        self.passed_over, self.far = index.passed_over, not location.local
        self._held: OrderedDict[int, FileIO] = OrderedDict()
        self._process, self._lock = os.getpid(), Lock()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock(), _process=os.getpid())

    @property
    def total(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self.shards)

    def fetch(self, number: int) -> None:
        """Brings a shard into the cache, if it is not there."""
        _open(self._location, self.shards[number]).close()

    def read(self, i: int) -> bytes:
        file, size = self._file(int(self._shard[i])), int(self.sizes[i])
        data = os.pread(file.fileno(), size, int(self._offset[i]))
        if len(data) < size:
            raise OSError(f"{self._url(int(self._shard[i]))}: cut off before {self.files[i]}; restore the shard")
        return data

    def read_once(self, i: int) -> bytes:
        return self.read(i) if self._location.local else self.read_part(i, 0, int(self.sizes[i]))

    def read_part(self, i: int, start: int, end: int) -> bytes:
        if self._location.local:
            return self.read(i)[start:end]
        first, end = int(self._offset[i]), min(end, int(self.sizes[i]))
        return _remote(self._location, self.shards[int(self._shard[i])]).read(first + start, first + end)

    def check_capacity(self) -> None:
        if not self._location.local:
            Cache().check(self.total, self.place)

    def name(self, i: int) -> str:
        return f"{self._url(int(self._shard[i]))}:{self.files[i]}"

    def _url(self, number: int) -> str:
        return f"{self.place}/{self.shards[number].name}"

    def _file(self, number: int) -> FileIO:
        """The shard, open; whoever still reads one that is let go keeps it open."""
        if self._process != os.getpid():  # the lock of a parent may be held for ever
            self._process, self._lock = os.getpid(), Lock()
        with self._lock:
            if number in self._held:
                self._held.move_to_end(number)
                return self._held[number]
        file = _open(self._location, self.shards[number])  # not under the lock: sixteen threads fetch sixteen shards
        with self._lock:
            self._held[number] = file
            while len(self._held) > _OPEN:
                self._held.popitem(last=False)
        return file


def opened(location: Location, tars: Mapping[str, int], indexed: bool) -> TarShards:
    """The shards at `location`, where the tars `tars` lie with their sizes.

    Raises UserError, naming them, for shards that are missing or cut off.
    """
    index = read_index(location) if indexed else scanned(location, tars)
    missing = [shard.name for shard in index.shards if shard.name not in tars]
    changed = [
        f"{shard.name} has {tars[shard.name]:,} bytes instead of {shard.size:,}"
        for shard in index.shards
        if tars.get(shard.name, shard.size) != shard.size
    ]
    if missing or changed:
        words = [*(f"{name} is missing" for name in missing), *changed]
        more = f" and {len(words) - 5} more" if len(words) > 5 else ""
        raise UserError(f"{location.url}: {', '.join(words[:5])}{more}; restore what {INDEX} lists")
    return TarShards(location, index)


def read_index(location: Location) -> Index:
    """The index at `location`. Raises UserError if it is none."""
    try:
        return from_parquet((location / INDEX).read())
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise UserError(f"{location.url}/{INDEX}: is not an index of shards ({error}); write it anew") from error


def to_parquet(index: Index) -> bytes:
    columns = {
        "name": pa.array([file.encode(errors="surrogateescape") for file in index.files], pa.binary()),
        "shard": index.shard,
        "offset": index.offset,
        "size": index.size,
    }
    about = {"shards": json.dumps([*index.shards])}
    if index.passed_over:
        about["passed_over"] = json.dumps(dict(index.passed_over))
    table = pa.table(columns).replace_schema_metadata(about)
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_parquet(data: bytes) -> Index:
    table = pq.read_table(BytesIO(data))
    shards = tuple(Shard(*entry) for entry in json.loads(table.schema.metadata[b"shards"]))
    files = tuple(name.decode(errors="surrogateescape") for name in table["name"].to_pylist())
    passed_over = json.loads(table.schema.metadata.get(b"passed_over", b"{}"))
    shard, offset, size = (table[name].to_numpy() for name in ("shard", "offset", "size"))
    return Index(shards, files, shard, offset, size, passed_over)


def scanned(location: Location, tars: Mapping[str, int], digests: bool = False) -> Index:
    """The index of tars that have none, made by reading them; kept in the cache for tars at a URL.

    With `digests` their content is read too, for its SHA-256. Raises UserError for a file that is not a whole tar of
    images.
    """
    place = location.url
    shards = [Shard(name, size, None, (location / name).info().tag) for name, size in sorted(tars.items())]
    kept = Cache().folder / f"index-2-{sha256(json.dumps([place, shards]).encode()).hexdigest()}.parquet"
    if not location.local:
        Cache().check(sum(tars.values()), place)
        if kept.exists() and not digests:
            return from_parquet(kept.read_bytes())
    lines, passed_over = [], Counter[str]()
    for number, shard in enumerate(shards):
        with _open(location, shard) as file:
            if digests:
                shards[number] = Shard(shard.name, shard.size, file_digest(file, "sha256").hexdigest())
                file.seek(0)
            try:
                members = members_of(file)
            except (tarfile.TarError, EOFError) as error:
                raise UserError(f"{place}/{shard.name}: is cut off or no tar ({error}); restore it") from error
            try:
                images, others = images_of(file, members)
            except ValueError as error:
                raise UserError(f"{place}/{shard.name}: {error}") from error
        lines += [(name, number, offset, length) for name, offset, length in images]
        passed_over += others
    if not lines:
        raise UserError(f"{place}: its tars hold no image; correct the path")
    index = sorted_index(shards, lines)._replace(passed_over=passed_over)
    if not location.local and not digests:
        temporary = kept.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(to_parquet(index))
        temporary.rename(kept)
    return index


def sorted_index(shards: Sequence[Shard], lines: Sequence[tuple[str, int, int, int]]) -> Index:
    """The index of images given as (name, shard, offset, size) in any order."""
    lines = sorted(lines)
    numbers = np.array([line[1:] for line in lines], np.int64).reshape(len(lines), 3)
    files = tuple(line[0] for line in lines)
    return Index(tuple(shards), files, numbers[:, 0].astype(np.int32), numbers[:, 1].copy(), numbers[:, 2].copy())


def _open(location: Location, shard: Shard) -> FileIO:
    """The shard where it lies, or as the cache has it."""
    return FileIO(Path(location.url, shard.name)) if location.local else Cache().open(_remote(location, shard))


def _remote(location: Location, shard: Shard) -> Remote:
    file = location / shard.name
    return Remote(file.url, shard.size, shard.sha256, file.read, shard.tag)
