"""Users' own labels of images, by which features get names without any words.

Shapes: N images, D features, A attributes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saeft_ray.config.feature_files import SHOWN, Line, more
from saeft_ray.features.activity import Floats, Matrix, counts, pattern

MOST_DIGITS = 15


class Labels(NamedTuple):
    """Attributes in order of name, which images have each, and how many lines name an image that is not there."""

    attributes: tuple[str, ...]
    member: Matrix  # (N, A) sparse ones
    missing: int
    said: tuple[str, ...]


def labels(lines: Sequence[Line], sizes: Mapping[str, int], files: Mapping[str, Sequence[str]] | None = None) -> Labels:
    """Attributes of the pooled images of sets with `sizes`, in that order. `files` holds the file names of the images
    of a set, if they have such; a name without a set is looked for in all of them, and a bare number means the first
    set. Images that are in no set are counted and said."""
    start = dict(zip(sizes, np.cumsum([0, *sizes.values()])[:-1].tolist(), strict=True))
    places: dict[tuple[str, str], list[int]] = {}
    for name, listed in (files or {}).items():
        for i, file in enumerate(listed):
            places.setdefault((name, file), []).append(start[name] + i)
            places.setdefault(("", file), []).append(start[name] + i)
    attributes = sorted({line.attribute for line in lines})
    column = {attribute: number for number, attribute in enumerate(attributes)}
    pairs, absent = set(), []
    for line in lines:
        found = places.get((line.set, line.image)) or _numbered(line, sizes, start)
        pairs |= {(place, column[line.attribute]) for place in found}
        if not found:
            absent.append(line)
    said = []
    if absent:
        shown = ", ".join(f"{line.image} (line {line.number})" for line in absent[:SHOWN])
        said.append(f"{len(absent)} of {len(lines)} labels name an image that is in no set: {shown}{more(absent)}")
    rows, columns = (np.array([pair[i] for pair in sorted(pairs)], np.int64) for i in (0, 1))
    shape = (sum(sizes.values()), len(attributes))
    member = sparse.csc_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    return Labels(tuple(attributes), member, len(absent), tuple(said))


def scores(active: Matrix, member: Matrix) -> Floats:
    """(D, A) F1 of "the feature is active" with "the image has the attribute"."""
    both = (pattern(active).T @ member).toarray()
    return np.asarray(2 * both / np.maximum(counts(active)[:, None] + counts(member)[None], 1))


def named(f1: Floats, least: float = 0.5) -> NDArray[np.int64]:
    """(D,) the attribute of the largest F1 of each feature, -1 where it is below `least` or there are no attributes."""
    if not f1.shape[1]:
        return np.full(len(f1), -1)
    return np.where(f1.max(1) >= least, f1.argmax(1), -1)


def _numbered(line: Line, sizes: Mapping[str, int], start: Mapping[str, int]) -> list[int]:
    """The place of an image that is given by its number within a set."""
    name = line.set or next(iter(sizes), "")
    # Python refuses to read thousands of digits, and no set has that many images.
    if not line.image.isdecimal() or len(line.image) > MOST_DIGITS or name not in sizes:
        return []
    if int(line.image) >= sizes[name]:
        return []
    return [start[name] + int(line.image)]
