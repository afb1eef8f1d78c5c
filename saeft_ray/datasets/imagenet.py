"""ImageNet and its shifts, each in its published folders or in tar shards."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from saeft_ray.datasets import NotSeen, Role
from saeft_ray.datasets.images import imagenet_classes
from saeft_ray.datasets.images.content import content
from saeft_ray.datasets.images.duplicates import Members, shared
from saeft_ray.datasets.images.files import Place, Samples, some
from saeft_ray.datasets.images.find import find
from saeft_ray.datasets.images.imagenet_classes import A_CLASS, PUBLISHED, among, objectnet_classes, wnid_of
from saeft_ray.datasets.images.places import overlaps
from saeft_ray.datasets.images.rendered import ImageFiles
from saeft_ray.datasets.images.split import FileSplit
from saeft_ray.draws import IntArray
from saeft_ray.errors import Unavailable, Unseen
from saeft_ray.storage.fingerprint import fingerprint

RED_BORDER = 2  # pixels around every image of ObjectNet, to be cut off before anything else


class Corruptions(BaseModel):
    """ImageNet-C: `path`/<corruption>/<severity>/<wnid>, a test set for each corruption and severity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    path: Place
    corruptions: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    severities: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] = (1, 2, 3, 4, 5)


class Shift(NamedTuple):
    """Where a test set lies, what it is, which of its images are published as how many."""

    key: str  # in the sweep file
    place: str
    role: Role
    published: str | None  # its key in PUBLISHED


