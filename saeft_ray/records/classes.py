"""Accuracy by class, from the stored bits of right and wrong examples and the labels of their images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeft_ray.errors import UserError
from saeft_ray.records.rows import unpack

SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("trial", pa.string()),
        ("phase", pa.string()),
        ("seed", pa.int64()),
        ("dataset", pa.string()),
        ("class", pa.string()),
        ("n", pa.int64()),
        ("correct", pa.int64()),
        ("accuracy", pa.float64()),
    ]
)


def scored(rows: pa.Table) -> pa.Table:
    """The rows that have bits."""
    return rows.filter(pc.is_valid(rows["correct"]))


def classes_table(rows: pa.Table, labels: Mapping[str, NDArray[np.int64]], names: Sequence[str]) -> pa.Table:
    """A line per trial × set × class that the set holds, of the sets that `labels` knows.

    Arguments:
        rows: those of a sweep (`rows.SCHEMA`).
        labels: (N,) the class of each image of a set, in the order of its bits.
        names: of the C classes.

    Raises UserError for bits of another number of images than there are labels.
    """
    found = []
    for row in scored(rows).to_pylist():
        if (of_images := labels.get(row["dataset"])) is None:
            continue
        if row["n"] != len(of_images):
            raise UserError(
                f"{row['dataset']}: {row['trial']} scored {row['n']} images, and the set has {len(of_images)} now; "
                "give the data that the sweep ran on"
            )
        right = unpack(row["correct"], row["n"])
        n = np.bincount(of_images, minlength=len(names))
        correct = np.bincount(of_images[right], minlength=len(names))
        held = np.flatnonzero(n)
        same = {name: [row[name]] * len(held) for name in ("method", "trial", "phase", "seed", "dataset")}
        counted = {"n": n[held], "correct": correct[held], "accuracy": correct[held] / n[held]}
        columns = {**same, "class": [names[i] for i in held.tolist()], **counted}
        found.append(pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}))
    return pa.concat_tables([SCHEMA.empty_table(), *found])
