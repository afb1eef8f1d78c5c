"""Does a trial's model rely on a shortcut? Its class features tell: they newly fire on images of other classes, and on
those that share what the shortcut is.

A class feature is one whose name is a class. For each, the word that is no class and that its newly active images of
other classes are most like, beyond the control, is chosen on one half of the images and measured on the other, and the
other way about: so that where nothing is shared the number is 0 on average, and not the largest of W noises.

Shapes: N images, D features, W words, d embedding width, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saeft_ray import draws
from saeft_ray.features.activity import Floats, Ints, Matrix, counts
from saeft_ray.features.sharing import shared

LEAST = 10  # newly active images of other classes, in each half, from which a feature is looked at


class Images(NamedTuple):
    """The pooled images that a reliance is looked for on."""

    x: Floats  # (N, d) unit frozen embeddings
    labels: Ints  # (N,) the class of each
    sets: Ints  # (N,) the set of each


class Reliance(NamedTuple):
    """One trial's. `value`: how many images of other classes are new, per image on which class features were active
    before; each counts by how much more than in the control it is like the feature's word, in standard deviations."""

    value: float
    features: Ints  # (F,) class features with enough newly active images
    excess: Floats  # (F, W) shift beyond the control's on newly active images of other classes, all images


class Candidate(NamedTuple):
    cls: int
    word: int
    shift: float


def reliance(
    images: Images,
    fresh: Matrix,
    control: Matrix,
    often: Ints,
    class_of: Ints,
    bank: Floats,
    other: NDArray[np.bool_],
    seed: int,
) -> Reliance:
    """How much class features newly fire on what one word says, in one trial.

    `fresh` and `control` (N, D): newly active after fine-tuning, and after the same movement dealt to other images.
    `often` (D,): images on which a feature was active before. `class_of` (D,): the class that a feature is named after,
    or -1. `other` (W,): whether a word of `bank` (W, d) is no class.
    """
    rows = np.flatnonzero(class_of >= 0)
    off = images.labels[:, None] != class_of[rows][None]
    fresh, control = (matrix[:, rows].multiply(off).tocsc() for matrix in (fresh, control))
    half = (draws.bits(seed, "shortcut halves", np.arange(len(images.x))) & np.uint64(1)).astype(bool)
    few = np.minimum(counts(_kept(fresh, half)), counts(_kept(fresh, ~half))) < LEAST
    if few.all() or not other.any():
        return Reliance(0.0, np.zeros(0, np.int64), np.zeros((0, len(bank))))
    rows, fresh, control = rows[~few], fresh[:, ~few], control[:, ~few]
    first, second = (_excess(_part(images, h), fresh[h], control[h], bank) for h in (half, ~half))
    born, found = counts(fresh), np.zeros(len(rows))
    for chosen, measured in ((first, second), (second, first)):
        word = np.where(other, chosen, -np.inf).argmax(1)
        found += measured[np.arange(len(rows)), word] / 2
    value = float((born * found).sum() / max(1, often[class_of >= 0].sum()))
    return Reliance(value, rows, _excess(images, fresh, control, bank))


def candidates(
    trials: Sequence[Reliance], class_of: Ints, other: NDArray[np.bool_], most: int = 5
) -> tuple[Candidate, ...]:
    """The classes and words of the largest mean excess over trials, largest first: one for each class, of the features
    that at least half of the trials could look at."""
    found: dict[int, list[Floats]] = {}
    for trial in trials:
        for feature, excess in zip(trial.features.tolist(), trial.excess, strict=True):
            found.setdefault(feature, []).append(excess)
    best: dict[int, Candidate] = {}
    for feature, each in found.items():
        mean = np.where(other, np.mean(each, axis=0), -np.inf)
        made = Candidate(int(class_of[feature]), int(mean.argmax()), float(mean.max()))
        if 2 * len(each) >= len(trials) and made.shift > best.get(made.cls, Candidate(0, 0, 0.0)).shift:
            best[made.cls] = made
    return tuple(sorted(best.values(), key=lambda each: -each.shift)[:most])


def _excess(images: Images, fresh: Matrix, control: Matrix, bank: Floats) -> Floats:
    """(F, W) shift of the newly active beyond the control's."""
    cells = images.labels * (int(images.sets.max(initial=0)) + 1) + images.sets
    return shared(images.x, fresh, cells, bank).shift - shared(images.x, control, cells, bank).shift


def _part(images: Images, half: NDArray[np.bool_]) -> Images:
    return Images(images.x[half], images.labels[half], images.sets[half])


def _kept(matrix: Matrix, half: NDArray[np.bool_]) -> Matrix:
    return sparse.csc_matrix(matrix.tocsr()[half])
