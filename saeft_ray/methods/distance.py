"""Penalties on the distance between moving and frozen features; no dictionary."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from saeft_ray.methods import NOTHING, Constants, FeaturePenalty, unit
from saeft_ray.space import Tunable

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.plan import Facts
    from saeft_ray.sae import Dictionary


class Distance(FeaturePenalty):
    """`input: unit` compares directions (features at length 1), `raw` the features as they come."""

    input: Literal["unit", "raw"] = "unit"

    def read(self, features: "Tensor") -> "Tensor":
        return unit(features) if self.input == "unit" else features


class MSE(Distance):
    """lambda_mse · mean over B × d of (f - f0)², the control without any dictionary."""

    type: Literal["mse"] = "mse"
    lambda_mse: Tunable

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"mse": self.weights["mse"] * (self.read(f) - self.read(f0)).square().mean()}


class L1(Distance):
    """lambda_l1 · mean over B × d of |f - f0|."""

    type: Literal["l1"] = "l1"
    lambda_l1: Tunable

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"l1": self.weights["l1"] * (self.read(f) - self.read(f0)).abs().mean()}


class NuclearDistance(Distance):
    """On the sum of the singular values of the B × d matrix f - f0: few directions of change are cheap.

    A sum over the batch, as published: a batch seen twice has √2 times the nuclear norm.
    """

    lambda_nuclear: Tunable
    batch_mean: ClassVar[bool] = False

    def norm(self, f: "Tensor", f0: "Tensor") -> "Tensor":
        import torch

        change = self.read(f) - self.read(f0)
        wide = change if change.dtype == torch.float64 else change.float()  # no decomposition in half precision
        total: Tensor = torch.linalg.svdvals(wide).sum()
        return total


class Nuclear(NuclearDistance):
    """lambda_nuclear · nuclear norm."""

    type: Literal["nuclear"] = "nuclear"

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"nuclear": self.weights["nuclear"] * self.norm(f, f0)}


class QuadraticNuclear(NuclearDistance):
    """lambda_nuclear · max(0, nuclear norm - c)²: change up to c is free."""

    type: Literal["quadratic_nuclear"] = "quadratic_nuclear"
    c: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"nuclear": self.weights["nuclear"] * (self.norm(f, f0) - self.c).clamp_min(0).square()}


class PCA(Distance):
    """The first principal components V (d, n) of the frozen features in place of a dictionary:

    lambda_l1 · mean over B × n of |(f - f0)V| + lambda_resid · mean over B × d of ((f - f0) - (f - f0)VVᵀ)².

    V comes from the exact covariance of all frozen activations, where the paper samples a low-rank approximation.
    """

    type: Literal["pca"] = "pca"
    lambda_l1: Tunable = 0.0
    lambda_resid: Tunable = 0.0
    components: Annotated[int, Field(ge=1)] = 16

    @property
    def prepares(self) -> bool:
        return True

    def unmet(self, facts: "Facts") -> list[str]:
        if self.components > facts.width:
            return [f"components = {self.components} directions do not fit into features of width {facts.width}"]
        return []

    def prepare(self, f0: "Iterable[Tensor]", dictionary: "Dictionary | None") -> "dict[str, Tensor]":
        import torch

        count, total, products = 0, torch.zeros(()), torch.zeros(())
        for part in f0:
            x = self.read(part.double())
            count, total, products = count + len(x), total.to(x) + x.sum(0), products.to(x) + x.T @ x
        mean = total / count
        vectors = torch.linalg.eigh(products / count - mean.outer(mean)).eigenvectors  # by rising variance
        return {"basis": vectors[:, -self.components :].flip(1)}

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        change = self.read(f) - self.read(f0)
        basis = constants["basis"].to(change)
        along = change @ basis
        terms = {"l1": along.abs().mean(), "resid": (change - along @ basis.T).square().mean()}
        return {name: weight * terms[name] for name, weight in self.weights.items() if weight}
