"""Your own images: one folder a split, in it one folder a class."""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from saeft_ray import identity
from saeft_ray.datasets import Dataset, Role
from saeft_ray.draws import IntArray, uniform

if TYPE_CHECKING:
    import torch

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})
RENDER_VERSION = 1  # raise it when the same file would give other pixels
_SAMPLED = 256  # files of a folder whose content enters the fingerprint, and whose headers are checked
_NAMED = 5  # how many of many are named in one problem
_ASPECT = (math.log(3 / 4), math.log(4 / 3))
_TRIES = 10
_SLOTS = 4 * _TRIES + 1

Pixels = NDArray[np.uint8]


def _absolute(path: str) -> str:
    """A local path made whole where the command runs, since workers run elsewhere; a URL stays as it is."""
    return path if "://" in path or not path else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


LocalPath = Annotated[str, AfterValidator(_absolute)]


class TestFolder(BaseModel):
    """One test set: a folder with some or all of the class folders of `train`."""

    __test__ = False  # not a test, whatever pytest thinks of the name
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    path: LocalPath
    role: Literal["id", "ood"]


class Folder(Dataset):
    """Images in local folders. The class of an image is its folder's name, the same in every split."""

    type: Literal["folder"] = "folder"
    train: LocalPath  # folder; relative paths start where the command runs
    tests: dict[str, TestFolder]
    selection: LocalPath | None = None  # folder; without one, a share of `train` is held out
    selection_share: float = Field(default=0.1, gt=0, lt=1)  # of every class
    classes: dict[str, str] | None = None  # folder name → words; without it the folder name, "_" as a space
    templates: Annotated[tuple[str, ...], Field(strict=False)] = ("a photo of a {}.",)
    scale: Annotated[tuple[float, float], Field(strict=False)] = (0.9, 1.0)  # share of the image that a view shows
    flip: bool = False  # whether half of the views are mirrored

    def class_names(self) -> Sequence[str]:
        names = self._tree(self.train).classes
        words = {name: name.replace("_", " ") for name in names} | (self.classes or {})
        return [words[name] for name in names]

    def prompts(self) -> Sequence[str]:
        return self.templates

    def test_sets(self) -> dict[str, Role]:
        return {name: test.role for name, test in self.tests.items()}

    def sizes(self) -> dict[str, int]:
        return {name: len(self._members(name)) for name in ("train", "selection", *self.tests)}

    def split(self, name: str, image_size: int) -> "FolderSplit":
        """Raises KeyError for a name that is no split, ValueError for a folder or a class that cannot be used."""
        members = self._members(name)
        tree = self._tree(self._paths()[name])
        position = {known: label for label, known in enumerate(self._tree(self.train).classes)}
        folders = [tree.files[i].partition("/")[0] for i in members]
        strangers = sorted(set(folders) - set(position))
        if strangers:
            raise ValueError(f"{tree.root}: {_some(strangers)} in no class folder of {self.train}")
        labels = np.array([position[folder] for folder in folders], np.int64)
        return FolderSplit(tree, members, labels, image_size, self.scale, self.flip)

    def fingerprint(self) -> str:
        share = None if self.selection else self.selection_share
        known = {path: self._tree(path).fingerprint() for path in set(self._paths().values())}
        trees = {name: known[path] for name, path in self._paths().items()}
        drawn = {"scale": self.scale, "flip": self.flip, "selection_share": share, "render": RENDER_VERSION}
        return identity.fingerprint({"trees": trees, **drawn})

    def problems(self) -> list[str]:
        self._trees.clear()  # a folder may have been mended since
        return list(self._settings_problems()) + list(self._folder_problems())

    def __getstate__(self) -> dict[Any, Any]:
        # A million paths have no place in a message to another process.
        fields = {name: value for name, value in self.__dict__.items() if name in type(self).model_fields}
        return super().__getstate__() | {"__dict__": fields}

    @cached_property
    def _trees(self) -> dict[str, "Tree"]:
        return {}

    def _tree(self, path: str) -> "Tree":
        """The listing of a folder, made once. Raises ValueError for a URL, FileNotFoundError if there is none."""
        if path not in self._trees:
            self._trees[path] = listing(path)
        return self._trees[path]

    def _paths(self) -> dict[str, str]:
        return {
            "train": self.train,
            "selection": self.selection or self.train,
            **{name: test.path for name, test in self.tests.items()},
        }

    def _members(self, name: str) -> IntArray:
        """Positions of a split's images in the sorted listing of its folder."""
        paths = self._paths()
        if name not in paths:
            raise KeyError(f"the folder data has no split {name!r}; it has {', '.join(paths)}")
        tree = self._tree(paths[name])
        if self.selection is not None or name not in ("train", "selection"):
            return np.arange(len(tree.files), dtype=np.int64)
        held_out = tree.held_out(self.selection_share)
        return np.flatnonzero(held_out if name == "selection" else ~held_out).astype(np.int64)

    def _settings_problems(self) -> Iterator[str]:
        if not self.tests:
            yield "data.tests: empty; give at least one test set, such as {photos: {path: ..., role: id}}"
        for name in {"train", "selection"} & set(self.tests):
            yield f"data.tests.{name}: the name is taken by a split; give the test set another"
        if not self.templates:
            yield 'data.templates: empty; give at least one, such as "a photo of a {}."'
        for number, template in enumerate(self.templates):
            if "{}" not in template:
                yield f'data.templates[{number}]: {template!r} has no "{{}}" where the class name goes'
        low, high = self.scale
        if not 0 < low <= high <= 1:
            yield f"data.scale: {[low, high]} is no range of shares; it must be 0 < low <= high <= 1"

    def _folder_problems(self) -> Iterator[str]:
        places = {"data.train": self.train}
        if self.selection is not None:
            places["data.selection"] = self.selection
        places |= {f"data.tests.{name}.path": test.path for name, test in self.tests.items()}
        known: set[str] | None = None
        seen: dict[Path, str] = {}
        for place, path in places.items():
            try:
                tree = self._tree(path)
            except (OSError, ValueError) as error:
                yield f"{place}: {error}"
                continue
            before = seen.setdefault(Path(tree.root).resolve(), place)
            if before != place:
                yield f"{place}: {path} is also {before}; every split needs images of its own"
            yield from (f"{place}: {words}" for words in tree.problems())
            if place == "data.train":
                known = set(tree.classes)
                yield from self._class_problems(known)
            elif known:
                strangers = sorted(set(tree.classes) - known)
                if strangers:
                    yield f"{place}: {_some(strangers)} in no class folder of data.train; rename or remove"

    def _class_problems(self, known: set[str]) -> Iterator[str]:
        if self.classes is None or not known:
            return
        if extra := sorted(set(self.classes) - known):
            yield f"data.classes: {_some(extra)} in no class folder of data.train; correct or remove"
        if nameless := sorted(known - set(self.classes)):
            yield f"data.classes: no words for {_some(nameless)}; give every folder of data.train a name"


