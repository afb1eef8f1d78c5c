"""The files of a split wherever they lie: a local folder, a folder at a URL, or tar shards, in one fixed order.

A file's name is "class/…/name": the folder that it lies in is its class, whatever holds the folder.
"""

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator

from saeft_ray.datasets.images.decode import SUFFIXES, check
from saeft_ray.draws import IntArray
from saeft_ray.errors import Corrupt, UserError
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.location import Location

_SAMPLED = 256  # files whose content enters the fingerprint, and whose headers are checked
_NAMED = 5  # how many of many are named in one problem


def absolute(path: str) -> str:
    """A local path made whole where the command runs, since workers run elsewhere; a URL stays as it is. Raises
    UserError for a URL with credentials, which would be written into the sweep's record."""
    if "@" in path.partition("://")[2].partition("/")[0]:
        raise UserError("credentials in the URL; give them as AWS_ACCESS_KEY_ID and so on")
    return path if "://" in path or not path else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


Place = Annotated[str, AfterValidator(absolute)]
"""A local folder, or the URL of one."""


class Samples(ABC):
    """`files` are names below `place`, sorted; `sizes` their bytes; `classes` the folders, those without images too."""

    def __init__(self, place: str, classes: Sequence[str], files: Sequence[str], sizes: ArrayLike) -> None:
        self.place, self.classes, self.files = place, tuple(classes), tuple(files)
        self.sizes: IntArray = np.asarray(sizes, np.int64)

    @abstractmethod
    def read(self, i: int) -> bytes:
        """The content of file `i`."""

    def read_once(self, i: int) -> bytes:
        """The same, where few files will be read: on the machine that plans a sweep."""
        return self.read(i)

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
        if not self.classes:
            yield f"{self.place} has no class folders; put the images of each class into a folder of its own"
        if empty := sorted(set(self.classes) - set(self.folders)):
            kinds = ", ".join(sorted(SUFFIXES))
            yield f"{self.place} has class folders with no images ({some(empty)}); fill or remove them ({kinds})"
        yield from self.damaged_files()

    def damaged_files(self) -> Iterator[str]:
        """Sentences about files that are not images, among those that are looked at."""
        yield from (fault for _, fault in self._sampled if fault)

    @cached_property
    def _sampled(self) -> list[tuple[str, str]]:
        """SHA-256 of up to 256 of the files, evenly spaced, and what is wrong with each, "" for nothing."""
        chosen = np.unique(np.linspace(0, len(self.files) - 1, min(_SAMPLED, len(self.files))).astype(int))
        with ThreadPoolExecutor(16) as pool:  # for those that lie far away
            return list(pool.map(self._look, chosen.tolist()))

    def _look(self, i: int) -> tuple[str, str]:
        data = self.read_once(i)
        try:
            check(data, self.name(i))
        except Corrupt as error:
            return hashlib.sha256(data).hexdigest(), str(error)
        return hashlib.sha256(data).hexdigest(), ""


class LocalFolder(Samples):
    """Files of a local folder."""

    def read(self, i: int) -> bytes:
        return Path(self.place, self.files[i]).read_bytes()


class RemoteFolder(Samples):
    """Files at a URL, fetched one by one: for a few thousand; more of them are for shards."""

    def __init__(self, location: Location, files: dict[str, int], classes: Sequence[str]) -> None:
        super().__init__(location.url, classes, list(files), list(files.values()))
        self._location = location

    def read(self, i: int) -> bytes:
        return (self._location / self.files[i]).read()


def is_image(file: str) -> bool:
    return "/" in file and "/." not in f"/{file}" and Path(file).suffix.lower() in SUFFIXES


def _rank(file: str) -> bytes:
    return hashlib.sha256(file.encode(errors="surrogateescape")).digest()


def some(names: Sequence[str]) -> str:
    """The first few of `names`, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
