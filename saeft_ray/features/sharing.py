"""What do the images that newly fire a feature share, beyond their class and their set?

Likeness to a word is centred within cells, each one class of one set, so that a feature that newly fires on one class
more than on others shares nothing for that alone. Near misses become active whatever moves them, and they are alike:
only what goes beyond a control, the same movement dealt to other images, is the doing of fine-tuning.

Shapes: N images, D features, W words, C cells, S seeds, d embedding width. `fresh` (N, D) holds sparse ones, as
`activity.born` gives it.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse, stats

from saeft_ray.features.activity import Floats, Ints, Matrix, counts
from saeft_ray.stats.moderated import moderated
from saeft_ray.stats.multiplicity import benjamini_hochberg

_BLOCK = 256  # words whose likeness to all images is held at once


class Shared(NamedTuple):
    """One trial's: what the newly active images of each feature are like."""

    z: Floats  # (D, W) standard normal if which images of a cell are newly active is chance
    shift: Floats  # (D, W) mean likeness, in standard deviations of likeness within cells
    word: Ints  # (D,) of the largest z
    p: Floats  # (D,) its p, one-sided, Bonferroni over words; 1 if nothing is newly active


class Beyond(NamedTuple):
    """Over seeds: what is shared beyond the control."""

    shift: Floats  # (D, W) mean over seeds of the shift less the control's
    word: Ints  # (D,) of the largest
    q: Floats  # (D,) one-sided, Bonferroni over words, Benjamini-Hochberg over the tested features; 1 if not tested
    agree: Floats  # (D,) share of seeds in which it is the largest too


def shared(x: Floats, fresh: Matrix, cells: Ints, bank: Floats) -> Shared:
    """What newly active images are like, from unit frozen embeddings `x` (N, d), `cells` (N,) and `bank` (W, d).

    Under the null hypothesis a permutation within cells changes nothing: the sum of centred likeness v over the newly
    active b has mean 0 and variance Σ over cells of Σ(b − b̄)² Σv² / (n − 1), so no permutation is drawn.
    """
    member, size = _members(cells)
    in_cell = (member.T @ fresh).astype(np.float64)  # (C, D) sparse
    spread = in_cell - in_cell.multiply(in_cell.multiply(1 / size[:, None]))
    spread = spread.multiply(1 / np.maximum(size - 1, 1)[:, None]).tocsr()
    born = counts(fresh)
    total, variance = (np.zeros((fresh.shape[1], len(bank))) for _ in range(2))
    deviation = np.zeros(len(bank))
    for start in range(0, len(bank), _BLOCK):
        block = slice(start, start + _BLOCK)
        likeness = x @ bank[block].T
        likeness = likeness - ((member.T @ likeness) / size[:, None])[member.indices]
        total[:, block] = fresh.T @ likeness
        variance[:, block] = spread.T @ (member.T @ likeness**2)
        deviation[block] = np.sqrt((likeness**2).mean(0))
    z = np.where(variance > 1e-12, total / np.sqrt(np.maximum(variance, 1e-12)), 0)
    shift = total / np.maximum(born, 1)[:, None] / np.maximum(deviation, 1e-12)
    if not len(bank):
        return Shared(z, shift, np.zeros(len(born), np.int64), np.ones(len(born)))
    p = np.minimum(1, len(bank) * stats.norm.sf(z.max(1)))
    return Shared(z, shift, z.argmax(1), np.where(born > 0, p, 1))


def beyond(real: Floats, control: Floats, tested: Ints) -> Beyond:
    """What goes beyond the control in shifts `real` and `control` (S, D, W), for the features at the places `tested`.

    Seeds are the replicates: with one, nothing is tested and every q is 1.
    """
    s, d, w = real.shape
    difference = real - control
    mean, q = difference.mean(0), np.ones(d)
    if not w:
        return Beyond(mean, np.zeros(d, np.int64), q, np.zeros(d))
    word = mean.argmax(1)
    flat = moderated(difference[:, tested].reshape(s, -1))
    if flat is not None:
        t = flat.mean / np.maximum(flat.se, 1e-12)
        p = stats.t.sf(t, flat.df).reshape(-1, w)[np.arange(len(tested)), word[tested]]
        q[tested] = benjamini_hochberg(np.minimum(1, w * p))
    return Beyond(mean, word, q, (difference.argmax(2) == word).mean(0))


def _members(cells: Ints) -> tuple[Matrix, Floats]:
    """(N, C) sparse membership, and (C,) images in each cell."""
    _, cell, size = np.unique(cells, return_inverse=True, return_counts=True)
    shape = (len(cell), len(size))
    return sparse.csr_matrix((np.ones(len(cell)), (np.arange(len(cell)), cell)), shape=shape), size.astype(np.float64)