class FolderSplit:
    """Images of one split; pictures are uint8 (B, 3, S, S)."""

    def __init__(
        self,
        tree: "Tree",
        members: IntArray,
        labels: IntArray,
        image_size: int,
        scale: tuple[float, float],
        flip: bool,
    ) -> None:
        self._tree, self._members, self._size, self._scale, self._flip = tree, members, image_size, scale, flip
        self.labels = labels
        paths = "\0".join(tree.files[i] for i in members)
        self.order = hashlib.sha256(paths.encode(errors="surrogateescape")).hexdigest()

    def images(self, index: IntArray) -> "torch.Tensor":
        """The shorter side brought to S pixels (bicubic), and the centre of that."""
        return self._stack([partial(_centre, self._file(i), self._size) for i in np.asarray(index, np.int64)])

    def views(self, index: IntArray, view: IntArray, seed: int) -> "torch.Tensor":
        """A random part of the image, of `scale` of its area and an aspect of 3:4 to 4:3, brought to S × S pixels."""
        index, view = np.broadcast_arrays(np.asarray(index, np.int64), np.asarray(view, np.int64))
        # Named by the place in the whole listing, so that a view does not depend on what is held out.
        draws = uniform(seed, "folder view", self._members[index], view, slots=_SLOTS)
        return self._stack(
            [
                partial(_part, self._file(i), self._size, self._scale, draw[:-1], self._flip and draw[-1] < 0.5)
                for i, draw in zip(index, draws, strict=True)
            ]
        )

    def _file(self, index: np.int64) -> str:
        return str(Path(self._tree.root, self._tree.files[self._members[index]]))

    def _stack(self, renderings: "list[partial[Pixels]]") -> "torch.Tensor":
        import torch

        pictures = np.empty((len(renderings), self._size, self._size, 3), np.uint8)
        # Decoding and resizing leave Python's lock; order and result do not depend on the threads.
        for row, pixels in enumerate(_threads(os.getpid()).map(lambda render: render(), renderings)):
            pictures[row] = pixels
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Tree:
    """What a folder holds: `files` are "class/…/name" paths below `root`, sorted, `sizes` their bytes."""

    root: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    sizes: tuple[int, ...]

    def fingerprint(self) -> str:
        """Of all paths and sizes, and of the content of up to 256 files."""
        names = hashlib.sha256()
        for file, size in zip(self.files, self.sizes, strict=True):
            names.update(f"{file}\0{size}\0".encode(errors="surrogateescape"))
        contents = [hashlib.sha256(Path(self.root, file).read_bytes()).hexdigest() for file in self.sample()]
        return identity.fingerprint([list(self.classes), names.hexdigest(), contents])

    def sample(self) -> list[str]:
        """Up to 256 of the files, evenly spaced."""
        chosen = np.unique(np.linspace(0, len(self.files) - 1, min(_SAMPLED, len(self.files))).astype(int))
        return [self.files[i] for i in chosen]

    def held_out(self, share: float) -> NDArray[np.bool_]:
        """Which files are held out: of every class the rounded `share`, at least one but never all, by the hash of
        their paths, so that an added file changes little."""
        chosen = np.zeros(len(self.files), bool)
        by_class: dict[str, list[int]] = {}
        for i, file in enumerate(self.files):
            by_class.setdefault(file.partition("/")[0], []).append(i)
        for positions in by_class.values():
            count = min(max(round(share * len(positions)), 1), len(positions) - 1)
            ranked = sorted(positions, key=lambda i: _rank(self.files[i]))
            chosen[ranked[:count]] = True
        return chosen

    def problems(self) -> Iterator[str]:
        if not self.classes:
            yield f"{self.root} has no class folders; put the images of each class into a folder of its own"
        empty = sorted(set(self.classes) - {file.partition("/")[0] for file in self.files})
        if empty:
            kinds = ", ".join(sorted(SUFFIXES))
            yield f"{self.root} has class folders with no images ({_some(empty)}); fill or remove them ({kinds})"
        for file in self.sample():
            try:
                with Image.open(Path(self.root, file)) as image:
                    image.verify()
            except Exception as error:  # Pillow's readers raise what they like
                yield _unreadable(str(Path(self.root, file)), error)


