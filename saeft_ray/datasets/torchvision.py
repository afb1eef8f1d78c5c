"""The paper's transfer sets, as torchvision reads them from disk; nothing is downloaded.

No test image is trained on or selected with. Where the authors give a validation split it is the selection split,
otherwise `selection_share` of the training images is held out, stratified; Caltech101 and EuroSAT, which come without
any split, are cut into 60 % train, 20 % selection and 20 % test.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from saeft_ray.datasets import Role
from saeft_ray.datasets.images.files import Place, Samples
from saeft_ray.datasets.images.parts import Arrays, Files, Part, Tabled, miss, whole
from saeft_ray.errors import Unseen, UserError

Name = Literal[
    "CIFAR10",
    "CIFAR100",
    "STL10",
    "DTD",
    "Caltech101",
    "Flowers102",
    "StanfordCars",
    "FGVCAircraft",
    "OxfordIIITPet",
    "EuroSAT",
]
_TRAIN_TEST: dict[str, tuple[dict[str, Any], ...]] = {
    "CIFAR10": ({"train": True}, {"train": False}),
    "CIFAR100": ({"train": True}, {"train": False}),
    "STL10": ({"split": "train"}, {"split": "test"}),
    "StanfordCars": ({"split": "train"}, {"split": "test"}),
    "OxfordIIITPet": ({"split": "trainval"}, {"split": "test"}),
}
_WITH_VALIDATION = ("DTD", "Flowers102", "FGVCAircraft")
_PUBLISHED: dict[str, tuple[int, ...]] = {  # train with what is held out of it, or train and val; test
    "CIFAR10": (50_000, 10_000),
    "CIFAR100": (50_000, 10_000),
    "STL10": (5_000, 8_000),
    "StanfordCars": (8_144, 8_041),
    "OxfordIIITPet": (3_680, 3_669),
    "DTD": (1_880, 1_880, 1_880),
    "Flowers102": (1_020, 1_020, 6_149),
    "FGVCAircraft": (3_334, 3_333, 3_333),
    "Caltech101": (8_677,),
    "EuroSAT": (27_000,),
}


_CLASSES = {
    **{"CIFAR10": 10, "CIFAR100": 100, "STL10": 10, "DTD": 47, "Caltech101": 101, "Flowers102": 102},
    **{"StanfordCars": 196, "FGVCAircraft": 100, "OxfordIIITPet": 37, "EuroSAT": 10},
}


class CifarC(BaseModel):
    """CIFAR-C: `path`/<corruption>.npy with five severities of the test images, and labels.npy."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    path: Place
    corruptions: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    severities: Annotated[tuple[Annotated[int, Field(ge=1, le=5)], ...], Field(strict=False, min_length=1)] = (5,)


class Torchvision(Tabled):
    """A data set of torchvision in local folder `root`. Its test split is the test set `test`; CIFAR has more."""

    type: Literal["torchvision"] = "torchvision"
    name: Name
    root: Place
    selection_share: float = Field(default=0.1, gt=0, lt=1)
    cifar10_1: Place | None = None  # folder with cifar10.1_v6_data.npy and cifar10.1_v6_labels.npy
    cifar10_2: Place | None = None  # file cifar102_test.npz
    cifar_c: CifarC | None = None

    def test_sets(self) -> dict[str, Role]:
        roles: dict[str, Role] = {"test": "id"}
        return roles | dict.fromkeys(self._shifts(), "ood")

    def _shifts(self) -> dict[str, Any]:
        """The shifted test sets by name, as what reads them."""
        found: dict[str, Any] = {}
        if self.cifar10_1:
            found["CIFAR-10.1"] = partial(_cifar10_1, self.cifar10_1)
        if self.cifar10_2:
            found["CIFAR-10.2"] = partial(_cifar10_2, self.cifar10_2)
        for corruption in self.cifar_c.corruptions if self.cifar_c else ():
            for severity in self.cifar_c.severities if self.cifar_c else ():
                assert self.cifar_c
                found[f"C-{corruption}-{severity}"] = partial(_cifar_c, self.cifar_c.path, corruption, severity)
        return found

    def _read(self) -> tuple[Sequence[str], dict[str, Part]]:
        if not self.name.startswith("CIFAR") and self._shifts():
            raise UserError(f"cifar10_1, cifar10_2 and cifar_c are not test sets of {self.name}; remove them")
        if self.name != "CIFAR10" and (self.cifar10_1 or self.cifar10_2):
            raise UserError(f"cifar10_1 and cifar10_2 are not test sets of {self.name}; remove them")
        if self.name in _WITH_VALIDATION:
            read = [self._opened({"split": split}) for split in ("train", "val", "test")]
            parts = {name: part for name, (_, part) in zip(("train", "selection", "test"), read, strict=True)}
        elif self.name in _TRAIN_TEST:
            read = [self._opened(arguments) for arguments in _TRAIN_TEST[self.name]]
            pool = read[0][1]
            held = pool.samples.held_out(lambda count: round(self.selection_share * count))
            parts = {"train": pool.only(~held), "selection": pool.only(held), "test": read[1][1]}
        else:
            read = [self._opened({})]
            parts = _cut(read[0][1])
        if any(list(names) != list(read[0][0]) for names, _ in read):
            raise UserError(f"{self.root}: the splits of {self.name} have different classes; complete it")
        return read[0][0], parts | {name: shift() for name, shift in self._shifts().items()}

    def _published(self) -> dict[str, int]:
        counts = _PUBLISHED[self.name]
        known = {2: {"test": counts[-1]}, 3: dict(zip(("train", "selection", "test"), counts, strict=False))}
        more = {name: 2_000 if name.startswith("CIFAR") else 10_000 for name in self._shifts()}
        return {**known.get(len(counts), {}), **more}

    def _unread(self) -> tuple[Sequence[str], dict[str, int]]:
        counts = _PUBLISHED[self.name]
        shares = {1: (0.6, 0.2, 0.2), 2: (1 - self.selection_share, self.selection_share)}.get(len(counts), (1,))
        pool = [round(share * counts[0]) for share in shares] if len(counts) < 3 else []
        sizes = dict(zip(("train", "selection", "test"), [*pool, *counts[len(pool) and 1 :]], strict=True))
        return [f"class {i}" for i in range(_CLASSES[self.name])], {**sizes, **self._published()}

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        counts, found = _PUBLISHED[self.name], self.__dict__.get("_found")
        if not isinstance(found, tuple) or self.expect == "none" or len(counts) == 3:
            return
        pool = ("train", "selection") if len(counts) == 2 else ("train", "selection", "test")
        total = sum(len(found[1][name].members) for name in pool)
        if total != counts[0]:
            yield miss(f"{' + '.join(pool)} have", total, counts[0])

    def _opened(self, arguments: Mapping[str, Any]) -> tuple[Sequence[str], Part]:
        """Class names and one of torchvision's splits."""
        import torchvision.datasets

        if "://" in self.root:
            raise UserError(f"root: {self.root} is a URL; torchvision reads local folders, so copy or mount it")
        folder = Path(self.root, "caltech101" if self.name == "Caltech101" else "")  # which torchvision would create
        if not folder.is_dir():
            raise Unseen(f"root: {folder} is missing; correct the path")
        try:
            found: Any = getattr(torchvision.datasets, self.name)(self.root, download=False, **arguments)
        except (RuntimeError, OSError) as error:
            said = str(error).partition(" You can use")[0]
            raise UserError(f"root: torchvision finds no {self.name} in {self.root}: {said}") from error
        names = [str(name).replace("_", " ") for name in getattr(found, "classes", None) or found.categories]
        return names, whole(*_images(self.name, self.root, found))


