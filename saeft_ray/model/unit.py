"""Vectors at length 1."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def unit(x: "Tensor") -> "Tensor":
    """Rows of `x` (B, d) at length 1."""
    length: Tensor = x.norm(dim=-1, keepdim=True)
    return x / length.clamp_min(1e-8)
