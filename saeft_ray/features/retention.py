"""What images that have a feature kept of it, apart from any drift and from the competition for the top k.

Shapes: N images, d embedding width, D dictionary width.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.features.codes import SparseCodes

Floats = NDArray[np.float64]


class Retention(NamedTuple):
    """Of the least-squares fit Δa = drift + gain · s0 + rest, feature by feature; a is the pre-activation, s0 the
    frozen code. NaN where s0 does not vary."""

    gain: Floats  # (D,) −0.2: images with the feature lost a fifth of it
    drift: Floats  # (D,) what every image gained, in mean active codes
    explained: Floats  # (D,) share of ΣΔa² that drift and gain explain


def retention(s0: SparseCodes, delta: NDArray[np.float32], encoder: NDArray[np.float32]) -> Retention:
    """Retention from frozen codes, the change `delta` (N, d) of what the dictionary reads, and its `encoder` (D, d).

    Latent scaling (Minder et al. 2025) with an intercept: without one, a drift of all images poses as a change of every
    feature. A change of pre-activations is Δx Eᵀ, so that every sum comes from sparse codes and d × d products:
    O(N k d + D d²), never N × D.
    """
    n, codes = max(1, len(delta)), s0.matrix()
    change, rows = delta.astype(np.float64), encoder.astype(np.float64)
    sum_s, sum_ss = np.asarray(codes.sum(0)), np.asarray((codes * codes).sum(0))
    mean_s, mean_d = sum_s / n, rows @ (change.sum(0) / n)
    variance = sum_ss / n - mean_s**2
    covariance = ((codes.T @ change) * rows).sum(1) / n - mean_s * mean_d
    squares = ((rows @ (change.T @ change)) * rows).sum(1)
    on = np.bincount(s0.entries()[1], minlength=s0.width)
    gain, typical = np.full(s0.width, np.nan), sum_s / np.maximum(on, 1)
    varies = (on > 0) & (variance > 1e-12 * np.maximum(sum_ss / n, 1e-300))
    np.divide(covariance, variance, out=gain, where=varies)
    with np.errstate(divide="ignore", invalid="ignore"):
        drift = np.where(varies, (mean_d - gain * mean_s) / typical, np.nan)
        left = squares - n * mean_d**2 - n * gain * covariance
        explained = np.where(varies & (squares > 0), 1 - left / squares, np.nan)
    return Retention(gain, drift, explained)
