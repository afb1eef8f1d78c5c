"""What lies at a place: a folder of class folders, here or at a URL, or tar shards."""

import os
from collections.abc import Iterator
from pathlib import Path

from saeft_ray.datasets.images import shards
from saeft_ray.datasets.images.files import LocalFolder, RemoteFolder, Samples, filesystem, is_image, is_local
from saeft_ray.errors import Unseen, UserError


def find(place: str) -> Samples:
    """The images at `place`. Raises Unseen if it is missing or unreachable, UserError for what cannot be used."""
    try:
        fs, root = filesystem(place)
    except (ImportError, ValueError) as error:  # a scheme that fsspec does not know, or lacks a package for
        raise UserError(f"{place} cannot be opened: {error}") from error
    try:
        listed = fs.ls(root, detail=True)
    except FileNotFoundError as error:
        raise Unseen(f"{place} is missing; correct the path") from error
    except NotADirectoryError as error:
        raise UserError(f"{place} is not a folder; correct the path") from error
    except Exception as error:  # what a server answers, in the words of its library
        raise Unseen(f"{place} cannot be read: {str(error) or type(error).__name__}") from error
    names = {str(entry["name"]).rstrip("/").rpartition("/")[2]: entry for entry in listed}
    if len(listed) == 1 and listed[0]["type"] == "file" and listed[0]["name"].rstrip("/") == root.rstrip("/"):
        raise UserError(f"{place} is not a folder; correct the path")
    tars = {name: int(entry["size"]) for name, entry in names.items() if name.endswith(".tar")}
    if shards.INDEX in names or tars:
        return shards.opened(place, tars, shards.INDEX in names)
    classes = sorted(n for n, entry in names.items() if entry["type"] == "directory" and not n.startswith("."))
    if is_local(place):
        found = sorted((file, size) for name in classes for file, size in _images(Path(root, name), name))
        return LocalFolder(root, classes, [file for file, _ in found], [size for _, size in found])
    below = fs.find(root, detail=True)
    start = len(fs._strip_protocol(root)) + 1
    found = sorted((path[start:], int(entry["size"])) for path, entry in below.items() if is_image(path[start:]))
    return RemoteFolder(place.rstrip("/"), classes, [file for file, _ in found], [size for _, size in found])


def _images(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _images(Path(entry.path), f"{prefix}/{entry.name}")
        elif is_image(f"{prefix}/{entry.name}"):
            yield f"{prefix}/{entry.name}", entry.stat().st_size
