"""The files of a split wherever they lie: a local folder, a folder at a URL, or tar shards, in one fixed order.

A file's name is "class/…/name": the folder that it lies in is its class, whatever holds the folder.
"""

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator

from saeft_ray.datasets.images.decode import SUFFIXES, UNREADABLE, check
from saeft_ray.draws import IntArray
from saeft_ray.errors import Corrupt, UserError
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.location import Location

_SAMPLED = 256  # files whose content enters the fingerprint, and whose headers are checked
_NAMED = 5  # how many of many are named in one problem
_OF_SYSTEMS = frozenset(
    {"@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found"}
    | {"__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
)


def absolute(path: str) -> str:
    """A local path made whole where the command runs, since workers run elsewhere; a URL stays as it is. Raises
    UserError for a URL with credentials, which would be written into the sweep's record, and for what is mistyped."""
    if "@" in path.partition("://")[2].partition("/")[0]:
        raise UserError("credentials in the URL; give them as AWS_ACCESS_KEY_ID and so on")
    if path and "://" not in path:
        Location(path)  # which knows what is hardly meant as it stands
    return path if "://" in path or not path else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


Place = Annotated[str, AfterValidator(absolute)]
"""A local folder, or the URL of one."""


class Samples(ABC):
    """`files` are names below `place`, sorted; `sizes` their bytes; `classes` the folders, those without images too.

    `passed_over` counts what else lies there, by suffix; `faults` are sentences about what cannot be used.
    """

    passed_over: Mapping[str, int] = MappingProxyType({})
    faults: Sequence[str] = ()
    far = False  # whether to read a file is a request to a server

    def __init__(self, place: str, classes: Sequence[str], files: Sequence[str], sizes: ArrayLike) -> None:
        self.place, self.classes, self.files = place, tuple(classes), tuple(files)
        self.sizes: IntArray = np.asarray(sizes, np.int64)

    @abstractmethod
    def read(self, i: int) -> bytes:
        """The content of file `i`."""

    def read_once(self, i: int) -> bytes:
        """The same, where few files will be read: on the machine that plans a sweep."""
        return self.read(i)

    def read_part(self, i: int, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of file `i`, on the machine that plans a sweep."""
        return self.read_once(i)[start:end]

    def check_capacity(self) -> None:  # noqa: B027 - most need nothing
        """Raises UserError if this machine cannot hold what it must read."""

    def name(self, i: int) -> str:
        """Where file `i` is, for people."""
        return f"{self.place}/{self.files[i]}"

    @cached_property
    def folders(self) -> list[str]:
        """The class folder of each file."""
        return [sys.intern(file.partition("/")[0]) for file in self.files]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all names and sizes, and of the content of up to 256 files. The same for a folder and its shards."""
        names = hashlib.sha256()
        for file, size in zip(self.files, self.sizes.tolist(), strict=True):
            names.update(f"{file}\0{size}\0".encode(errors="surrogateescape"))
        contents = [digest for digest, _ in self._sampled]
        return fingerprint([list(self.classes), names.hexdigest(), contents])

    def held_out(self, count: Callable[[int], int]) -> NDArray[np.bool_]:
        """Which files are held out: `count` of the number in each class, at least one but never all, by the hash of
        their names, so that an added file changes little."""
        chosen = np.zeros(len(self.files), bool)
        by_class: dict[str, list[int]] = {}
        for i, folder in enumerate(self.folders):
            by_class.setdefault(folder, []).append(i)
        for positions in by_class.values():
            held = min(max(count(len(positions)), 1), len(positions) - 1)
            ranked = sorted(positions, key=lambda i: _rank(self.files[i]))
            chosen[ranked[:held]] = True
        return chosen

    def problems(self) -> Iterator[str]:
        yield from self.listing_problems()
        yield from self._unreadable()

    def listing_problems(self) -> Iterator[str]:
        """Those that are known before a file is opened."""
        if not self.classes:
            yield f"{self.place} has no class folders; put the images of each class into a folder of its own"
        if empty := sorted(set(self.classes) - set(self.folders)):
            kinds = ", ".join(sorted(SUFFIXES))
            yield f"{self.place} has class folders with no images ({some(empty)}); fill or remove them ({kinds})"
        yield from self._empty_files()

    def damaged_files(self) -> Iterator[str]:
        """Sentences about files that are not images: those of no bytes, and others among those that are looked at."""
        yield from self._empty_files()
        yield from self._unreadable()

    def _empty_files(self) -> Iterator[str]:
        yield from self.faults
        if empty := np.flatnonzero(self.sizes == 0).tolist():
            names = some([self.files[i] for i in empty])
            yield f"{self.place} has images of 0 bytes ({names}); restore or remove them"

    def _unreadable(self) -> Iterator[str]:
        yield from (fault for _, fault in self._sampled if fault)

    def notes(self) -> Iterator[str]:
        """Sentences about what is there and not used."""
        if self.passed_over:
            counts = ", ".join(f"{count:,} {what}" for what, count in sorted(self.passed_over.items()))
            yield f"{self.place}: passed over {counts}"

    @cached_property
    def _sampled(self) -> list[tuple[str, str]]:
        """SHA-256 of up to 256 of the files, evenly spaced, and what is wrong with each, "" for nothing."""
        chosen = np.unique(np.linspace(0, len(self.files) - 1, min(_SAMPLED, len(self.files))).astype(int))
        with ThreadPoolExecutor(16) as pool:  # for those that lie far away
            return list(pool.map(self._look, chosen.tolist()))

    def _look(self, i: int) -> tuple[str, str]:
        data = self.read_once(i)
        if not data:  # told of all of them
            return hashlib.sha256(data).hexdigest(), ""
        try:
            check(data, self.name(i))
        except Corrupt as error:
            return hashlib.sha256(data).hexdigest(), str(error)
        return hashlib.sha256(data).hexdigest(), ""


class LocalFolder(Samples):
    """Files of a local folder."""

    def read(self, i: int) -> bytes:
        return Path(self.place, self.files[i]).read_bytes()

    def read_part(self, i: int, start: int, end: int) -> bytes:
        with Path(self.place, self.files[i]).open("rb") as file:
            file.seek(start)
            return file.read(end - start)


class RemoteFolder(Samples):
    """Files at a URL, fetched one by one: for a few thousand; more of them are for shards."""

    far = True

    def __init__(self, location: Location, files: dict[str, int], classes: Sequence[str]) -> None:
        super().__init__(location.url, classes, list(files), list(files.values()))
        self._location = location

    def read(self, i: int) -> bytes:
        return (self._location / self.files[i]).read()

    def read_part(self, i: int, start: int, end: int) -> bytes:
        return (self._location / self.files[i]).read(start, end)


def of_system(name: str) -> bool:
    """Whether a file or folder of this name is a system's own, or hidden."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def sort_out(listed: Iterable[tuple[str, int]]) -> tuple[list[tuple[str, int]], Counter[str], list[str]]:
    """(the images in class folders, by name; what else there is, counted; pictures that cannot be read) of the paths
    and sizes `listed`. What belongs to a system is in none of them."""
    images, others, unreadable = [], Counter[str](), []
    for file, size in listed:
        if any(of_system(name) for name in file.split("/")):
            continue
        suffix = suffix_of(file)
        if "/" in file and suffix in SUFFIXES:
            images.append((file, size))
        elif "/" in file and suffix in UNREADABLE:
            unreadable.append(file)
        else:
            others[f"{suffix or 'without a suffix'}{' outside the class folders' * (suffix in SUFFIXES)}"] += 1
    return sorted(images), others, sorted(unreadable)


def suffix_of(file: str) -> str:
    """The last suffix of a name, in small letters and with its dot; empty if there is none."""
    name = file.rpartition("/")[2]
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def _rank(file: str) -> bytes:
    return hashlib.sha256(file.encode(errors="surrogateescape")).digest()


def some(names: Sequence[str]) -> str:
    """The first few of `names`, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
