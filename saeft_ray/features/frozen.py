"""The frozen side of a record: the pooled images, their embeddings, and which features are active on each.

Shapes: N images of all sets together, d embedding width, D dictionary width.
"""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from saeft_ray.features.activity import Ints, Matrix, activity, unit
from saeft_ray.features.change import Masses, Pairs
from saeft_ray.features.codes import SparseCodes, encode
from saeft_ray.features.compute import embeddings_of, frozen_codes, sets_of
from saeft_ray.features.content import Image
from saeft_ray.features.examples import Examples, examples_of
from saeft_ray.features.readers import Kind, dictionary_of, reader
from saeft_ray.orchestration.plan import Plan
from saeft_ray.sae import Dictionary
from saeft_ray.storage.store import Store


class Frozen:
    """The images of a record, pooled in the order of its sets."""

    def __init__(self, plan: Plan, store: Store, device: torch.device):
        self._plan, self._store, self._device = plan, store, device
        self.names = sets_of(plan)
        self.raw = [embeddings_of(plan, store, None, name, device) for name in self.names]
        self.starts = np.cumsum([0, *map(len, self.raw)])

    @property
    def count(self) -> int:
        return int(self.starts[-1])

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.names, map(len, self.raw), strict=True))

    @cached_property
    def x(self) -> NDArray[np.float32]:
        """(N, d) unit embeddings."""
        return unit(np.concatenate(self.raw)).astype(np.float32)

    @cached_property
    def _examples(self) -> dict[str, Examples]:
        return {name: examples_of(self._plan, self._store, name) for name in self.names}

    @cached_property
    def labels(self) -> Ints:
        """(N,) the class of each image."""
        return np.concatenate([each.labels for each in self._examples.values()])

    @property
    def files(self) -> dict[str, list[str]]:
        """The names of the images of those sets whose images are files."""
        return {name: each.files for name, each in self._examples.items() if each.files is not None}

    @cached_property
    def sets(self) -> Ints:
        """(N,) the number of each image's set."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self._plan.config.data.class_names())

    @property
    def of_class(self) -> Matrix:
        """(N, C) sparse ones: the class of each image."""
        return _members(self.labels, len(self.classes))

    @property
    def of_set(self) -> Matrix:
        """(N, sets) sparse ones: the set of each image."""
        return _members(self.sets, len(self.names))

    @property
    def of_cell(self) -> Matrix:
        """(N, sets × C) sparse ones: the class of the set of each image, the first set's classes first."""
        return _members(self.sets * len(self.classes) + self.labels, len(self.names) * len(self.classes))

    def by_cell(self, found: dict[str, Masses], width: int) -> Matrix:
        """(sets × C, `width`) sparse masses of all sets."""
        starts = np.arange(len(self.names)) * len(self.classes)
        rows = np.concatenate([found[name].label + start for name, start in zip(self.names, starts, strict=True)])
        columns = np.concatenate([found[name].feature for name in self.names])
        mass = np.concatenate([found[name].mass for name in self.names])
        return sparse.csr_matrix((mass, (rows, columns)), shape=(len(self.names) * len(self.classes), width))

    def active(self, kind: Kind) -> Matrix:
        """(N, D) sparse magnitudes of the codes through the reader of this kind."""
        read = reader(self._plan, kind)
        return _stacked(frozen_codes(self._plan, self._store, read, name, self._device) for name in self.names)

    def plain(self, kind: Kind) -> Matrix:
        """(N, D) the same without competition: every atom is as active as its direction is present."""
        made = dictionary_of(reader(self._plan, kind), self._plan, self._store, self._device)
        every = made.settings.model_copy(update={"k": len(made.atoms), "activation": "relu_topk"})
        plain = Dictionary(made.encoder, made.atoms, made.bias, every)
        return _stacked(encode(plain, x) for x in self.raw)

    def pooled(
        self, pairs: dict[str, Pairs], width: int, values: dict[str, NDArray[np.float32]] | None = None
    ) -> Matrix:
        """(N, `width`) sparse `values` (else ones) where a set's pairs say."""
        rows = np.concatenate([pairs[name].image + start for name, start in zip(self.names, self.starts, strict=False)])
        columns = np.concatenate([pairs[name].feature for name in self.names])
        data = np.concatenate([values[name] for name in self.names]) if values else np.ones(len(rows), np.float32)
        return sparse.csc_matrix((data, (rows, columns)), shape=(self.count, width))

    def images(self, places: Ints) -> tuple[Image, ...]:
        """The images at these places; -1 stands for none."""
        real = places[places >= 0]
        sets = np.searchsorted(self.starts, real, side="right") - 1
        return tuple(Image(set=self.names[s], index=int(i - self.starts[s])) for i, s in zip(real, sets, strict=True))

    def strongest(self, active: Matrix, feature: int, most: int = 8) -> tuple[Image, ...]:
        """Images of the largest activation, largest first."""
        return self.images(_by_strength(active, feature)[:most])

    def spread(self, active: Matrix, feature: int, most: int = 8) -> tuple[Image, ...]:
        """Images evenly spaced by rank over all on which the feature is active."""
        order = _by_strength(active, feature)
        return self.images(
            order[np.unique(np.linspace(0, len(order) - 1, most).round().astype(int))] if len(order) else order
        )


def _members(number: Ints, count: int) -> Matrix:
    return sparse.csr_matrix((np.ones(len(number)), (np.arange(len(number)), number)), shape=(len(number), count))


def _stacked(parts: Iterable[SparseCodes]) -> Matrix:
    return sparse.vstack([activity(*part) for part in parts], format="csc")


def _by_strength(active: Matrix, feature: int) -> Ints:
    at = slice(active.indptr[feature], active.indptr[feature + 1])
    return np.asarray(active.indices[at][np.argsort(-active.data[at], kind="stable")])
