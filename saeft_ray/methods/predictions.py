"""Penalties on the distance of the tuned model's predictions from the zero-shot ones.

Shapes: B batch, d embedding width, C classes. z, z0 (B, C): logits of the tuned model with its tuned head, and of the
frozen model with the zero-shot head, for the same views.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from saeft_ray.methods import NOTHING, Constants, Frozen, Regularized, TrainingBatch
from saeft_ray.model.unit import unit
from saeft_ray.settings import Positive, Tunable

if TYPE_CHECKING:
    from torch import Tensor


class PredictionPenalty(Regularized):
    """Compares logits. The frozen model's follow from its stored embeddings, so a step runs no frozen encoder."""

    compares: ClassVar[Literal["nothing", "embeddings", "layers", "weights"]] = "embeddings"

    @property
    def has_constants(self) -> bool:
        return True

    def prepare(self, frozen: Frozen) -> "dict[str, Tensor]":
        return {"head": frozen.model().head.weight.detach()}

    @abstractmethod
    def penalty(
        self, z: "Tensor", z0: "Tensor", f0: "Tensor", labels: "Tensor", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        """The weighted terms by name, each a scalar, of the logits `z` and `z0` (B, C) of images with the frozen
        embeddings `f0` (B, d) and the `labels` (B,); `constants` is what `prepare` gave."""

    def terms(self, batch: TrainingBatch) -> "dict[str, Tensor]":
        assert batch.f0 is not None
        z, f0 = batch.output.logits, batch.f0
        z0 = unit(f0) @ batch.constants["head"].to(f0).T
        return self.penalty(z, z0, f0, batch.labels, batch.constants)


class LwF(PredictionPenalty):
    """lambda_lwf · T² · mean over B of KL(p0 ‖ p), p = softmax(z / T): learning without forgetting (Li & Hoiem 2016).

    The frozen model's predictions are the teacher's, on the images that fine-tuning sees (Hinton et al. 2015, eq. 2 to
    4, whose T² keeps the gradient's size whatever the temperature). At T = 1 it is, on training images, what
    docs/is_the_sae_load_bearing.md calls the strength of a method on others. Li & Hoiem used T = 2.
    """

    type: Literal["lwf"] = "lwf"
    about: ClassVar[str] = "Fine-tuning that pays where its predictions diverge from the zero-shot model's."
    lambda_lwf: Tunable
    temperature: Positive = 1.0

    def penalty(
        self, z: "Tensor", z0: "Tensor", f0: "Tensor", labels: "Tensor", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        log_p, log_p0 = ((logits / self.temperature).log_softmax(1) for logits in (z, z0))
        divergence = (log_p0.exp() * (log_p0 - log_p)).sum(1).mean()
        return {"lwf": self.weights["lwf"] * self.temperature**2 * divergence}


class LogitMSE(PredictionPenalty):
    """lambda_logit · mean over B × C of Δz², Δz = z - z0 less its mean over the classes (Ba & Caruana 2014, eq. 1, who
    do not centre).

    Centred, because a constant added to all logits of an image changes no prediction. It differs from `lwf` in
    classes that the frozen model holds impossible: there KL is blind, and this is not.
    """

    type: Literal["logit_mse"] = "logit_mse"
    about: ClassVar[str] = "Fine-tuning that pays for the squared change of its logits from the zero-shot model's."
    lambda_logit: Tunable

    def penalty(
        self, z: "Tensor", z0: "Tensor", f0: "Tensor", labels: "Tensor", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"logit": self.weights["logit"] * change(z, z0).square().mean()}


def change(z: "Tensor", z0: "Tensor") -> "Tensor":
    """The change of the logits (B, C) as far as it can change a prediction: less its mean over the classes."""
    moved = z - z0
    return moved - moved.mean(1, keepdim=True)
