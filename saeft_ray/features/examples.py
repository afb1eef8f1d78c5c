"""Class and file of every image of a set, kept beside its embeddings: numbers outlive the images that they came from.

Shapes: N images of a set.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.datasets.images.split import FileSplit
from saeft_ray.errors import UserError
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.tuned import split_of
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.store import Store

_FILE = "examples.json"


class Examples(NamedTuple):
    """`files` are the names of the images, None where they are no files."""

    labels: NDArray[np.int64]  # (N,)
    files: list[str] | None


def examples_of(plan: Plan, store: Store, name: str) -> Examples:
    """The images of set `name`; looked up and kept if the store has none. Raises UserError if those are gone then."""

    def build(folder: Path) -> None:
        split = split_of(plan, name)
        files = list(split.names) if isinstance(split, FileSplit) else None
        (folder / _FILE).write_text(json.dumps({"labels": split.labels.tolist(), "files": files}), encoding="utf-8")

    identity = _identity(plan, name)
    folder = store.ensure("examples", fingerprint(identity, 24), build, identity)
    found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    return Examples(np.array(found["labels"], np.int64), found["files"])


def labels_of(plan: Plan, store: Store, name: str, order: str) -> NDArray[np.int64]:
    """(N,) the classes alone, for whoever only reads: nothing is kept. `order` is the hash that the rows of the set
    have. Raises UserError as `examples_of`, and for images that are no longer those of the rows."""
    if store.has("examples", fingerprint(_identity(plan, name), 24)):
        return examples_of(plan, store, name).labels
    split = split_of(plan, name)
    if split.example_order != order:
        raise UserError("its images are not those that the sweep scored")
    return split.labels


def _identity(plan: Plan, name: str) -> dict[str, object]:
    return {"data": plan.facts.data, "set": name, "version": 1}
