"""Penalties on the distance of the image encoder's weights from where they started; the head is free."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from saeft_ray import draws
from saeft_ray.methods import NOTHING, Constants, Frozen, ParameterPenalty
from saeft_ray.settings import Count, Tunable

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.datasets import Split
    from saeft_ray.model.encoder import Classifier


class L2SP(ParameterPenalty):
    """lambda_l2 · Σ over all weights of (w - w0)² (Li et al. 2018): a sum, without the factor 1/2."""

    type: Literal["l2_sp"] = "l2_sp"
    about: ClassVar[str] = "Fine-tuning that pays for the squared distance of the weights from those it started from."
    lambda_l2: Tunable

    def penalty(
        self, w: "Mapping[str, Tensor]", w0: "Mapping[str, Tensor]", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        return {"l2": self.weights["l2"] * total({name: (w[name] - w0[name]).square().sum() for name in w})}


class EWC(ParameterPenalty):
    """lambda_ewc / 2 · Σ over all weights of F (w - w0)² (Kirkpatrick et al. 2017, eq. 3).

    F is the diagonal Fisher information of the frozen model on `samples` training images, whose labels are sampled
    from its own predictions, not given: F = E (∂ log p(y|x) / ∂w)², y ~ p(y|x).
    """

    type: Literal["ewc"] = "ewc"
    about: ClassVar[str] = (
        "Fine-tuning that pays for changes of weights, each by how much the frozen model's answers depend on it."
    )
    lambda_ewc: Tunable
    samples: Count = 256

    @property
    def has_constants(self) -> bool:
        return True

    def prepare(self, frozen: Frozen) -> "dict[str, Tensor]":
        return fisher(frozen.model(), frozen.images(), self.samples, frozen.seed)

    def penalty(
        self, w: "Mapping[str, Tensor]", w0: "Mapping[str, Tensor]", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        parts = {name: (constants[name] * (w[name] - w0[name]).square()).sum() for name in w}
        return {"ewc": self.weights["ewc"] / 2 * total(parts)}


def total(parts: "Mapping[str, Tensor]") -> "Tensor":
    import torch

    return torch.stack(list(parts.values())).sum()


def fisher(model: "Classifier", split: "Split", samples: int, seed: int) -> "dict[str, Tensor]":
    """The diagonal Fisher information of `model`'s encoder weights, by name, at view 0 of `samples` images of `split`.

    Which images and which labels are draws named by `seed`. One backward pass an image: a batch would mix gradients.
    """
    import numpy as np
    import torch

    model = model.eval().requires_grad_(True)
    device = model.mean.device
    names, weights = zip(*model.encoder.named_parameters(), strict=True)
    squares = [torch.zeros_like(weight) for weight in weights]
    chosen = draws.permutation(seed, "fisher images", len(split.labels))[:samples]
    shown = split.views(chosen, np.zeros_like(chosen), seed)
    drawn = draws.uniform(seed, "fisher labels", chosen, slots=1)[:, 0]
    for i in range(len(chosen)):
        log_p = model(shown[i : i + 1].to(device)).logits.log_softmax(1)[0]
        label = int((log_p.detach().exp().cumsum(0) < float(drawn[i])).sum().clamp_max(len(log_p) - 1))
        gradients = torch.autograd.grad(log_p[label], weights, allow_unused=True)
        for square, gradient in zip(squares, gradients, strict=True):
            if gradient is not None:
                square += gradient.square() / len(chosen)
    return dict(zip(names, squares, strict=True))