def _images(name: str, root: str, found: Any) -> tuple[Samples, Sequence[int]]:
    """The images and labels of an opened data set of torchvision."""
    match name:
        case "CIFAR10" | "CIFAR100":
            return Arrays(root, found.data, found.targets), found.targets
        case "STL10":
            labels = found.labels.tolist()
            return Arrays(root, found.data.transpose(0, 2, 3, 1), labels), labels
        case "EuroSAT":
            files, labels = [path for path, _ in found.samples], found.targets
        case "StanfordCars":
            files, labels = [path for path, _ in found._samples], [int(label) for _, label in found._samples]
        case "OxfordIIITPet":
            files, labels = found._images, found._labels
        case "Caltech101":
            folder = Path(found.root, "101_ObjectCategories")
            numbered = zip(found.y, found.index, strict=True)
            files, labels = [folder / found.categories[y] / f"image_{i:04d}.jpg" for y, i in numbered], found.y
        case _:
            files, labels = found._image_files, found._labels
    return Files(root, [str(file) for file in files], labels), labels


def _cut(pool: Part) -> dict[str, Part]:
    """60 % train, 20 % selection, 20 % test of every class, by the hash of the file names."""
    test = pool.samples.held_out(lambda count: round(0.2 * count))
    both = pool.samples.held_out(lambda count: round(0.4 * count))
    return {"train": pool.only(~both), "selection": pool.only(both & ~test), "test": pool.only(test)}


def _cifar10_1(folder: str) -> Part:
    labels = np.load(Path(folder, "cifar10.1_v6_labels.npy"), allow_pickle=False)
    return _arrays(folder, np.load(Path(folder, "cifar10.1_v6_data.npy"), allow_pickle=False), labels)


def _cifar10_2(file: str) -> Part:
    with np.load(file, allow_pickle=False) as arrays:
        return _arrays(file, arrays["images"], arrays["labels"])


def _cifar_c(folder: str, corruption: str, severity: int) -> Part:
    pixels = np.load(Path(folder, f"{corruption}.npy"), mmap_mode="r", allow_pickle=False)
    labels = np.load(Path(folder, "labels.npy"), allow_pickle=False)
    each = len(pixels) // 5
    rows = slice((severity - 1) * each, severity * each)
    return _arrays(f"{folder}/{corruption}.npy", pixels[rows], labels[rows])


def _arrays(place: str, pixels: Any, labels: Any) -> Part:
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8 or len(labels) != len(pixels):
        raise UserError(
            f"{place}: found {pixels.dtype} {pixels.shape} images and {len(labels)} labels; "
            "expected uint8 (N, H, W, 3) and N"
        )
    numbers = [int(label) for label in labels]
    return whole(Arrays(place, pixels, numbers), numbers)
