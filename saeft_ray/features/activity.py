"""Which images a feature is active on, as a sparse matrix by feature: what names, labels and sharing read.

Shapes: N images, D features, k active a row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Matrix = Any  # a scipy.sparse.csc_matrix: scipy ships no types for it


def activity(index: Ints, value: Floats, width: int) -> Matrix:
    """(N, D) sparse magnitudes of codes that row i holds as `value[i]` (k,) at `index[i]` (k,); zeros are padding."""
    rows, places = np.nonzero(value)
    shape = (len(index), width)
    return sparse.csc_matrix((np.abs(value[rows, places]), (rows, index[rows, places])), shape=shape)


def born(before: Matrix, after: Matrix) -> Matrix:
    """(N, D) ones where a feature is active in `after` and was not in `before`."""
    on, was = pattern(after), pattern(before)
    fresh = on - on.multiply(was)
    fresh.eliminate_zeros()
    return fresh.tocsc()


def values_at(matrix: Matrix, rows: Ints, columns: Ints) -> Floats:
    """(L,) float64 values of a sparse matrix at L places; scipy gives no array where there is no place."""
    return np.asarray(matrix[rows, columns], np.float64).reshape(-1) if len(rows) else np.zeros(0)


def pattern(matrix: Matrix) -> Matrix:
    """The same places, each holding 1."""
    out = matrix.copy()
    out.data = np.ones_like(out.data, dtype=np.float32)
    return out


def counts(matrix: Matrix) -> Ints:
    """(D,) on how many images each feature is active."""
    return np.asarray(np.diff(matrix.indptr))


def unit(x: Floats) -> Floats:
    """Rows of `x` at length 1; a row of zeros stays one."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12))
