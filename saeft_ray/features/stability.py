"""Which features does a dictionary of another seed also find?

Shapes: D and D' live atoms of two dictionaries, d embedding width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtri

from saeft_ray import draws
from saeft_ray.features.activity import Floats, Ints, Matrix, unit

SAME = 0.8  # cosine from which two atoms count as one feature
CHANCE = 0.05  # of the features may have as good a match by activation in a random dictionary
_SMALL = 2048  # atoms up to which the assignment is exact
_BLOCK = 4096


class Match(NamedTuple):
    """The partner in the other dictionary of each atom, -1 for none, and its cosine (-1 for none)."""

    partner: Ints  # (D,)
    likeness: Floats  # (D,)


class Found(NamedTuple):
    """In how many other dictionaries each feature is found, and how many a random one of their sizes would find."""

    times: Ints  # (D,)
    by_chance: float  # share of all features that random dictionaries match at SAME


def found(atoms: Floats, others: Sequence[Floats], seed: int) -> Found:
    """How often `others` (D', d) each hold the `atoms` (D, d)."""
    strangers = [random_atoms(len(other), other.shape[1], seed, i) for i, other in enumerate(others)]
    times = np.sum([held(atoms, other) for other in others], axis=0)
    return Found(times, float(np.mean([held(atoms, other) for other in strangers])))


def held(atoms: Floats, other: Floats) -> NDArray[np.bool_]:
    """(D,) whether `other` (D', d) has a partner of each of the `atoms` (D, d), one to one, at a cosine of SAME."""
    same: NDArray[np.bool_] = match(atoms, other).likeness >= SAME
    return same


def held_active(active: Matrix, other: Matrix, stranger: Matrix) -> NDArray[np.bool_]:
    """(D,) whether each feature of `active` (N, D) has a partner in `other` (N, D') that is active as much on the same
    images: each is the other's best by correlation, and beyond what all but CHANCE of the features reach with any
    feature of the random dictionary that is active as `stranger` (N, D'') says."""
    if not active.shape[1]:
        return np.zeros(0, bool)
    by_chance = max(0.0, float(np.quantile(alike(active, stranger).likeness, 1 - CHANCE)))
    found = alike(active, other, both_ways=True)
    same: NDArray[np.bool_] = (found.partner >= 0) & (found.likeness > by_chance)
    return same


def alike(active: Matrix, other: Matrix, both_ways: bool = False) -> Match:
    """The feature of `other` (N, D') whose activations correlate most with those of each of `active` (N, D); with
    `both_ways`, only if this is also the best of that one. -1 where none is positive.

    Features that are never active together do not correlate, so that everything comes from a sparse product: O(N k k').
    """
    n = max(1, active.shape[0])
    together = (active.astype(np.float64).T @ other).tocoo()
    (mean, spread), (its_mean, its_spread) = (_moments(each) for each in (active, other))
    r, c = together.row, together.col
    likeness = (together.data / n - mean[r] * its_mean[c]) / np.maximum(spread[r] * its_spread[c], 1e-300)
    found = sparse.csr_matrix((np.maximum(likeness, 0), (r, c)), shape=together.shape)
    if not all(found.shape):
        return Match(np.full(active.shape[1], -1), np.full(active.shape[1], -1.0))
    partner, value = np.asarray(found.argmax(1)).reshape(-1), found.max(1).toarray().reshape(-1)
    agreed = value > 0
    if both_ways:
        agreed &= np.asarray(found.argmax(0)).reshape(-1)[partner] == np.arange(len(partner))
    return Match(np.where(agreed, partner, -1), np.where(agreed, value, -1.0))


def _moments(matrix: Matrix) -> tuple[Floats, Floats]:
    """(D,) mean and standard deviation of each column."""
    n = max(1, matrix.shape[0])
    mean = np.asarray(matrix.sum(0, dtype=np.float64)).reshape(-1) / n
    square = np.asarray(matrix.multiply(matrix).sum(0, dtype=np.float64)).reshape(-1) / n
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def match(a: Floats, b: Floats) -> Match:
    """One to one by cosine: the exact assignment for small dictionaries, mutual nearest neighbours for large ones."""
    return hungarian(a, b) if max(len(a), len(b)) <= _SMALL else mutual(a, b)


def hungarian(a: Floats, b: Floats) -> Match:
    """The one-to-one match with the largest sum of cosines: O(D³) time, so for small D."""
    return _assigned(unit(a) @ unit(b).T)


def mutual(a: Floats, b: Floats, block: int = _BLOCK) -> Match:
    """Pairs of atoms that are each other's nearest: O(D D' d) time and O(block × D') memory."""
    a, b = unit(a), unit(b)
    nearest, value = np.zeros(len(a), np.int64), np.full(len(a), -1.0)
    back, best = np.full(len(b), -1), np.full(len(b), -np.inf)
    for start in range(0, len(a) if len(b) else 0, block):
        rows = slice(start, start + block)
        cosines = a[rows] @ b.T
        nearest[rows], value[rows] = cosines.argmax(1), cosines.max(1)
        better = cosines.max(0) > best
        back[better], best[better] = start + cosines.argmax(0)[better], cosines.max(0)[better]
    if not len(b):
        return Match(np.full(len(a), -1), value)
    agreed = back[nearest] == np.arange(len(a))
    return Match(np.where(agreed, nearest, -1), np.where(agreed, value, -1.0))


def random_atoms(width: int, d: int, seed: int, number: int) -> Floats:
    """(width, d) directions uniform on the sphere: what no training finds."""
    bits = draws.bits(seed, "stability null", number, np.arange(width)[:, None], np.arange(d)[None])
    return unit(ndtri(((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53))


def _assigned(likeness: Floats) -> Match:
    rows, columns = linear_sum_assignment(-likeness)
    partner, value = np.full(len(likeness), -1), np.full(len(likeness), -1.0)
    partner[rows], value[rows] = columns, likeness[rows, columns]
    return Match(partner, value)