class ImageNet(ImageFiles):
    """ILSVRC 2012 and the test sets that were made for its classes. Only `train` must be given.

    `selection` images of every class are held out of `train`; `val` is the test set `ImageNet`. R, A and ObjectNet hold
    some of the classes and are scored among those alone. In ObjectNet an object can represent several ImageNet
    classes; any of them counts as right, as in its paper; other objects than the 113 that ImageNet has are left out.
    """

    type: Literal["imagenet"] = "imagenet"
    train: Place
    val: Place | None = None
    v2: Place | None = None
    r: Place | None = None
    a: Place | None = None
    sketch: Place | None = None
    objectnet: Place | None = None  # with its folders `images` and `mappings`
    c: Corruptions | None = None
    selection: int = Field(default=10, ge=1)  # images of every class
    classes: Annotated[tuple[str, ...], Field(strict=False, min_length=2)] | None = None  # WordNet ids; default: all
    expect: Literal["published", "none"] = "published"
    templates: Annotated[tuple[str, ...], Field(strict=False)] | None = None  # default: CLIP's 80

    def class_names(self) -> Sequence[str]:
        return imagenet_classes.names(self.wnids)

    def class_folders(self) -> dict[str, int]:
        """By WordNet ids, and by the numbers from 0 to 999 that V2 has."""
        position = {wnid: label for label, wnid in enumerate(self.wnids)}
        numbers = {str(number): wnid for number, wnid in enumerate(imagenet_classes.synsets()) if wnid in position}
        return position | {number: position[wnid] for number, wnid in numbers.items()}

    def prompts(self) -> Sequence[str]:
        return imagenet_classes.templates() if self.templates is None else self.templates

    @property
    def wnids(self) -> tuple[str, ...]:
        """The classes in label order."""
        known = imagenet_classes.synsets()
        return known if self.classes is None else tuple(wnid for wnid in known if wnid in self.classes)

    def test_sets(self) -> dict[str, Role]:
        return {name: test.role for name, test in self._tests.items()}

    def about(self) -> dict[str, str]:
        said = {
            "ImageNet": "The validation images of ILSVRC 2012.",
            "V2": "New photographs, collected as ImageNet's were (Recht et al. 2019).",
            "R": "Renditions such as paintings and toys of some of the classes (Hendrycks et al. 2021).",
            "A": "Photographs of some of the classes that a ResNet-50 gets wrong (Hendrycks et al. 2021).",
            "Sketch": "Black and white sketches (Wang et al. 2019).",
            "ObjectNet": "Objects in unusual places, from unusual sides (Barbu et al. 2019).",
        }
        corrupted = "The validation images with the corruption and severity of its name (Hendrycks & Dietterich 2019)."
        return {
            **super().about(),
            "train": "The training images of ILSVRC 2012 without those for selection.",
            "selection": f"{self.selection} training images of every class, held out of training.",
            **{name: said.get(name, corrupted) for name in self.test_sets()},
        }

    def sizes(self) -> dict[str, int]:
        return {name: self._size(name) for name in ("train", "selection", *self._tests)}

    def split(self, name: str, image_size: int) -> FileSplit:
        """Raises KeyError for a name that is not a split, UserError for data that cannot be used."""
        if name not in ("train", "selection", *self._tests):
            raise KeyError(f"the ImageNet data has no split {name!r}; it has {', '.join(self.sizes())}")
        samples = self._samples(name)
        members = self._members(name)
        labels = self._labels(name, samples)[members]
        border = RED_BORDER if name == "ObjectNet" else 0
        views = self._views
        return FileSplit(samples, members, labels, image_size, views, self.corrupt, border, self._class_groups(name))

    def fingerprint(self) -> str:
        tests = {name: self._fingerprint(name) for name in self._tests}
        groups = {name: None if (g := self._class_groups(name)) is None else g.tolist() for name in self._seen_tests()}
        return fingerprint({"train": self.train_fingerprint(), "tests": tests, "counts_as": groups})

    def train_fingerprint(self) -> str:
        return fingerprint(
            {
                "train": self._fingerprint("train"),
                "classes": self.wnids,
                "selection": self.selection,
                **self._views.identity(),
            }
        )

    def search_fingerprint(self) -> str:
        return self.train_fingerprint()  # selection is held out of it

    def test_fingerprints(self) -> dict[str, str]:
        return {name: self._fingerprint(name) for name in self._tests}

    def contents(self) -> dict[str, str]:
        return {name: content(self._samples(name), self._members(name)) for name in self.sizes()}

    def problems(self) -> list[str]:
        self._found.clear()  # a folder may have been fixed since
        self._chosen.clear()
        self.__dict__.pop("_objects", None)
        settings = list(self._settings_problems())
        if not settings:
            with ThreadPoolExecutor(8) as pool:  # seven places that do not answer would take seven times as long
                list(pool.map(self._look, ("train", *self._tests)))
        if settings:
            return settings
        return [*self._overlaps(), *(words for name in ("train", *self._tests) for words in self._place_problems(name))]

    def notes(self) -> list[str]:
        seen = ["train", "selection", *self._tests]
        splits = {name: Members(self._samples(name), self._members(name)) for name in seen}
        passed_over = [f"data: {words}" for name in ("train", *self._tests) for words in self._samples(name).notes()]
        return passed_over + [f"{self._key(one.name)}: {one.words}" for one in shared(splits)]

    # Places ----------------------------------------------------------------------------------------------------

    @cached_property
    def _tests(self) -> dict[str, Shift]:
        given: list[tuple[str, str, str | None, Role]] = [
            ("ImageNet", "val", self.val, "id"),
            ("V2", "v2", self.v2, "ood"),
            ("R", "r", self.r, "ood"),
            ("A", "a", self.a, "ood"),
            ("Sketch", "sketch", self.sketch, "ood"),
            ("ObjectNet", "objectnet", self.objectnet and f"{self.objectnet.rstrip('/')}/images", "ood"),
        ]
        found = {name: Shift(key, place, role, name) for name, key, place, role in given if place}
        if self.c:
            for corruption in self.c.corruptions:
                for severity in self.c.severities:
                    place = f"{self.c.path.rstrip('/')}/{corruption}/{severity}"
                    found[f"C-{corruption}-{severity}"] = Shift(f"c, {corruption} {severity}", place, "ood", "ImageNet")
        return found

    @cached_property
    def _found(self) -> dict[str, Samples | Unseen]:
        return {}

    def _samples(self, name: str) -> Samples:
        """The listing of a split, made once. Raises Unseen, or UserError for what cannot be used."""
        place = self.train if name in ("train", "selection") else self._tests[name].place
        if place not in self._found:
            try:
                self._found[place] = find(self.location(place))
            except Unseen as error:
                self._found[place] = error
        found = self._found[place]
        if isinstance(found, Unseen):
            raise found
        return found

    def _look(self, name: str) -> None:
        with suppress(OSError, ValueError):  # reported when the place itself is checked
            self._samples(name)

    def _is_seen(self, name: str) -> bool:
        try:
            self._samples(name)
        except Unseen:
            return False
        return True

    def _seen_tests(self) -> list[str]:
        return [name for name in self._tests if self._is_seen(name)]

    def _key(self, name: str) -> str:
        """Where the settings name the place of a split."""
        return f"data.{self._tests[name].key if name in self._tests else name}"

    # Images ----------------------------------------------------------------------------------------------------

    def _labels(self, name: str, samples: Samples) -> IntArray:
        """(number of files,) labels, -1 for files of other classes."""
        position = {wnid: i for i, wnid in enumerate(self.wnids)}
        if name == "ObjectNet":
            groups = self._objects
            of = {folder: [position[w] for w in wnids if w in position] for folder, wnids in groups.items()}
            by_folder = {folder: labels[0] for folder, labels in of.items() if labels}
        else:
            wnids = {folder: wnid_of(folder) for folder in samples.classes}
            by_folder = {folder: position[wnid] for folder, wnid in wnids.items() if wnid in position}
        return np.array([by_folder.get(folder, -1) for folder in samples.folders], np.int64)

    @cached_property
    def _chosen(self) -> dict[str, IntArray]:
        return {}

    def _members(self, name: str) -> IntArray:
        """Positions of a split's images in the listing of its folder; V2's in the order of its numbers."""
        if name not in self._chosen:  # both parts of `train` are chosen at once
            self._chosen[name] = self._choose(name)
        return self._chosen[name]

    def _choose(self, name: str) -> IntArray:
        samples = self._samples(name)
        labels = self._labels(name, samples)
        chosen = labels >= 0
        if name in ("train", "selection"):
            held_out = samples.held_out(lambda _: self.selection)
            self._chosen["selection"] = np.flatnonzero(chosen & held_out).astype(np.int64)
            self._chosen["train"] = np.flatnonzero(chosen & ~held_out).astype(np.int64)
            return self._chosen[name]
        members = np.flatnonzero(chosen).astype(np.int64)
        return members[np.argsort(labels[members], kind="stable")] if name == "V2" else members

    def _class_groups(self, name: str) -> IntArray | None:
        if name == "ObjectNet":
            return imagenet_classes.objectnet_class_groups(self.wnids, self._objects)
        if name in ("R", "A"):
            return among(self.wnids, imagenet_classes.synsets(f"imagenet_{name.lower()}_synsets"))
        return None

    @cached_property
    def _objects(self) -> dict[str, tuple[str, ...]]:
        assert self.objectnet is not None
        return objectnet_classes(self.location(self.objectnet) / "mappings")

    def _fingerprint(self, name: str) -> str:
        return self._samples(name).fingerprint if self._is_seen(name) else "not seen"

    def _size(self, name: str) -> int:
        if self._is_seen(name):
            return len(self._members(name))
        if name in ("train", "selection"):
            held = self.selection * len(self.wnids)
            return held if name == "selection" else max(1, self._published("train") - held)
        return self._published(self._tests[name].published or name)

    def _published(self, name: str) -> int:
        return round(PUBLISHED[name] * len(self.wnids) / len(imagenet_classes.synsets()))

    def _overlaps(self) -> Iterator[str]:
        return overlaps(
            {"data.train": self.train} | {self._key(name): test.place for name, test in self._tests.items()}
        )

    # Problems --------------------------------------------------------------------------------------------------

    def _settings_problems(self) -> Iterator[str]:
        if not self._tests:
            yield "data: no test set; give at least one of val, v2, r, a, sketch, objectnet and c"
        if strangers := sorted(set(self.classes or ()) - set(imagenet_classes.synsets())):
            yield f"data.classes: {some(strangers)} among no ImageNet classes; give WordNet ids such as n01440764"
        yield from self._rendering_problems()

    def _place_problems(self, name: str) -> Iterator[str]:
        key = self._key(name)
        try:
            samples = self._samples(name)
            labels = self._labels(name, samples)
            yield from (f"{key}: {words}" for words in samples.problems())
        except Unseen as error:
            yield NotSeen(f"{key}: {error}")
            return
        except Unavailable:  # the other places would refuse too, each after its own wait
            raise
        except (OSError, ValueError) as error:
            yield f"{key}: {error}"
            return
        known = self._objects.keys() if name == "ObjectNet" else None
        strangers = [folder for folder in samples.classes if known is None and wnid_of(folder) is None]
        if strangers:
            yield (
                f"{key}: {some(strangers)} in {samples.place} are not class folders of ImageNet (WordNet ids, or "
                "numbers from 0 to 999); correct the path, or remove them"
            )
        counts = Counter(labels[labels >= 0].tolist())
        if not counts:
            yield f"{key}: {samples.place} has no image of the {len(self.wnids)} classes; correct the path"
        elif self.expect == "published":
            yield from (f"{key}: {words}" for words in self._misses(name, samples, counts))
        if name == "train" and counts and min(counts.values()) <= self.selection:
            yield (
                f"data.selection: {self.selection} images of every class would be held out, but {samples.place} has a "
                f"class with {min(counts.values())}; give a smaller number"
            )

    def _misses(self, name: str, samples: Samples, counts: Counter[int]) -> Iterator[str]:
        """Sentences about what the published set has and this one does not."""
        published = "train" if name == "train" else self._tests[name].published or name
        if name == "ObjectNet":
            absent = sorted(self._objects.keys() - set(samples.folders))
        else:
            subset = f"imagenet_{name.lower()}_synsets" if name in ("R", "A") else "imagenet_synsets"
            there = {wnid_of(folder) for folder in set(samples.folders)}
            absent = sorted(set(imagenet_classes.synsets(subset)) & set(self.wnids) - there)
        advice = "; complete it, or say `expect: none` if you know that it is another set"
        if absent:
            yield f"{samples.place} has no image of {some(absent)}{advice}"
        each = A_CLASS.get(published)
        odd = [f"{self.wnids[i]} ({n})" for i, n in sorted(counts.items()) if each and n != each]
        if odd:
            yield f"{samples.place} has other than {each} images of {some(odd)}{advice}"
        total = sum(counts.values())
        if self.classes is None and total != PUBLISHED[published]:
            yield f"{samples.place} has {total:,} images where {published} has {PUBLISHED[published]:,}{advice}"
