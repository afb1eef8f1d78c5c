"""Where features fire: the mass and the newly active images of each feature by set and by class, as a table.

Shapes: N images, C classes, D dictionary width, L lines. A cell is a class of a set.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from saeft_ray.features.activity import Ints, Matrix, pattern, values_at
from saeft_ray.features.comparisons import Comparison
from saeft_ray.features.content import Share
from saeft_ray.features.frozen import Frozen
from saeft_ray.features.tables import FIRINGS

LINES = 1_000_000  # a table of more would be slow to read, and its features changed least
SHARES = 3  # classes, and sets, that are listed of the newly active images of a feature


def firings(comparisons: Sequence[Comparison], places: Ints, frozen: Frozen, missing: list[str]) -> pa.Table:
    """The table `firings`: a line per method × against × feature × set × class where the feature has mass in either
    model. Counts and masses are means over seeds.

    `places` (F,): the features, those that must be in it first. Those whose lines would be more than LINES in all are
    left out, and that is said in `missing`.
    """
    cells = [pattern(c.before) + pattern(c.after) for c in comparisons]
    lines = np.sum([np.diff(each.tocsc().indptr)[places] for each in cells], axis=0)
    kept = places[: np.searchsorted(np.cumsum(lines), LINES, side="right")]
    if len(kept) < len(places):
        missing.append(
            f"The table `firings` holds the {len(kept):,} most changed of {len(places):,} features: all of them would "
            f"have {int(lines.sum()):,} lines, and it has at most {LINES:,}."
        )
    parts = [
        _lines(c, cell[:, np.sort(kept)], np.sort(kept), frozen) for c, cell in zip(comparisons, cells, strict=True)
    ]
    return pa.concat_tables([FIRINGS.empty_table(), *parts])


def _lines(c: Comparison, cells: Matrix, kept: Ints, frozen: Frozen) -> pa.Table:
    """The lines of one comparison; `cells` (sets × C, F) is not 0 where one is wanted."""
    column, row = cells.T.tocsr().nonzero()
    at, label = np.divmod(row, len(frozen.classes))
    numbers = (c.before, c.after, _by_cell(c.fresh, frozen), _by_cell(c.gone, frozen))
    return pa.table(
        [
            pa.array([c.method] * len(row)),
            pa.array([c.against] * len(row)),
            pa.array(kept[column]),
            pa.array(np.array(frozen.names, object)[at]),
            pa.array(np.array(frozen.classes, object)[label]),
            *(pa.array(values_at(each.tocsr(), row, kept[column])) for each in numbers),
        ],
        schema=FIRINGS,
    )


def shares(fresh: Matrix, active: Matrix, member: Matrix, labels: Sequence[str]) -> dict[int, tuple[Share, ...]]:
    """By feature, the classes or the sets where most newly active images are, largest first, with the share of the
    images where the feature was active before; only of features that are newly active anywhere.

    `fresh` (N, F) in how many seeds an image is new; `active` (N, F); `member` (N, C) sparse ones, with their `labels`.
    """
    new, old = ((member.T @ matrix).tocsc() for matrix in (fresh, pattern(active)))
    every_new, every_old = (np.asarray(each.sum(0)).reshape(-1) for each in (new, old))
    found = {}
    for feature in np.flatnonzero(every_new).tolist():
        part = slice(new.indptr[feature], new.indptr[feature + 1])
        places, often = new.indices[part], new.data[part]
        most = np.argsort(-often, kind="stable")[:SHARES]
        before = old[:, [feature]].toarray().reshape(-1)[places[most]] / max(1, every_old[feature])
        found[feature] = tuple(
            Share(label=labels[place], new=float(share), old=float(was))
            for place, share, was in zip(places[most], often[most] / every_new[feature], before, strict=True)
        )
    return found


def _by_cell(trials: Sequence[Matrix], frozen: Frozen) -> Matrix:
    """(sets × C, D) images by cell, mean over seeds."""
    return frozen.of_cell.T @ (sum(trials[1:], trials[0]) / len(trials))
