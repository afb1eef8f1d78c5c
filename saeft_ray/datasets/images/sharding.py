"""Images of a folder written as tar shards with an index; tars indexed, and fetched into this node's cache."""

import hashlib
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from rich.progress import track

from saeft_ray.datasets.images.files import Samples, suffix_of
from saeft_ray.datasets.images.find import find
from saeft_ray.datasets.images.places import apart
from saeft_ray.datasets.images.shards import INDEX, Shard, TarShards, read_index, scanned, sorted_index, to_parquet
from saeft_ray.errors import UserError
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.location import Location

_WRITERS = 4
_RECORDS = "unfinished"  # the folder of what is known of each shard until there is an index


def shard(source: str, destination: str, shard_bytes: int) -> int:
    """Writes the images of `source` as shards of about `shard_bytes`, then their index; returns their number.

    Raises UserError for a source that lists what cannot be used, and a destination that holds something else or
    overlaps the source. Nothing is overwritten but what an interrupted run of this function left without a record.
    """
    if why := apart(source, destination):
        raise UserError(why)
    samples, target = find(Location(source)), Location(destination)
    if problems := list(samples.listing_problems()):
        raise UserError("\n".join(problems))
    for words in samples.notes():
        print(words)
    present = _sizes(target)
    if INDEX in present:
        known = read_index(target)
        if known.files != samples.files or known.size.tolist() != samples.sizes.tolist():
            raise UserError(f"{destination}: holds shards of other images than {source}; give another destination")
        return len(known.files)
    groups = list(_groups(samples, shard_bytes))
    if not groups:
        raise UserError(f"{source}: has no image in a class folder; correct the path")
    ours = {_name(number) for number in range(len(groups))}
    if strangers := sorted(name for name in present if suffix_of(name) == ".tar" and name not in ours):
        raise UserError(f"{destination}: holds {strangers[0]}, which is not of these shards; give another destination")
    with ThreadPoolExecutor(_WRITERS) as pool:
        writing = pool.map(
            lambda number: _written(samples, groups[number], target, number, present.get(_name(number))),
            range(len(groups)),
        )
        done = list(track(writing, "shards", len(groups), disable=not sys.stdout.isatty()))
    lines = [
        (samples.files[i], number, offset, int(samples.sizes[i]))
        for number, one in enumerate(done)
        for i, offset in zip(groups[number], one.offsets, strict=True)
    ]
    shards = [Shard(_name(number), one.size, one.sha256) for number, one in enumerate(done)]
    (target / INDEX).write(to_parquet(sorted_index(shards, lines)))
    with suppress(OSError):
        (target / _RECORDS).remove()
    return len(lines)


def index(place: str) -> int:
    """Writes the index of the tars at `place`; returns the number of their images. Raises UserError if it has one."""
    location = Location(place)
    present = _sizes(location)
    if INDEX in present:
        raise UserError(f"{place}/{INDEX}: exists already and is written only once")
    tars = {name: size for name, size in present.items() if suffix_of(name) == ".tar"}
    found = scanned(location, tars, digests=True)
    (location / INDEX).write(to_parquet(found))
    return len(found.files)


def stage(place: str) -> int:
    """Fetches the shards at `place` into this node's cache; returns their bytes."""
    location = Location(place)
    samples = find(location)
    if not isinstance(samples, TarShards) or location.local:
        raise UserError(f"{place}: is not a URL of tar shards; only those are staged")
    with ThreadPoolExecutor(8) as pool:
        firsts = pool.map(samples.fetch, range(len(samples.shards)))
        list(track(firsts, "shards", len(samples.shards), disable=not sys.stdout.isatty()))
    return samples.total


class _Record(NamedTuple):
    """The facts about a complete shard."""

    members: str  # the fingerprint of its images' names and sizes
    size: int
    sha256: str
    offsets: list[int]


def _groups(samples: Samples, shard_bytes: int) -> Iterator[list[int]]:
    """Consecutive images of about `shard_bytes` together."""
    group, size = list[int](), 0
    for i, length in enumerate(samples.sizes.tolist()):
        if group and size + length > shard_bytes:
            yield group
            group, size = [], 0
        group.append(i)
        size += length
    if group:
        yield group


def _written(samples: Samples, members: list[int], target: Location, number: int, present: int | None) -> _Record:
    """Shard `number`, written now unless it is there with its record."""
    wanted = fingerprint(
        [[samples.files[i].encode(errors="surrogateescape").hex(), int(samples.sizes[i])] for i in members]
    )
    record = target / f"{_RECORDS}/{_name(number)}.json"
    with suppress(FileNotFoundError, ValueError, TypeError):
        known = _Record(**json.loads(record.read()))
        if (known.members, known.size) == (wanted, present):
            return known
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder, _name(number))
        offsets = _tar(tar, samples, members)
        with tar.open("rb") as file:
            made = _Record(wanted, tar.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest(), offsets)
        (target / _name(number)).write(tar)
    record.write(json.dumps(made._asdict()).encode())
    return made


def _tar(path: Path, samples: Samples, members: list[int]) -> list[int]:
    """Writes the images to `path`; returns where each begins. Names and contents alone determine the bytes."""
    offsets = []
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for i in members:
            data = samples.read(i)
            if len(data) != samples.sizes[i]:
                raise UserError(
                    f"{samples.name(i)}: changed while it was read; let nobody write there, then run it again"
                )
            info = tarfile.TarInfo(samples.files[i])
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, BytesIO(data))
            offsets.append(tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
    return offsets


def _sizes(folder: Location) -> dict[str, int]:
    try:
        return {name: entry.size for name, entry in folder.entries().items() if not entry.is_folder}
    except FileNotFoundError:
        return {}


def _name(number: int) -> str:
    return f"shard-{number:05d}.tar"
