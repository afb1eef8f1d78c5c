"""Linear CKA of two representations of the same images, in feature space: exact over all images, in one pass.

Shapes: N images, X (N, p), Y (N, q).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Cka(NamedTuple):
    """None where it is not defined: a side is constant, or the images are too few."""

    biased: float | None
    unbiased: float | None


class _Side(NamedTuple):
    """Sums of x xᵀ, x, k x, k and k², with k = ‖x‖²."""

    gram: Floats
    sum: Floats
    weighted: Floats
    norms: float
    squares: float


class Sums:
    """What both estimators need, added up over parts of the images: O(N p q) time, O(p q) memory, float64."""

    def __init__(self, shift_x: NDArray[np.floating], shift_y: NDArray[np.floating]):
        """The shifts (p,) and (q,) are rough means of both sides: CKA does not depend on them, its rounding does."""
        self._shifts = shift_x.astype(np.float64), shift_y.astype(np.float64)
        self.n = 0
        self._scale = [0.0, 0.0]
        self._parts: list[Floats] = []

    def add(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
        """Adds the rows of X and Y of some images."""
        for side, given in enumerate((x, y)):
            self._scale[side] += float(np.square(given, dtype=np.float64).sum())
        x, y = x - self._shifts[0], y - self._shifts[1]
        kx, ky = (x * x).sum(1), (y * y).sum(1)
        both = [x.T @ y, kx @ ky, x.T @ ky, y.T @ kx]
        sides = [part for z, k in ((x, kx), (y, ky)) for part in (z.T @ z, z.sum(0), z.T @ k, k.sum(), k @ k)]
        found = both + sides
        self._parts = [a + b for a, b in zip(self._parts, found, strict=True)] if self._parts else found
        self.n += len(x)

    def cka(self) -> Cka:
        if self.n < 2 or any(self._constant(side) for side in (0, 1)):
            return Cka(None, None)
        return Cka(self._biased(), self._unbiased() if self.n > 3 else None)

    def _sides(self) -> tuple[_Side, _Side]:
        return _Side(*self._parts[4:9]), _Side(*self._parts[9:])  # type: ignore[arg-type]

    def _constant(self, side: int) -> bool:
        one = self._sides()[side]
        variance = np.trace(one.gram) - one.sum @ one.sum / self.n
        return bool(variance <= 1e-13 * self._scale[side])  # rounding of float64, summed

    def _biased(self) -> float:
        """‖XcᵀYc‖² / (‖XcᵀXc‖ ‖YcᵀYc‖) (Kornblith et al. 2019, equation 4)."""
        x, y = self._sides()

        def squared(products: Floats, u: Floats, v: Floats) -> float:
            return float(np.square(products - np.outer(u, v) / self.n).sum())

        own = squared(x.gram, x.sum, x.sum) * squared(y.gram, y.sum, y.sum)
        return squared(self._parts[0], x.sum, y.sum) / float(np.sqrt(own))

    def _unbiased(self) -> float | None:
        """With HSIC₁ (Song et al. 2012, equation 5), which minibatches estimate; here of all images at once."""
        x, y = self._sides()
        cross, dot, weighted_x, weighted_y = self._parts[:4]
        both = self._hsic(cross, float(dot), x, y, weighted_x, weighted_y)
        own_x = self._hsic(x.gram, x.squares, x, x, x.weighted, x.weighted)
        own_y = self._hsic(y.gram, y.squares, y, y, y.weighted, y.weighted)
        return both / float(np.sqrt(own_x * own_y)) if min(own_x, own_y) > 0 else None

    def _hsic(self, cross: Floats, dot: float, x: _Side, y: _Side, by_y: Floats, by_x: Floats) -> float:
        """`by_y` is Σ ‖y‖² x and `by_x` Σ ‖x‖² y; the Gram matrices K̃ and L̃ have no diagonal."""
        n = self.n
        trace = np.square(cross).sum() - dot
        whole = (x.sum @ x.sum - x.norms) * (y.sum @ y.sum - y.norms) / ((n - 1) * (n - 2))
        middle = x.sum @ cross @ y.sum - x.sum @ by_y - y.sum @ by_x + dot  # 1ᵀK̃L̃1
        return float((trace + whole - 2 * middle / (n - 2)) / (n * (n - 3)))


def linear(x: NDArray[np.floating], y: NDArray[np.floating], part: int = 8192) -> Cka:
    """CKA of `x` (N, p) and `y` (N, q), rows of the same images."""
    if not len(x):
        return Cka(None, None)
    sums = Sums(x.mean(0, dtype=np.float64), y.mean(0, dtype=np.float64))
    for start in range(0, len(x), part):
        sums.add(x[start : start + part].astype(np.float64), y[start : start + part].astype(np.float64))
    return sums.cka()
