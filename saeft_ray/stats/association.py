"""How much one kind of group tells of another."""

import numpy as np
from numpy.typing import NDArray

from saeft_ray.draws import IntArray


def cramers_v(a: IntArray, b: IntArray) -> float | None:
    """Cramér's V of two groupings (n,) of the same things, 0 (they tell nothing of each other) to 1, with Bergsma's
    (2013, eq. 8 to 10) correction of the bias that V has upwards. None where either has one group alone.

    >>> import numpy as np
    >>> kinds = np.arange(300) % 3
    >>> cramers_v(kinds, (kinds + 1) % 3), cramers_v(kinds, np.zeros(300, np.int64))
    (1.0, None)
    """
    table = _counts(a, b)
    (r, c), n = table.shape, table.sum()
    if min(r, c) < 2 or n < 2:
        return None
    expected = np.outer(table.sum(1), table.sum(0)) / n
    phi2 = float((np.square(table - expected) / expected).sum() / n)
    unbiased = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    most = min(rows, columns) - 1
    return min(1.0, float(np.sqrt(unbiased / most))) if most > 0 else None


def _counts(a: IntArray, b: IntArray) -> NDArray[np.float64]:
    """How often each pair of groups occurs, of the groups that occur."""
    (_, i), (_, j) = (np.unique(x, return_inverse=True) for x in (a, b))
    table = np.zeros((int(i.max(initial=-1)) + 1, int(j.max(initial=-1)) + 1))
    np.add.at(table, (i, j), 1)
    return table
