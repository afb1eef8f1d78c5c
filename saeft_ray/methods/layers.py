"""Penalties on what the blocks of the image encoder give.

Shapes: B batch, T tokens, w width of the transformer.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from saeft_ray.methods import LayerPenalty
from saeft_ray.settings import Tunable

if TYPE_CHECKING:
    from torch import Tensor


class LDIFS(LayerPenalty):
    """lambda_ldifs · mean over sites and B × T × w of (ĥ - ĥ0)² (Mukhoti et al. 2024), ĥ being h over its length.

    Sites are the pre-LayerNorm and the blocks at 1/4, 2/4, 3/4 and 4/4 of the depth, rounded up: of 12 blocks 3, 6, 9
    and 12. `variant: channel` takes the length over the w channels of each token, as the SAE-FT paper's code does;
    `token` over the T tokens of each channel, as the authors' own. Their lambdas do not compare.
    """

    type: Literal["ldifs"] = "ldifs"
    about: ClassVar[str] = (
        "Fine-tuning that pays for the squared distance of the features inside the encoder from the frozen model's."
    )
    lambda_ldifs: Tunable
    variant: Literal["channel", "token"] = "channel"

    def sites(self, blocks: int) -> list[int]:
        return sorted({0, *(-(-blocks * quarter // 4) for quarter in (1, 2, 3, 4))})

    def penalty(self, h: "Sequence[Tensor]", h0: "Sequence[Tensor]") -> "dict[str, Tensor]":
        pairs = zip(h, h0, strict=True)
        distances = [(self.scaled(now) - self.scaled(then)).square().mean() for now, then in pairs]
        mean: Tensor = sum(distances[1:], distances[0]) / len(distances)
        return {"ldifs": self.weights["ldifs"] * mean}

    def scaled(self, h: "Tensor") -> "Tensor":
        """Tokens (B, T, w) at length 1 over channels or tokens, with the constants of the two sources."""
        dim, small = (2, 1e-8) if self.variant == "channel" else (1, 1e-10)
        length: Tensor = h.norm(dim=dim, keepdim=True) + small
        return h / length
