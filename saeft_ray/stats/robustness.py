"""Two accuracies at once: effective robustness, the front of the best trade-offs, and its area."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit


@dataclass(frozen=True, kw_only=True)
class Line:
    """logit(OOD) = intercept + slope·logit(ID), as standard models lie on it. A declared line has no `r2`."""

    slope: float
    intercept: float
    r2: float | None = None

    def at(self, accuracy: ArrayLike) -> NDArray[np.float64]:
        """The OOD accuracy that the line expects of ID `accuracy` (fractions strictly inside 0 and 1)."""
        return np.asarray(expit(self.intercept + self.slope * logit(np.asarray(accuracy, dtype=np.float64))))


def inside(accuracy: ArrayLike, n: int) -> NDArray[np.float64]:
    """Accuracies on `n` examples, kept 1/(2n) away from 0 and 1: their logit is finite (docs/statistics.md 5.10)."""
    return np.clip(np.asarray(accuracy, dtype=np.float64), 1 / (2 * n), 1 - 1 / (2 * n))


def effective_robustness(identity: ArrayLike, shifted: ArrayLike, line: Line) -> NDArray[np.float64]:
    """OOD accuracy beyond what `line` expects of the ID accuracy, by seed. Compare methods by the paired difference of
    it: the line's own error nearly cancels there (docs/statistics.md 3.7)."""
    return np.asarray(np.asarray(shifted, dtype=np.float64) - line.at(identity))


def front(points: ArrayLike) -> NDArray[np.bool_]:
    """Mark those of `points` (m, 2) that no other point beats: as good in both coordinates and better in one."""
    p = np.asarray(points, dtype=np.float64)
    beaten = [bool(((p >= point).all(axis=1) & (p > point).any(axis=1)).any()) for point in p]
    return ~np.array(beaten, dtype=np.bool_)


def hypervolume(points: ArrayLike, reference: tuple[float, float]) -> float:
    """The area that `points` (m, 2) dominate above `reference` (docs/statistics.md 4.15). State the reference with
    it. For many equal methods it is too large, for it rewards the luckiest."""
    p = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    area, best = 0.0, reference[1]
    for x, y in p[np.lexsort((-p[:, 1], -p[:, 0]))]:
        if x > reference[0] and y > best:
            area += (x - reference[0]) * (y - best)
            best = y
    return float(area)
