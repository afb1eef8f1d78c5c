"""Sparse codes of many images: which atoms are active on each, and how much.

Shapes: N images, d embedding width, D dictionary width, k atoms of the busiest image.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from saeft_ray.sae import Dictionary

_FLOATS = 1 << 25  # of a chunk's dense codes


class SparseCodes(NamedTuple):
    """Row i is active at atoms `index[i]` where `value[i]` is not 0. Padding is (0, 0), and atom 0 is an atom."""

    index: NDArray[np.int32]  # type: ignore[assignment]  # (N, k); tuples have a method of this name
    value: NDArray[np.float32]  # (N, k)
    width: int

    def entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Image, atom and value of every active pair, without padding, image by image."""
        row, place = np.nonzero(self.value)
        return row, self.index[row, place].astype(np.int64), self.value[row, place].astype(np.float64)

    def matrix(self) -> Any:
        """The codes as scipy's (N, D) sparse array, float64."""
        row, atom, value = self.entries()
        return sparse.csr_array((value, (row, atom)), shape=(len(self.index), self.width))


@torch.no_grad()
def encode(dictionary: Dictionary, embeddings: NDArray[np.float32], chunk: int | None = None) -> SparseCodes:
    """Codes of (N, d) `embeddings` as `dictionary` reads them, `chunk` images at a time: by default as many as keep
    chunk × D floats at 128 MB. Computed where the dictionary is."""
    device, width = dictionary.bias.device, len(dictionary.atoms)
    chunk = chunk or max(1, _FLOATS // width)
    counts, atoms, values = [], [], []
    for part in torch.split(torch.from_numpy(np.require(embeddings, np.float32, ["C", "W"])), chunk):
        codes = dictionary.encode(dictionary.read(part.to(device))).codes
        row, atom = codes.nonzero(as_tuple=True)
        counts.append(torch.bincount(row, minlength=len(part)).cpu().numpy())
        atoms.append(atom.int().cpu().numpy())
        values.append(codes[row, atom].float().cpu().numpy())
    if not counts:
        return SparseCodes(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32), width)
    active = np.concatenate(counts)
    filled = np.arange(max(1, active.max(initial=0))) < active[:, None]
    index, value = np.zeros(filled.shape, np.int32), np.zeros(filled.shape, np.float32)
    index[filled], value[filled] = np.concatenate(atoms), np.concatenate(values)
    return SparseCodes(index, value, width)


def stacked(parts: Sequence[SparseCodes]) -> SparseCodes:
    """The codes of several sets of images, one below the other; there is at least one."""
    k = max(part.index.shape[1] for part in parts)

    def padded(x: NDArray[Any]) -> NDArray[Any]:
        return np.pad(x, ((0, 0), (0, k - x.shape[1])))

    index, value = (np.concatenate([padded(getattr(part, name)) for part in parts]) for name in ("index", "value"))
    return SparseCodes(index, value, parts[0].width)
