"""What fine-tuning added to each feature and removed from it, as sums over images.

Shapes: N images, D dictionary width, G groups of images, S seeds.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.features.codes import SparseCodes

Floats = NDArray[np.float64]


class Change(NamedTuple):
    """Sums over images, each (D,) or (G, D) float64; s0 and s are magnitudes of the frozen and the tuned code.

    mass − mass0 = added + strengthened − weakened − removed.
    """

    mass0: Floats  # Σ s0
    mass: Floats  # Σ s
    on0: Floats  # images with s0 > 0
    on: Floats  # images with s > 0
    born: Floats  # images with s0 = 0 < s
    died: Floats  # images with s = 0 < s0
    added: Floats  # Σ s where born
    removed: Floats  # Σ s0 where died
    strengthened: Floats  # Σ max(0, s − s0) where both are active
    weakened: Floats  # Σ max(0, s0 − s) where both are active


class Pairs(NamedTuple):
    """Pairs of image and feature, in the order of images and then of features."""

    image: NDArray[np.int32]
    feature: NDArray[np.int32]


class Masses(NamedTuple):
    """The mass of the features on the images of each class, where it is not 0."""

    label: NDArray[np.int32]
    feature: NDArray[np.int32]
    mass: Floats


def change(frozen: SparseCodes, tuned: SparseCodes, groups: NDArray[np.int64] | None = None, count: int = 1) -> Change:
    """The change of every feature from `frozen` to `tuned` codes of the same images; with `groups` (N,), numbers below
    `count`, of every group by itself. O(N k log k) time and O(G D) memory: never N × D."""
    width = frozen.width
    key0, value0 = _keyed(frozen)
    key1, value1 = _keyed(tuned)
    _, i0, i1 = np.intersect1d(key0, key1, assume_unique=True, return_indices=True)
    died, born = _others(len(key0), i0), _others(len(key1), i1)
    moved = value1[i1] - value0[i0]

    def summed(key: NDArray[np.int64], weight: Floats | None = None) -> Floats:
        cell = key % width if groups is None else groups[key // width] * width + key % width
        total = np.bincount(cell, weight, minlength=count * width).astype(np.float64)
        return total if groups is None else total.reshape(count, width)

    return Change(
        mass0=summed(key0, value0),
        mass=summed(key1, value1),
        on0=summed(key0),
        on=summed(key1),
        born=summed(key1[born]),
        died=summed(key0[died]),
        added=summed(key1[born], value1[born]),
        removed=summed(key0[died], value0[died]),
        strengthened=summed(key0[i0], np.maximum(moved, 0)),
        weakened=summed(key0[i0], np.maximum(-moved, 0)),
    )


def mass(codes: SparseCodes) -> Floats:
    """(D,) the sum of magnitudes over images, as `change` has it."""
    _, atom, value = codes.entries()
    return np.bincount(atom, np.abs(value), minlength=codes.width).astype(np.float64)


def born_and_died(frozen: SparseCodes, tuned: SparseCodes) -> tuple[Pairs, Pairs]:
    """The pairs of image and feature that are active in `tuned` alone, and those in `frozen` alone."""
    key0, _ = _keyed(frozen)
    key1, _ = _keyed(tuned)
    found = (np.setdiff1d(a, b, assume_unique=True) for a, b in ((key1, key0), (key0, key1)))
    born, died = (Pairs(*(part.astype(np.int32) for part in np.divmod(keys, frozen.width))) for keys in found)
    return born, died


def mass_by_class(codes: SparseCodes, labels: NDArray[np.int64]) -> Masses:
    """The mass of every feature by class, from `labels` (N,) ≥ 0 of the images. O(N k log k): never classes × D."""
    row, atom, value = codes.entries()
    cell, inverse = np.unique(labels[row] * codes.width + atom, return_inverse=True)
    label, feature = np.divmod(cell, codes.width)
    mass = np.bincount(inverse, np.abs(value), minlength=len(cell)).astype(np.float64)
    return Masses(label.astype(np.int32), feature.astype(np.int32), mass)


def total(changes: list[Change]) -> Change:
    """The change over several sets of images together."""
    return Change(*(np.sum(parts, axis=0) for parts in zip(*changes, strict=True)))


def effect(mass0: Floats, mass: Floats, live: NDArray[np.bool_], share: float = 0.1) -> Floats:
    """log2((mass + c) / (mass0 + c)) of masses (..., D), with c = `share` of the mean frozen mass of a `live` (D,)
    feature: what has little mass in either model has not changed, and what comes from nothing changes finitely.
    0 everywhere if no feature is live."""
    if not live.any() or not mass0[..., live].any():
        return np.zeros(np.broadcast_shapes(mass0.shape, mass.shape))
    c = share * mass0[..., live].mean(-1, keepdims=True)
    found: Floats = np.log2((mass + c) / (mass0 + c))
    return found


def shares(found: Change) -> dict[str, float]:
    """What was added, strengthened, weakened and removed in total, as shares of all frozen mass; 0 if there is none.

    `removed` + `weakened` is `monitor.removed_share` of a training's rows.
    """
    mass = float(found.mass0.sum())
    names = ("added", "strengthened", "weakened", "removed")
    return {name: float(getattr(found, name).sum()) / mass if mass > 0 else 0.0 for name in names}


def _keyed(codes: SparseCodes) -> tuple[NDArray[np.int64], Floats]:
    """The numbers of all active pairs, rising, and their magnitudes."""
    row, atom, value = codes.entries()
    key = row * codes.width + atom
    order = np.argsort(key, kind="stable")
    return key[order], np.abs(value[order])


def _others(n: int, index: NDArray[np.int64]) -> NDArray[np.bool_]:
    chosen = np.ones(n, bool)
    chosen[index] = False
    return chosen
