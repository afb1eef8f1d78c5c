"""Data sets whose splits are tables of (image, label): what they have in common."""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.datasets import NotSeen
from saeft_ray.datasets.images.content import content
from saeft_ray.datasets.images.duplicates import Members, shared
from saeft_ray.datasets.images.files import LocalFolder, Samples
from saeft_ray.datasets.images.rendered import ImageFiles
from saeft_ray.datasets.images.split import CorruptFiles, FileSplit, Views
from saeft_ray.datasets.words import alike
from saeft_ray.draws import IntArray
from saeft_ray.errors import Unseen
from saeft_ray.storage.fingerprint import fingerprint

_SAMPLED = 64  # images of a part whose content enters its fingerprint
Measure = Callable[[IntArray, IntArray], dict[str, float]]  # of (N,) predicted classes and labels


class Part(NamedTuple):
    """One split: images of `samples` by position, their labels, and metrics in addition to accuracy."""

    samples: Samples
    members: IntArray
    labels: IntArray
    measure: Measure | None = None

    def only(self, chosen: NDArray[np.bool_]) -> "Part":
        return self._replace(members=self.members[chosen], labels=self.labels[chosen])

    def fingerprint(self) -> str:
        lines = hashlib.sha256()
        for i, label in zip(self.members.tolist(), self.labels.tolist(), strict=True):
            name = self.samples.files[i].encode(errors="surrogateescape")
            lines.update(name + f"\0{self.samples.sizes[i]}\0{label}\0".encode())
        spaced = np.unique(np.linspace(0, len(self.members) - 1, min(_SAMPLED, len(self.members))).astype(int))
        contents = [hashlib.sha256(self.samples.read_once(i)).hexdigest() for i in self.members[spaced].tolist()]
        return fingerprint([lines.hexdigest(), contents])


class Tabled(ImageFiles):
    """A data set that knows its splits as parts: `train`, `selection` and the test sets."""

    expect: Literal["published", "none"] = "published"

    @abstractmethod
    def _read(self) -> tuple[Sequence[str], dict[str, Part]]:
        """Class names in label order, and every split by name. Raises Unseen, or UserError for what does not fit."""

    @abstractmethod
    def _published(self) -> dict[str, int]:
        """Images of the splits whose number is known."""

    @abstractmethod
    def _unread(self) -> tuple[Sequence[str], dict[str, int]]:
        """Class names (any, as many as there are) and images of every split, for a plan that cannot see the data."""

    def class_names(self) -> Sequence[str]:
        return self._parts[0] if self._is_seen else self._unread()[0]

    def sizes(self) -> dict[str, int]:
        return {n: len(part.members) for n, part in self._parts[1].items()} if self._is_seen else self._unread()[1]

    def split(self, name: str, image_size: int) -> "PartSplit":
        """Raises KeyError for a name that is not a split."""
        parts = self._parts[1]
        if name not in parts:
            raise KeyError(f"the data has no split {name!r}; it has {', '.join(parts)}")
        return PartSplit(parts[name], image_size, self._views, self.corrupt)

    def fingerprint(self) -> str:
        if not self._is_seen:
            return "not seen"
        tests = {name: part.fingerprint() for name, part in self._parts[1].items() if name != "train"}
        return fingerprint({"train": self.train_fingerprint(), "tests": tests})

    def train_fingerprint(self) -> str:
        if not self._is_seen:
            return "not seen"
        names, parts = self._parts
        views = self._views.identity()
        return fingerprint({"train": parts["train"].fingerprint(), "classes": list(names), **views})

    def test_fingerprints(self) -> dict[str, str]:
        return {name: part.fingerprint() for name, part in self._parts[1].items() if name in self.test_sets()}

    def search_fingerprint(self) -> str:
        if not self._is_seen:
            return "not seen"
        return fingerprint({"train": self.train_fingerprint(), "selection": self._parts[1]["selection"].fingerprint()})

    def contents(self) -> dict[str, str]:
        return {name: content(part.samples, part.members) for name, part in self._parts[1].items()}

    def problems(self) -> list[str]:
        self.__dict__.pop("_found", None)  # it may have been fixed since
        return list(self._problems())

    def notes(self) -> list[str]:
        names, parts = self._parts
        splits = {name: Members(part.samples, part.members) for name, part in parts.items()}
        same = [" and ".join(repr(names[i]) for i in group) for group in alike(names)]
        return [
            *(f"data: {words}" for samples in self._listings() for words in samples.notes()),
            *(f"data: the words of the classes {group} cannot be told apart" for group in same),
            *(f"data: {one.name}: {one.words}" for one in shared(splits)),
        ]

    def _listings(self) -> list[Samples]:
        return list({id(part.samples): part.samples for part in self._parts[1].values()}.values())

    def _problems(self) -> Iterator[str]:
        yield from self._rendering_problems()
        try:
            parts = self._parts[1]
        except Unseen as error:
            yield NotSeen(f"data: {error}")
            return
        except (OSError, ValueError, KeyError) as error:
            yield f"data: {error}"
            return
        for samples in self._listings():
            yield from (f"data: {words}" for words in samples.damaged_files())
        if empty := [name for name, part in parts.items() if not len(part.members)]:
            yield f"data: no images for {', '.join(empty)}; complete the data"
        for name, count in self._published().items() if self.expect == "published" else ():
            if name in parts and len(parts[name].members) != count:
                yield miss(f"{name} has", len(parts[name].members), count)

    @property
    def _is_seen(self) -> bool:
        return not isinstance(self._found, Unseen)

    @property
    def _parts(self) -> tuple[Sequence[str], dict[str, Part]]:
        if isinstance(self._found, Unseen):
            raise self._found
        return self._found

    @cached_property
    def _found(self) -> tuple[Sequence[str], dict[str, Part]] | Unseen:
        """Looked for once: what does not answer takes its time."""
        try:
            return self._read()
        except Unseen as error:
            return error


