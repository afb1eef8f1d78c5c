"""ImageNet's classes as far as they are known without its images, from packages that publish them."""

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from saeft_ray.datasets.images.files import some
from saeft_ray.draws import IntArray
from saeft_ray.errors import UserError
from saeft_ray.storage.location import Location

PUBLISHED = {
    "train": 1_281_167,
    "ImageNet": 50_000,
    "V2": 10_000,
    "R": 30_000,
    "A": 7_500,
    "Sketch": 50_889,
    "ObjectNet": 18_574,
}
"""Images of each set; of ObjectNet those of the 113 classes that ImageNet has too."""
A_CLASS = {"ImageNet": 50, "V2": 10}
"""Images of each class, where every class has as many."""


@lru_cache(maxsize=4)
def synsets(name: str = "imagenet_synsets") -> tuple[str, ...]:
    """The 1,000 WordNet ids in label order; or the 200 of `imagenet_a_synsets` and `imagenet_r_synsets`."""
    spec = find_spec("timm")  # its files alone: importing it would import torch
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0], "data", "_info", f"{name}.txt")
    return tuple(file.read_text().split())


def names(wnids: Sequence[str]) -> list[str]:
    """open_clip's names of the classes."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    known = dict(zip(synsets(), IMAGENET_CLASSNAMES, strict=True))
    return [known[wnid] for wnid in wnids]


def templates() -> tuple[str, ...]:
    """The 80 templates of CLIP's ImageNet head."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def wnid_of(folder: str) -> str | None:
    """The class of a folder: a WordNet id, or the number of a class in label order, as V2 and `.cls` files have it."""
    known = synsets()
    if folder.isascii() and folder.isdigit():
        return known[int(folder)] if int(folder) < len(known) else None
    return folder if folder in known_set() else None


@lru_cache(maxsize=1)
def known_set() -> frozenset[str]:
    return frozenset(synsets())


def among(classes: Sequence[str], held: Sequence[str]) -> IntArray:
    """`Split.class_groups` of a set that holds only `held` of `classes`."""
    there = set(held)
    return np.array([i if wnid in there else -1 for i, wnid in enumerate(classes)], np.int64)


def objectnet_classes(mappings: Location) -> dict[str, tuple[str, ...]]:
    """Folder of ObjectNet → the ImageNet classes that it represents, from the files that ObjectNet ships.

    Raises UserError if one of them is missing or does not fit the others.
    """
    folders: dict[str, str] = _json(mappings, "folder_to_objectnet_label.json")
    overlap: dict[str, str] = _json(mappings, "objectnet_to_imagenet_1k.json")
    lines: dict[str, int] = _json(mappings, "pytorch_to_imagenet_2012_id.json")  # label → line of the next file
    labels = _read(mappings, "imagenet_to_label_2012_v2").decode().splitlines()
    label_at = {line: int(label) for label, line in lines.items()}
    wnid = {name.strip(): synsets()[label_at[i]] for i, name in enumerate(labels) if i in label_at}
    folder_of = {label: folder for folder, label in folders.items()}
    try:
        found = {
            folder_of[label]: tuple(wnid[name] for name in imagenet.split("; ")) for label, imagenet in overlap.items()
        }
    except KeyError as error:
        raise UserError(
            f"{mappings.url}: the mapping files do not fit each other: nothing is known of {error}"
        ) from None
    listed = [each for wnids in found.values() for each in wnids]
    if twice := sorted({each for each in listed if listed.count(each) > 1}):
        raise UserError(
            f"{mappings.url}: two objects represent {some(twice)}, so that a prediction of it would be ambiguous"
        )
    return found


def objectnet_class_groups(classes: Sequence[str], folders: dict[str, tuple[str, ...]]) -> IntArray:
    """`Split.class_groups` of ObjectNet: any ImageNet class that an object represents counts as its first."""
    position = {wnid: i for i, wnid in enumerate(classes)}
    groups = np.full(len(classes), -1, np.int64)
    for wnids in folders.values():
        there = [position[wnid] for wnid in wnids if wnid in position]
        groups[there] = there[0] if there else -1
    return groups


def _json(folder: Location, name: str) -> Any:
    try:
        return json.loads(_read(folder, name))
    except json.JSONDecodeError as error:
        raise UserError(f"{folder.url}/{name}: is not JSON ({error}); restore it") from error


def _read(folder: Location, name: str) -> bytes:
    try:
        return (folder / name).read()
    except FileNotFoundError as error:
        raise UserError(f"{folder.url}/{name}: is missing; ObjectNet ships it in its folder `mappings`") from error
