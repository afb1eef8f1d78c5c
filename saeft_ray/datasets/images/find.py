"""Finds the images at a place: in a folder of class folders, here or at a URL, or in tar shards."""

import os
from collections.abc import Iterator
from pathlib import Path

from saeft_ray.datasets.images import shards
from saeft_ray.datasets.images.files import LocalFolder, RemoteFolder, Samples, is_image
from saeft_ray.errors import Unavailable, Unseen, UserError
from saeft_ray.storage.location import Location


def find(location: Location) -> Samples:
    """The images at `location`. Raises Unseen if it is missing or unreachable, UserError for what cannot be used."""
    place = location.url
    try:
        listed = location.entries()
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
    tars = {name: entry.size for name, entry in listed.items() if name.endswith(".tar")}
    if shards.INDEX in listed or tars:
        return shards.opened(location, tars, shards.INDEX in listed)
    classes = sorted(name for name, entry in listed.items() if entry.is_folder and not name.startswith("."))
    if location.local:
        found = sorted((file, size) for name in classes for file, size in _images(Path(place, name), name))
        return LocalFolder(place, classes, [file for file, _ in found], [size for _, size in found])
    return RemoteFolder(
        location, {file: size for file, size in sorted(location.files().items()) if is_image(file)}, classes
    )


def _images(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _images(Path(entry.path), f"{prefix}/{entry.name}")
        elif is_image(f"{prefix}/{entry.name}"):
            yield f"{prefix}/{entry.name}", entry.stat().st_size
