"""Names for features: words of a bank, with the evidence for each and a null, so that most features stay unnamed.

A name is the word most like the mean of the images that a feature fires on. It is given only if the word's text tells
those images from the others (F1), if no other word does nearly as well, and if a direction without meaning seldom fits
any word as well (p). How often sets of images without meaning reach the F1 (p_f1) is told and asks nothing: as a
condition it would take four in ten names from trained dictionaries, which are no truer for it (docs/what_changed.md).

Shapes: N images, D features, W words, d embedding width, m images or words a feature. `x` (N, d) are unit frozen
embeddings, `active` (N, D) is the sparse matrix that `activity` gives. Nothing here is N × D or N × W at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from saeft_ray import draws
from saeft_ray.features.activity import Floats, Ints, Matrix, counts, pattern, unit

SHARE = 0.1  # of the images, the most alike ones, count as what a word's text says
LEAST_F1 = 0.4
MOST_P = 0.05
RIVAL = 0.6  # of the name's F1 is the most that another word may have
SAME = 0.75  # cosine of two words that are no rivals, such as synonyms
DRAWS = 4000
SETS = 200  # of images without meaning, for the null of F1
WORDS = 5  # that are listed for each feature
_BLOCK = 256  # words, or features, that are looked at together
_SETS = 50


class Names(NamedTuple):
    """The best words of each feature, best first, and whether the first is its name."""

    words: Ints  # (D, m) places in the bank
    cosine: Floats  # (D, m)
    f1: Floats  # (D, m)
    p: Floats  # (D,) of the first word: how often a direction without meaning fits its own best word as well
    p_f1: Floats  # (D,) how often its images, as many as the feature has, reach the first F1 with their own first word
    named: NDArray[np.bool_]  # (D,)


class Null(NamedTuple):
    """What directions without meaning score."""

    mean: Floats  # (W,)
    sd: Floats  # (W,)
    best: Floats  # (draws,) sorted: the best standardised score of each


def names(
    x: Floats, active: Matrix, bank: Floats, seed: int, least_f1: float = LEAST_F1, most_p: float = MOST_P
) -> Names:
    """Names of D features from `bank` (W, d), the centred unit embeddings of the words.

    With an empty bank no feature has words; features that are never active have none that are worth a name.
    """
    d = active.shape[1]
    m = min(WORDS, len(bank))
    if not m or not len(x):
        none = np.zeros((d, 0))
        return Names(none.astype(np.int64), none, none, np.ones(d), np.ones(d), np.zeros(d, bool))
    null = null_of(x, bank, seed)
    words, cosine, standardised = _best(mean_direction(x, active), bank, null, m)
    f1 = text_f1(x, active, bank, words)
    p, p_f1 = p_of(standardised, null), p_of_f1(x, bank, counts(active), f1[:, 0], seed)
    p[counts(active) == 0] = 1
    alone = rival_f1(f1, words, bank) <= RIVAL * f1[:, 0]
    return Names(words, cosine, f1, p, p_f1, (f1[:, 0] >= least_f1) & alone & (p <= most_p))


def mean_direction(x: Floats, active: Matrix) -> Floats:
    """(D, d) unit: the mean embedding, weighted by activation, less the mean of all images; zeros if never active."""
    mass = np.asarray(active.sum(0)).reshape(-1, 1)
    mean = active.T @ x / np.maximum(mass, 1e-12)
    return unit(np.where(mass > 0, mean - x.mean(0), 0))


def strongest(active: Matrix, m: int) -> Ints:
    """(D, m) the images with the largest activation of each feature, largest first; -1 where fewer are active."""
    out = np.full((active.shape[1], m), -1)
    for j, (start, stop) in enumerate(zip(active.indptr[:-1], active.indptr[1:], strict=True)):
        order = np.argsort(-active.data[start:stop], kind="stable")[:m]
        out[j, : len(order)] = active.indices[start:stop][order]
    return out


def text_f1(x: Floats, active: Matrix, bank: Floats, words: Ints) -> Floats:
    """(D, m) F1 of "the feature is active" with "the image is among the SHARE most like the word", for the `words`
    (D, m) of each feature. O(N W d) time, in blocks of words."""
    on, often = pattern(active).T.tocsr(), counts(active)
    out = np.zeros(words.shape)
    for block, chosen in _chosen(x, bank):
        rows, columns = np.nonzero((words >= block.start) & (words < block.stop))
        if not len(rows):
            continue
        here, place = np.unique(rows, return_inverse=True)
        which = words[rows, columns] - block.start
        both = (on[here] @ chosen)[place, which]
        out[rows, columns] = 2 * both / (often[rows] + chosen.sum(0)[which])
    return out


def rival_f1(f1: Floats, words: Ints, bank: Floats) -> Floats:
    """(D,) the largest F1 (D, m) of `words` after the first, less those that mean nearly the same as the first. A
    feature that two words fit is one of neither."""
    best = np.zeros(len(words))
    for other, its in zip(words.T[1:], f1.T[1:], strict=True):
        alike = (bank[other] * bank[words[:, 0]]).sum(1)
        best = np.maximum(best, np.where(alike < SAME, its, 0))
    return best


def _chosen(x: Floats, bank: Floats) -> Iterator[tuple[range, Floats]]:
    """Blocks of words, and (N, block) ones where an image is among the SHARE most like a word."""
    mean = x.mean(0)
    for start in range(0, len(bank), _BLOCK):
        block = range(start, min(start + _BLOCK, len(bank)))
        likeness = (x - mean) @ bank[block.start : block.stop].T
        yield block, (likeness >= np.quantile(likeness, 1 - SHARE, axis=0)).astype(np.float32)


def null_of(x: Floats, bank: Floats, seed: int, count: int = DRAWS) -> Null:
    """Scores of `count` random mixtures of centred embeddings: directions with the images' own covariance.

    A mixture of N centred embeddings with normal weights is a normal vector with their covariance, so d numbers are
    drawn for each and not N.
    """
    directions = _without_meaning(x, seed, count)
    mean, sd, best = np.zeros(len(bank)), np.zeros(len(bank)), np.full(count, -np.inf)
    for start in range(0, len(bank), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosines = directions @ bank[block].T
        mean[block], sd[block] = cosines.mean(0), np.maximum(cosines.std(0), 1e-12)
        best = np.maximum(best, ((cosines - mean[block]) / sd[block]).max(1))
    return Null(mean, sd, np.sort(best))


def p_of_f1(x: Floats, bank: Floats, often: Ints, f1: Floats, seed: int, count: int = SETS) -> Floats:
    """(D,) how often sets of images without meaning reach the `f1` (D,) of features that are active on `often` (D,)
    images; 1 for a feature that is never active.

    Each set is the images most alike one of `count` directions without meaning, as many as the feature has, and its
    word is the one most like the direction. O(count × N (d + log N)) time.
    """
    directions, centred = _without_meaning(x, seed, count), x - x.mean(0)
    as_good, place = np.zeros(len(often)), np.maximum(often, 1) - 1
    for start in range(0, count, _SETS):
        block = directions[start : start + _SETS].astype(np.float32)
        order = np.argsort(-(centred @ block.T), axis=0)
        likeness = centred @ bank[(block @ bank.T).argmax(1)].T
        member = likeness >= np.quantile(likeness, 1 - SHARE, axis=0)
        both = np.cumsum(np.take_along_axis(member, order, axis=0), axis=0)[place]
        as_good += (2 * both / (often[:, None] + member.sum(0)) >= f1[:, None]).sum(1)
    return np.where(often > 0, (1 + as_good) / (1 + count), 1.0)


def _without_meaning(x: Floats, seed: int, count: int) -> Floats:
    """(count, d) unit directions of random mixtures of the centred embeddings."""
    centred = (x - x.mean(0)).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    bits = draws.bits(seed, "names null", np.arange(count)[:, None], np.arange(x.shape[1])[None])
    normal = ndtri(((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)
    return unit((normal * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def p_of(best: Floats, null: Null) -> Floats:
    """(D,) (1 + draws as good) / (1 + draws) for the best standardised scores (D,)."""
    as_good = len(null.best) - np.searchsorted(null.best, best, side="left")
    return np.asarray((1 + as_good) / (1 + len(null.best)))


def _best(directions: Floats, bank: Floats, null: Null, m: int) -> tuple[Ints, Floats, Floats]:
    """The m words of the largest cosine, their cosines (D, m), and the best standardised score (D,) of any word."""
    words, cosine = np.zeros((len(directions), m), np.int64), np.zeros((len(directions), m))
    standardised = np.zeros(len(directions))
    for start in range(0, len(directions), _BLOCK):
        rows = slice(start, start + _BLOCK)
        cosines = directions[rows] @ bank.T
        order = np.sort(np.argpartition(-cosines, m - 1, axis=1)[:, :m], axis=1)
        order = np.take_along_axis(
            order, np.argsort(-np.take_along_axis(cosines, order, 1), axis=1, kind="stable"), axis=1
        )
        words[rows], cosine[rows] = order, np.take_along_axis(cosines, order, 1)
        standardised[rows] = ((cosines - null.mean) / null.sd).max(1)
    return words, cosine, standardised
