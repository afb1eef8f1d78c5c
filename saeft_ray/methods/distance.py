"""Penalties on the distance between moving and frozen features; no dictionary."""

from typing import TYPE_CHECKING, Literal

from saeft_ray.methods import Regularized, unit
from saeft_ray.space import Tunable, highest

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.sae import Dictionary


class MSE(Regularized):
    """lambda_mse · mean over B × d of (f - f0)², the control without any dictionary.

    `input: unit` compares directions (features at length 1), `raw` the features as they come.
    """

    type: Literal["mse"] = "mse"
    lambda_mse: Tunable
    input: Literal["unit", "raw"] = "unit"

    def problems(self) -> list[str]:
        return ["lambda_mse is 0, so the penalty can never act; give a positive value, or use ft"] * (
            highest(self.lambda_mse) == 0
        )

    def penalty(self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None") -> "dict[str, Tensor]":
        assert isinstance(self.lambda_mse, float)
        if self.input == "unit":
            f, f0 = unit(f), unit(f0)
        return {"mse": self.lambda_mse * (f - f0).square().mean()}
