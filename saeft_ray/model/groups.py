"""Groups of images by what the classes do not need: k-means of frozen embeddings off the span of the zero-shot head.

Shapes: n embeddings, d their width, C classes, K groups. Embeddings are read at length 1.
"""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from saeft_ray import draws
from saeft_ray.model.unit import unit

SAMPLE = 10_000  # embeddings, at most, that k-means is fitted to
STARTS = 5  # of k-means, of which the best is taken
STEPS = 30  # of each


class Groups(NamedTuple):
    """K groups of embeddings. `span` (r, d), r < C: an orthonormal basis of the differences between classes; `centres`
    (K, d) are orthogonal to it."""

    span: Tensor
    centres: Tensor

    def of(self, x: Tensor) -> Tensor:
        """The group (n,) of every embedding of `x` (n, d): the nearest centre, off the span."""
        return torch.cdist(off(unit(x), self.span.to(x)), self.centres.to(x)).argmin(1)


def class_span(head: Tensor) -> Tensor:
    """An orthonormal basis (r, d) of the differences between the rows of `head` (C, d): all that moves a prediction."""
    contrasts = (head - head.mean(0)).double()
    _, sizes, directions = torch.linalg.svd(contrasts, full_matrices=False)
    basis: Tensor = directions[sizes > 1e-6 * sizes.max()].to(head)
    return basis


def off(x: Tensor, span: Tensor) -> Tensor:
    """The part of every row of `x` (n, d) that is orthogonal to `span` (r, d)."""
    return x - (x @ span.T) @ span


def fit(parts: Iterable[Tensor], n: int, head: Tensor, count: int, seed: int) -> Groups:
    """`count` groups of the `n` embeddings in `parts`; of many, found by a sample that `seed` names."""
    span, start, rows = class_span(head), 0, []
    chosen = torch.from_numpy(np.sort(draws.permutation(seed, "groups", n)[:SAMPLE]))
    for part in parts:
        here = chosen[(start <= chosen) & (chosen < start + len(part))] - start
        rows.append(off(unit(part[here.to(part.device)]), span.to(part)).float().cpu())
        start += len(part)
    return Groups(span, torch.from_numpy(_centres(torch.cat(rows).numpy(), count, seed)).to(head))


def _centres(x: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The centres (count, d) of the best of several starts of k-means (Arthur & Vassilvitskii 2007) on `x` (n, d)."""
    found: list[tuple[float, np.ndarray]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty group, which keeps the centre that it had
        for start in range(STARTS):
            drawn = np.random.default_rng(draws.seed_of("k-means", seed, start))
            centres, group = kmeans2(x, count, iter=STEPS, minit="++", rng=drawn)
            found.append((float(np.square(x - centres[group]).sum()), centres))
    return min(found, key=lambda each: each[0])[1]