def listing(path: str) -> Tree:
    """The class folders of `path` and the images in them, at any depth. Raises ValueError for what is no local
    folder."""
    if "://" in path:
        raise ValueError(f"{path} is a URL; only local folders can be read: copy or mount it, and give its path")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"{path} is {'not a folder' if root.exists() else 'missing'}; correct the path")
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    found = sorted((file, size) for name in classes for file, size in _images(root / name, name))
    return Tree(str(root), tuple(classes), tuple(file for file, _ in found), tuple(size for _, size in found))


def _images(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _images(Path(entry.path), f"{prefix}/{entry.name}")
        elif Path(entry.name).suffix.lower() in SUFFIXES:
            yield f"{prefix}/{entry.name}", entry.stat().st_size


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """One pool a process: the threads of a parent are gone after a fork."""
    return ThreadPoolExecutor(min(16, os.cpu_count() or 1), thread_name_prefix=f"images-{process}")


def _open(file: str) -> Image.Image:
    """The picture upright and in RGB. Raises ValueError, naming the file, for what is no whole image."""
    try:
        with Image.open(file) as stored:
            stored.load()
            image: Image.Image = stored
            with suppress(Exception):  # a broken EXIF block is no broken image
                image = ImageOps.exif_transpose(stored)
            if image.mode.startswith("I"):  # 16-bit grey, which Pillow would cut off at 255
                image = Image.fromarray((np.asarray(image, np.float32) / 257).clip(0, 255).round().astype(np.uint8))
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            return image.convert("RGB")
    except Exception as error:  # Pillow's readers raise what they like
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the image
        raise ValueError(_unreadable(file, error)) from error


def _centre(file: str, size: int) -> Pixels:
    image = _open(file)
    width, height = image.size
    short = min(width, height)
    image = image.resize((int(size * width / short), int(size * height / short)), Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _part(file: str, size: int, scale: tuple[float, float], draw: NDArray[np.float32], mirrored: bool) -> Pixels:
    image = _open(file)
    image = image.crop(_box(image.width, image.height, scale, draw)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(ImageOps.mirror(image) if mirrored else image)


def _box(width: int, height: int, scale: tuple[float, float], draw: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a random-resized crop, as torchvision chooses it: the first of ten tries that
    fits, else the largest centred part of allowed aspect. `draw` has four numbers in [0, 1) a try."""
    for area, aspect, down, right in draw.reshape(_TRIES, 4).astype(float).tolist():
        target = width * height * (scale[0] + area * (scale[1] - scale[0]))
        ratio = math.exp(_ASPECT[0] + aspect * (_ASPECT[1] - _ASPECT[0]))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(right * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w = min(width, round(height * math.exp(_ASPECT[1])))
    h = min(height, round(width / math.exp(_ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _unreadable(file: str, error: Exception) -> str:
    why = str(error).replace(repr(file), "it") or type(error).__name__
    return f"{file}: cannot be read as an image ({why}); mend or remove it"


def _rank(file: str) -> bytes:
    return hashlib.sha256(file.encode(errors="surrogateescape")).digest()


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
