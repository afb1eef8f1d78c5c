"""Finds the images at a place: in a folder of class folders, here or at a URL, or in tar shards."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from saeft_ray.datasets.images import shards
from saeft_ray.datasets.images.files import LocalFolder, RemoteFolder, Samples, of_system, some, sort_out, suffix_of
from saeft_ray.errors import Unavailable, Unseen, UserError
from saeft_ray.storage.location import Entry, Location


def find(location: Location) -> Samples:
    """The images at `location`. Links are followed. Raises Unseen if it is missing or unreachable, UserError for what
    cannot be used."""
    place = location.url
    try:
        listed = _entries(place) if location.local else location.entries()
    except FileNotFoundError as error:
        raise Unseen(f"{place} is missing; correct the path") from error
    except NotADirectoryError as error:
        raise UserError(f"{place} is not a folder; correct the path") from error
    except Unavailable as error:
        raise Unseen(f"{place} cannot be read{str(error).removeprefix(place)}") from error
    except (ImportError, ValueError) as error:  # a scheme that fsspec does not know, or lacks a package for
        raise UserError(f"{place} cannot be opened: {error}") from error
    except Exception as error:  # what a server answers, in the words of its library
        raise Unseen(f"{place} cannot be read: {str(error) or type(error).__name__}") from error
    files = {name: entry.size for name, entry in listed.items() if not entry.is_folder}
    tars = {name: size for name, size in files.items() if suffix_of(name) == ".tar" and not of_system(name)}
    classes = sorted(name for name, entry in listed.items() if entry.is_folder and not of_system(name))
    tree = _Tree(location, files, classes)
    if shards.INDEX in files or tars:
        if tree.images:
            held = sorted({file.partition("/")[0] for file, _ in tree.images})
            raise UserError(
                f"{place} has archives ({some(sorted(tars) or [shards.INDEX])}) and class folders ({some(held)}); "
                "move one of them elsewhere"
            )
        return shards.opened(location, tars, shards.INDEX in files)
    names, sizes = [file for file, _ in tree.images], [size for _, size in tree.images]
    found: Samples
    if location.local:
        found = LocalFolder(place, classes, names, sizes)
    else:
        found = RemoteFolder(location, dict(tree.images), classes)
    found.passed_over, found.faults = tree.passed_over, tree.faults
    return found


class _Tree:
    """What lies in and below a folder, sorted into what is used, what is passed over, and what is wrong."""

    def __init__(self, location: Location, top: Mapping[str, int], classes: Sequence[str]) -> None:
        self._broken = list[str]()
        self._odd = Counter[str]()
        self._real = dict[tuple[int, int], list[str]]()  # the class folders that one folder stands for
        if location.local:
            self._broken += [name for name in top if not (of_system(name) or Path(location.url, name).exists())]
            top = {name: size for name, size in top.items() if name not in self._broken}
            below = [found for name in classes for found in self._class(location.url, name)]
        elif classes:
            below = [(file, size) for file, size in location.files().items() if "/" in file]
        else:
            below = []
        self.images, others, unreadable = sort_out([*top.items(), *below])
        self.passed_over = others + self._odd
        self.faults = list[str]()
        if self._broken:
            self.faults.append(
                f"{location.url} has links that lead to nothing ({some(sorted(self._broken))}); restore or remove them"
            )
        if unreadable:
            kinds = ", ".join(sorted({suffix_of(file) for file in unreadable}))
            self.faults.append(
                f"{location.url} has {len(unreadable):,} pictures of types that cannot be read ({kinds}: "
                f"{some(unreadable)}); convert or remove them"
            )
        self.faults += [
            f"{location.url}: the class folders {some(names)} are one folder; remove all but one of these links"
            for names in self._real.values()
            if len(names) > 1
        ]

    def _class(self, place: str, name: str) -> Iterator[tuple[str, int]]:
        path = f"{place}/{name}"
        self._real.setdefault(_identity(path), []).append(name)
        return self._walk(path, name, (_identity(place),))

    def _walk(self, folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, int]]:
        here = _identity(folder)
        if here in above:
            self._odd["link back to a folder above"] += 1
            return
        for entry in _inside(folder):
            if of_system(entry.name):
                continue
            name = f"{prefix}/{entry.name}"
            try:
                found = entry.stat()
            except OSError:
                self._broken.append(name)
                continue
            if stat.S_ISDIR(found.st_mode):
                yield from self._walk(entry.path, name, (*above, here))
            elif stat.S_ISREG(found.st_mode):
                yield name, found.st_size
            else:  # to read a pipe would take for ever
                self._odd["special file"] += 1


def _entries(folder: str) -> dict[str, Entry]:
    """The entries of a local folder, links followed; one that leads to nothing is an empty file."""
    found = {}
    for entry in _inside(folder):
        try:
            about = entry.stat()
        except OSError:
            found[entry.name] = Entry(0)
        else:
            found[entry.name] = Entry(about.st_size, stat.S_ISDIR(about.st_mode))
    return found


def _inside(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError as error:
        raise UserError(f"{folder}: this user may not read it; give the right to, or remove it") from error


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_dev, found.st_ino
