"""iWildCam and FMoW of WILDS, from their metadata files (Koh et al. 2021)."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saeft_ray.datasets import Role
from saeft_ray.datasets.images.files import Place, Samples, some
from saeft_ray.datasets.images.find import find
from saeft_ray.datasets.images.parts import Part, Tabled
from saeft_ray.draws import IntArray
from saeft_ray.errors import Unseen, UserError
from saeft_ray.storage.location import Location

_PUBLISHED = {
    "iwildcam": {"train": 129_809, "selection": 7_314, "id_test": 8_154, "ood_test": 42_791},
    "fmow": {"train": 76_863, "selection": 11_483, "id_test": 11_327, "ood_test": 22_108},
}
_CLASSES = {"iwildcam": 182, "fmow": 62}
_OOD_FROM, _TEST_FROM = "2013", "2016"  # FMoW: years of the shift in time


class Wilds(Tabled):
    """`root` is the folder that WILDS unpacks (`iwildcam_v2.0`, `fmow_v1.1`): metadata, and images as files or shards.

    Trained on `train` and selected by the ID validation split; the test sets are `id_test` and `ood_test`, and WILDS's
    OOD validation split is left out. Beside accuracy, iWildCam has `macro_f1` (over the classes that occur, as WILDS
    defines it) and FMoW `worst_region_accuracy` (without the region "Other").
    """

    type: Literal["wilds"] = "wilds"
    name: Literal["iwildcam", "fmow"]
    root: Place

    def test_sets(self) -> dict[str, Role]:
        return {"id_test": "id", "ood_test": "ood"}

    def _published(self) -> dict[str, int]:
        return _PUBLISHED[self.name]

    def _unread(self) -> tuple[Sequence[str], dict[str, int]]:
        return [f"class {i}" for i in range(_CLASSES[self.name])], _PUBLISHED[self.name]

    def _read(self) -> tuple[Sequence[str], dict[str, Part]]:
        samples = find(self.location(self.root))
        return (self._iwildcam if self.name == "iwildcam" else self._fmow)(samples)

    def _iwildcam(self, samples: Samples) -> tuple[Sequence[str], dict[str, Part]]:
        rows = list(_table(self.location(self.root), "metadata.csv", "split", "filename", "y"))
        words = {int(row["y"]): row["name"] for row in _table(self.location(self.root), "categories.csv", "y", "name")}
        files = [f"train/{row['filename']}" for row in rows]
        labels = np.array([int(row["y"]) for row in rows], np.int64)
        splits = np.array([row["split"] for row in rows])
        names = {"train": "train", "selection": "id_val", "id_test": "id_test", "ood_test": "test"}
        position = _positions(samples, files)
        parts = {
            name: Part(samples, position[splits == split], labels[splits == split], macro_f1)
            for name, split in names.items()
        }
        return [words.get(i, f"species {i}") for i in range(int(labels.max()) + 1)], parts

    def _fmow(self, samples: Samples) -> tuple[Sequence[str], dict[str, Part]]:
        rows = list(
            _table(self.location(self.root), "rgb_metadata.csv", "split", "category", "country_code", "timestamp")
        )
        countries = _table(self.location(self.root), "country_code_mapping.csv", "alpha-3", "region")
        region_of = {row["alpha-3"]: row["region"] for row in countries}
        categories = sorted({row["category"] for row in rows})
        label_of = {category: i for i, category in enumerate(categories)}
        labels = np.array([label_of[row["category"]] for row in rows], np.int64)
        regions = np.array([region_of.get(row["country_code"], "Other") for row in rows])
        splits, times = (np.array([row[column] for row in rows]) for column in ("split", "timestamp"))
        early, late = times < _OOD_FROM, times >= _TEST_FROM  # ISO 8601 sorts as text
        chosen = {
            "train": early & (splits == "train"),
            "selection": early & (splits == "val"),
            "id_test": early & (splits == "test"),
            "ood_test": late & (splits == "test"),
        }
        used = np.logical_or.reduce(list(chosen.values()))
        position = np.full(len(rows), -1, np.int64)  # an image is named by its line, also where others are left out
        position[used] = _positions(samples, [f"images/rgb_img_{i}.png" for i in np.flatnonzero(used).tolist()])
        parts = {
            name: Part(samples, position[rows_], labels[rows_], WorstRegion(regions[rows_]))
            for name, rows_ in chosen.items()
        }
        return [category.replace("_", " ") for category in categories], parts


def macro_f1(predicted: IntArray, labels: IntArray) -> dict[str, float]:
    """The mean over the classes that occur among `labels` of 2·TP / (2·TP + FP + FN)."""
    scores = []
    for c in np.unique(labels):
        right = int(((predicted == c) & (labels == c)).sum())
        scores.append(2 * right / (int((predicted == c).sum()) + int((labels == c).sum())))
    return {"macro_f1": float(np.mean(scores))}


class WorstRegion:
    """Accuracy in the region where it is lowest, "Other" aside."""

    def __init__(self, regions: NDArray[np.str_]) -> None:
        self._regions = regions

    def __call__(self, predicted: IntArray, labels: IntArray) -> dict[str, float]:
        right = predicted == labels
        regions = set(self._regions.tolist()) - {"Other"}
        each = [float(right[self._regions == region].mean()) for region in regions]
        return {"worst_region_accuracy": min(each)} if each else {}


def _table(root: Location, name: str, *columns: str) -> Iterator[dict[str, str]]:
    """Lines of a CSV file. Raises Unseen if it is missing, ValueError if it has not these columns."""
    try:
        text = (root / name).read().decode()
    except FileNotFoundError as error:
        raise Unseen(f"{root.url}/{name} is missing; WILDS ships it with the images") from error
    reader = csv.DictReader(StringIO(text))
    if absent := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise UserError(f"{root.url}/{name}: has no column {some(absent)}; it has {', '.join(reader.fieldnames or ())}")
    for row in reader:
        if None in row or None in row.values():
            raise UserError(
                f"{root.url}/{name}, line {reader.line_num}: has more or fewer cells than the header; the file is cut "
                "or damaged, so copy it again"
            )
        yield row


def _positions(samples: Samples, files: Sequence[str]) -> IntArray:
    """Where `files` are in the listing. Raises UserError that names those that are missing."""
    position = {file: i for i, file in enumerate(samples.files)}
    if absent := [file for file in files if file not in position]:
        words = "which is missing" if len(absent) == 1 else "which are missing"
        raise UserError(f"{samples.place}: the metadata names {some(absent)}, {words}")
    return np.array([position[file] for file in files], np.int64)
