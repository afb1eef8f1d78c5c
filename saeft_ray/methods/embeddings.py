"""Penalties on the distance between moving and frozen embeddings, without a dictionary."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from saeft_ray.methods import NOTHING, Constants, EmbeddingPenalty, Frozen
from saeft_ray.model.unit import unit
from saeft_ray.settings import Tunable, Width

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.methods.facts import Facts
    from saeft_ray.sae import Dictionary


class Distance(EmbeddingPenalty):
    """`input: unit` compares directions (embeddings at length 1), `raw` the embeddings as they come."""

    input: Literal["unit", "raw"] = "unit"

    def read(self, features: "Tensor") -> "Tensor":
        return unit(features) if self.input == "unit" else features


class MSE(Distance):
    """lambda_mse · mean over B × d of (f - f0)², the control without any dictionary."""

    type: Literal["mse"] = "mse"
    about: ClassVar[str] = "Fine-tuning that pays for the squared distance of every embedding from the frozen model's."
    lambda_mse: Tunable

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"mse": self.weights["mse"] * (self.read(f) - self.read(f0)).square().mean()}


class L1(Distance):
    """lambda_l1 · mean over B × d of |f - f0|."""

    type: Literal["l1"] = "l1"
    about: ClassVar[str] = "Fine-tuning that pays for the absolute distance of every embedding from the frozen model's."
    lambda_l1: Tunable

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"l1": self.weights["l1"] * (self.read(f) - self.read(f0)).abs().mean()}


class CarFT(EmbeddingPenalty):
    """lambda_car · mean over B of KL(p0 ‖ p): what the image says of its context must stay (Mao et al. 2022, CAR-FT).

    p, p0 (B, P) are softmaxes over the templates of scale · cosine of moving and frozen embeddings with the contexts:
    of every template the normalised mean over the classes of its prompt embeddings, as the zero-shot head has of every
    class the mean over the templates, with the model's own scale.
    """

    type: Literal["car_ft"] = "car_ft"
    about: ClassVar[str] = (
        "Fine-tuning that pays where an image changes its similarity to the contexts that the templates name."
    )
    lambda_car: Tunable

    @property
    def has_constants(self) -> bool:
        return True

    def unmet_requirements(self, facts: "Facts") -> list[str]:
        if facts.templates < 2:
            return ["one template makes one context, which nothing can change; give data.templates two or more"]
        return []

    def prepare(self, frozen: Frozen) -> "dict[str, Tensor]":
        return {"contexts": frozen.contexts()}

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        contexts = constants["contexts"].to(f)
        log_p, log_p0 = ((unit(x) @ contexts.T).log_softmax(1) for x in (f, f0))
        return {"car": self.weights["car"] * (log_p0.exp() * (log_p0 - log_p)).sum(1).mean()}


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
    about: ClassVar[str] = (
        "Fine-tuning that pays for the number and size of the directions in which a batch of embeddings moves."
    )

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"nuclear": self.weights["nuclear"] * self.norm(f, f0)}


class QuadraticNuclear(NuclearDistance):
    """lambda_nuclear · max(0, nuclear norm - c)²: change up to c is free."""

    type: Literal["quadratic_nuclear"] = "quadratic_nuclear"
    about: ClassVar[str] = (
        "Fine-tuning in which a batch of embeddings may move up to a limit freely, and pays beyond it."
    )
    c: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"nuclear": self.weights["nuclear"] * (self.norm(f, f0) - self.c).clamp_min(0).square()}


class PCA(Distance):
    """The first principal components V (d, n) of the frozen embeddings in place of a dictionary:

    lambda_l1 · mean over B × n of |(f - f0)V| + lambda_resid · mean over B × d of ((f - f0) - (f - f0)VVᵀ)².

    V comes from the exact covariance of all frozen activations, where the paper samples a low-rank approximation.
    """

    type: Literal["pca"] = "pca"
    about: ClassVar[str] = (
        "Fine-tuning that pays for movement along the principal components of the frozen embeddings, and outside them."
    )
    lambda_l1: Tunable = 0.0
    lambda_resid: Tunable = 0.0
    components: Width = 16

    @property
    def needs_all_embeddings(self) -> bool:
        return True

    @property
    def has_constants(self) -> bool:
        return True

    def unmet_requirements(self, facts: "Facts") -> list[str]:
        if self.components > facts.width:
            return [f"components = {self.components} directions do not fit into embeddings of width {facts.width}"]
        return []

    def prepare(self, frozen: Frozen) -> "dict[str, Tensor]":
        import torch

        count, total, products = 0, torch.zeros(()), torch.zeros(())
        for part in frozen.activations():
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
