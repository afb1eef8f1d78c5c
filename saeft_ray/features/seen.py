"""How much of a change a dictionary sees: what must be said before anything that is read through it.

Shapes: N images, d embedding width, D dictionary width.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.features.codes import SparseCodes
from saeft_ray.sae import Dictionary

Array = NDArray[np.float32]
_ROWS = 8192


class Seen(NamedTuple):
    """Shares; None where the images give nothing to divide by."""

    moved: float | None  # Σ‖x − x0‖² / Σ‖x0 − mean x0‖²
    seen: float | None  # 1 − Σ‖Δx − WΔs‖² / Σ‖Δx‖²; below 0, the codes add error
    drift: float | None  # of Σ‖Δx‖², what is one shift of all images
    fvu0: float | None  # variance of the frozen embeddings left unexplained
    fvu: float | None  # of the tuned ones


def seen(dictionary: Dictionary, x0: Array, x: Array, s0: SparseCodes, s: SparseCodes) -> Seen:
    """What `dictionary` sees of the change from `x0` to `x`, (N, d) embeddings as it reads them, with their codes."""
    atoms, bias = dictionary.atoms.cpu().numpy(), dictionary.bias.cpu().numpy()
    before, after = s0.matrix(), s.matrix()
    left = unexplained0 = unexplained = 0.0
    for start in range(0, len(x0), _ROWS):
        part = slice(start, start + _ROWS)
        decoded0, decoded = before[part] @ atoms, after[part] @ atoms
        left += _squares(x[part] - x0[part] - (decoded - decoded0))
        unexplained0 += _squares(decoded0 + bias - x0[part])
        unexplained += _squares(decoded + bias - x[part])
    moved, variance0, variance = _squares(x - x0), _squares(x0 - x0.mean(0)), _squares(x - x.mean(0))
    shift = len(x) * _squares((x - x0).mean(0, dtype=np.float64))
    lost = _share(left, moved)
    return Seen(
        moved=_share(moved, variance0),
        seen=None if lost is None else 1 - lost,
        drift=_share(shift, moved),
        fvu0=_share(unexplained0, variance0),
        fvu=_share(unexplained, variance),
    )


def _squares(x: NDArray[np.floating]) -> float:
    return float(np.square(x, dtype=np.float64).sum())


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
