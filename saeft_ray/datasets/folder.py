"""Your own images: one folder per split, in it one folder per class."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from saeft_ray.datasets import Role
from saeft_ray.datasets.images.content import content
from saeft_ray.datasets.images.duplicates import Contradicted, Members, Shared, contradicted, shared
from saeft_ray.datasets.images.files import Place, Samples, some
from saeft_ray.datasets.images.find import find
from saeft_ray.datasets.images.places import overlaps
from saeft_ray.datasets.images.rendered import ImageFiles
from saeft_ray.datasets.images.split import FileSplit
from saeft_ray.datasets.words import alike, misnamed
from saeft_ray.draws import IntArray
from saeft_ray.errors import UserError
from saeft_ray.spelling import difference, other_spelling
from saeft_ray.storage.fingerprint import fingerprint

_SPLITS = {"train", "training", "val", "valid", "validation", "selection", "test", "tests", "testing", "eval"}


class TestFolder(BaseModel):
    """One test set: a folder with some or all of the class folders of `train`."""

    __test__ = False  # not a test, whatever pytest thinks of the name
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    path: Place
    role: Literal["id", "ood"]


class Folder(ImageFiles):
    """Images in folders or tar shards, local or at a URL. The class of an image is its folder's name, the same in
    every split; a test set may hold some of the classes, and is scored among all of them."""

    type: Literal["folder"] = "folder"
    train: Place  # folder, or shards; relative paths start where the command runs
    """A folder with a folder of images for each class, or tar shards; here or at a URL."""
    tests: dict[str, TestFolder]
    """Test sets by name: a path, and `id` or `ood` as its role."""
    selection: Place | None = None  # folder; without one, a share of `train` is held out
    selection_share: float = Field(default=0.1, gt=0, lt=1)  # of every class
    # What to do about images that two splits share. No result depends on it, so that it is no part of the identity.
    duplicates: Literal["warn", "refuse"] = Field(default="warn", exclude=True)
    """What follows if splits share images: a note, or an error."""
    classes: dict[str, str] | None = None  # folder name → words; without it the folder name, "_" as a space

    def class_names(self) -> Sequence[str]:
        names = self._tree(self.train).classes
        words = {name: name.replace("_", " ") for name in names} | (self.classes or {})
        return [words[name] for name in names]

    def class_folders(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self._tree(self.train).classes)}

    def test_sets(self) -> dict[str, Role]:
        return {name: test.role for name, test in self.tests.items()}

    def about(self) -> dict[str, str]:
        held_out = f"{100 * self.selection_share:g} % of every class of {self.train}, held out of training."
        return {
            **super().about(),
            "train": f"The class folders of {self.train}.",
            "selection": held_out if self.selection is None else f"The class folders of {self.selection}.",
            **{name: f"The class folders of {test.path}." for name, test in self.tests.items()},
        }

    def sizes(self) -> dict[str, int]:
        return {name: len(self._members(name)) for name in ("train", "selection", *self.tests)}

    def split(self, name: str, image_size: int) -> FileSplit:
        """Raises KeyError for a name that is not a split, UserError for a folder or a class that cannot be used."""
        members = self._members(name)
        tree = self._tree(self._paths()[name])
        position = {known: label for label, known in enumerate(self._tree(self.train).classes)}
        folders = [tree.folders[i] for i in members]
        strangers = sorted(set(folders) - set(position))
        if strangers:
            raise UserError(f"{tree.place}: {some(strangers)} in no class folder of {self.train}")
        labels = np.array([position[folder] for folder in folders], np.int64)
        return FileSplit(tree, members, labels, image_size, self._views, self.corrupt)

    def fingerprint(self) -> str:
        trees = {name: self._tree(path).fingerprint for name, path in self._paths().items()}
        return fingerprint({"trees": trees, **self._drawn})

    def train_fingerprint(self) -> str:
        return fingerprint({"train": self._tree(self.train).fingerprint, **self._drawn})

    def search_fingerprint(self) -> str:
        selection = self._tree(self.selection).fingerprint if self.selection else None
        return fingerprint({"train": self.train_fingerprint(), "selection": selection})

    def test_fingerprints(self) -> dict[str, str]:
        return {name: self._tree(test.path).fingerprint for name, test in self.tests.items()}

    def contents(self) -> dict[str, str]:
        return {name: content(self._tree(path), self._members(name)) for name, path in self._paths().items()}

    def problems(self) -> list[str]:
        self._trees.clear()  # a folder may have been fixed since
        for found_before in ("_shared", "_contradicted"):
            self.__dict__.pop(found_before, None)
        found = list(self._settings_problems()) + list(self._folder_problems())
        return found or list(self._split_problems())

    def notes(self) -> list[str]:
        places = self._places()
        passed_over = [f"{key}: {words}" for key, path in places.items() for words in self._tree(path).notes()]
        return [
            *passed_over,
            *(f"{key}: {words}" for key, words in self._lacking()),
            *(f"{self._key(one.name)}: {one.words}" for one in self._shared),
            *(f"{self._key(name)}: {one.words}" for name, one in self._contradicted.items()),
        ]

    @property
    def _drawn(self) -> dict[str, object]:
        share = None if self.selection else self.selection_share
        return {**self._views.identity(), "selection_share": share}

    @cached_property
    def _trees(self) -> dict[str, Samples]:
        return {}

    def _tree(self, path: str) -> Samples:
        """The listing of a folder, made once. Raises UserError for what is none."""
        if path not in self._trees:
            self._trees[path] = find(self.location(path))
        return self._trees[path]

    def _look(self, path: str) -> Samples | OSError | ValueError:
        """The same, or why there is none."""
        try:
            return self._tree(path)
        except (OSError, ValueError) as error:
            return error

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
        held_out = tree.held_out(lambda count: round(self.selection_share * count))
        return np.flatnonzero(held_out if name == "selection" else ~held_out).astype(np.int64)

    def _settings_problems(self) -> Iterator[str]:
        if not self.tests:
            yield "data.tests: empty; give at least one test set, such as {photos: {path: ..., role: id}}"
        for name in {"train", "selection"} & set(self.tests):
            yield f"data.tests.{name}: the name is taken by a split; give the test set another"
        yield from (f"data.tests.{name}: {words}" for name, words in misnamed(self.tests))
        yield from self._rendering_problems()

    def _places(self) -> dict[str, str]:
        """The places that the settings name, by where they do."""
        places = {"data.train": self.train}
        if self.selection is not None:
            places["data.selection"] = self.selection
        return places | {self._key(name): test.path for name, test in self.tests.items()}

    def _key(self, split: str) -> str:
        return f"data.tests.{split}.path" if split in self.tests else f"data.{split}"

    def _folder_problems(self) -> Iterator[str]:
        places = self._places()
        known: set[str] | None = None
        with ThreadPoolExecutor(8) as pool:  # places that do not answer are waited for together
            looked = list(pool.map(self._look, places.values()))
        yield from overlaps(
            {key: tree.place for key, tree in zip(places, looked, strict=True) if isinstance(tree, Samples)}
        )
        for place, tree in zip(places, looked, strict=True):
            if not isinstance(tree, Samples):
                yield f"{place}: {tree}"
                continue
            yield from (f"{place}: {words}" for words in tree.problems())
            if place == "data.train":
                known = set(tree.classes)
                yield from self._class_problems(tree)
            elif known:
                strangers = sorted(set(tree.classes) - known)
                if strangers:
                    yield f"{place}: {some(strangers)} in no class folder of data.train; rename or remove"
                for name in strangers:
                    if (near := other_spelling(name, sorted(known))) is not None:
                        yield f"{place}: {name!r} differs from {near!r} of data.train in {difference(name, near)}"

    def _class_problems(self, train: Samples) -> Iterator[str]:
        if not train.classes:
            return
        yield from (f"data.train: {words}" for words in _level_problems(train))
        known = set(train.classes)
        if self.classes is not None:
            if extra := sorted(set(self.classes) - known):
                yield f"data.classes: {some(extra)} in no class folder of data.train; correct or remove"
            if nameless := sorted(known - set(self.classes)):
                yield f"data.classes: no words for {some(nameless)}; give every folder of data.train a name"
        words = self.class_names()
        for group in alike(words):
            same = ", ".join(f"{train.classes[i]!r} ({words[i]!r})" for i in group)
            yield f"data.classes: {same} cannot be told apart by their words; give each class words of its own"
        if nothing := [name for name, word in zip(train.classes, words, strict=True) if not word.strip()]:
            yield f"data.classes: {some(nothing)} have no words; give each class a name"

    def _split_problems(self) -> Iterator[str]:
        """What is wrong with splits whose places are sound."""
        if not self.sizes()["selection"]:
            yield (
                f"data.selection_share: each class of {self.train} has one image, so none can be held out; add "
                "images, or give data.selection a folder of its own"
            )
        yield from (
            f"{self._key(one.name)}: {one.words}; every split needs images of its own"
            for one in self._shared
            if self.duplicates == "refuse" or (one.whole and (one.name != "selection" or self.selection))
        )

        yield from (
            f"{self._key(name)}: {one.words}, so that a label is wrong; keep one of each"
            for name, one in self._contradicted.items()
            if self.duplicates == "refuse" or one.whole
        )
        if self.selection and len(set(self._tree(self.selection).folders)) == 1:
            only = self._tree(self.selection).folders[0]
            yield f"data.selection: has images of one class, {only!r}, by which nothing can be chosen; give all classes"

    def _lacking(self) -> Iterator[tuple[str, str]]:
        """Where a split lacks classes, and words for them."""
        known = self._tree(self.train).classes
        for key, path in self._places().items():
            if lacking := sorted(set(known) - set(self._tree(path).folders)):
                yield key, f"has no images of {len(lacking):,} of {len(known):,} classes: {some(lacking)}"

    @cached_property
    def _contradicted(self) -> dict[str, Contradicted]:
        """Images of one split that lie in two classes, by split."""
        found = {name: contradicted(Members(self._tree(p), self._members(name))) for name, p in self._paths().items()}
        return {name: one for name, one in found.items() if one}

    @cached_property
    def _shared(self) -> list[Shared]:
        """Images that two splits have in common, found by their content."""
        return shared({name: Members(self._tree(path), self._members(name)) for name, path in self._paths().items()})


def _level_problems(train: Samples) -> Iterator[str]:
    """Sentences about class folders that are none: one alone, or the folders of splits."""
    below = Counter(file.split("/")[1] for file in train.files if file.count("/") > 1)
    hint = f", such as {train.place}/{train.classes[0]}, which holds {some(sorted(below))}" if below else ""
    if len(train.classes) == 1:
        yield (
            f"{train.place} has one class folder, {train.classes[0]!r}, and there is nothing to tell it from; give "
            f"the folder that holds the class folders{hint}"
        )
    elif len(train.classes) > 1 and {name.lower() for name in train.classes} <= _SPLITS:
        yield f"{train.place} has folders of splits ({some(train.classes)}), not of classes; give one of them{hint}"