def miss(what: str, found: int, published: int) -> str:
    return (
        f"data: {what} {found:,} images where {published:,} were published; complete it, or say `expect: none` if you "
        "know that it is another set"
    )


class PartSplit(FileSplit):
    """The images of a part."""

    def __init__(self, part: Part, image_size: int, views: Views, corrupt: CorruptFiles) -> None:
        super().__init__(part.samples, part.members, part.labels, image_size, views, corrupt)
        self._measure = part.measure

    def extra_metrics(self, predicted: IntArray) -> dict[str, float]:
        return self._measure(predicted, self.labels) if self._measure else {}


class Files(LocalFolder):
    """Given files below a local folder, in any folders; `labels` stand for their classes."""

    def __init__(self, place: str, files: Sequence[str], labels: Sequence[int]) -> None:
        names = [str(Path(file).relative_to(place)) for file in files]
        sizes = [Path(file).stat().st_size for file in files]
        super().__init__(place, sorted({str(label) for label in labels}), names, sizes)
        self.folders = [str(label) for label in labels]


class Arrays(Samples):
    """Images of an array (N, H, W, 3) uint8, each as a file in the plainest of formats."""

    def __init__(self, place: str, pixels: NDArray[np.uint8], labels: Sequence[int]) -> None:
        height, width = pixels.shape[1:3]
        self._header, self._pixels = f"P6 {width} {height} 255\n".encode(), pixels
        size = len(self._header) + 3 * width * height
        files = [f"{label}/{i:06d}.ppm" for i, label in enumerate(labels)]
        super().__init__(place, sorted({str(label) for label in labels}), files, [size] * len(files))

    def read(self, i: int) -> bytes:
        return self._header + bytes(self._pixels[i].tobytes())


def whole(samples: Samples, labels: Sequence[int] | NDArray[np.integer[Any]]) -> Part:
    """All of `samples`."""
    return Part(samples, np.arange(len(samples.files), dtype=np.int64), np.asarray(labels, np.int64))
