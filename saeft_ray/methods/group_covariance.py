"""A penalty on new reliance: predictions may change, but not by what the images of a class differ in.

Shapes: B batch, d embedding width, C classes, K groups.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from saeft_ray.methods import NOTHING, Constants, Frozen
from saeft_ray.methods.predictions import PredictionPenalty, change
from saeft_ray.settings import Few, Tunable

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.methods.facts import Facts


class GroupCovariance(PredictionPenalty):
    """lambda_group · ‖(1/B) Σ r_i ⊗ Δz_i‖² (Frobenius): the squared covariance, within classes, of the group that the
    frozen image is in with the change of the logits.

    Δz (C) is the change of the logits less its mean over the classes, as in `logit_mse`. r (K) is 1 at the image's
    group and 0 elsewhere, less its mean over the training images of the class, and scaled so that E ‖r‖² = 1. Groups
    are `groups` clusters, by k-means, of the frozen embeddings off the span of the zero-shot head's class contrasts
    (`model.groups`): what images have in common that no class is told by. No label of a group or of a shift is read.

    So a change that is the same for all images of a class costs nothing, on average over the training images, and one
    that differs by group does. It is a decision boundary covariance (Zafar et al. 2017, eq. 2) that is conditional on
    the class, of what fine-tuning added. The value on a batch is above that on all images by the variance of the
    batch's mean; the unbiased form, which leaves out the pairs (i, i), is unbounded below and was seen to diverge.
    """

    type: Literal["group_covariance"] = "group_covariance"
    about: ClassVar[str] = (
        "Fine-tuning that pays where its predictions change by something that the images of a class differ in and that "
        "no class is told by."
    )
    batch_mean: ClassVar[bool] = False
    lambda_group: Tunable
    groups: Annotated[Few, Field(ge=2)] = 5

    @property
    def needs_all_embeddings(self) -> bool:
        return True

    def unmet_requirements(self, facts: "Facts") -> list[str]:
        if facts.classes > facts.width:
            return [
                f"the differences of {facts.classes:,} classes span all {facts.width:,} directions of the embeddings, "
                "so nothing is left that groups could be found by; leave it out"
            ]
        return []

    def prepare(self, frozen: Frozen) -> "dict[str, Tensor]":
        import torch

        from saeft_ray.model import groups

        constants = super().prepare(frozen)
        labels, start = frozen.labels(), 0
        found = groups.fit(frozen.activations(), len(labels), constants["head"], self.groups, frozen.seed)
        counts = torch.zeros(len(constants["head"]), self.groups, dtype=torch.float64)
        for part in frozen.activations():
            pairs = torch.stack([labels[start : start + len(part)].cpu(), found.of(part).cpu()])
            counts.index_put_(tuple(pairs), torch.ones(len(part), dtype=torch.float64), accumulate=True)
            start += len(part)
        share = counts / counts.sum(1, keepdim=True).clamp_min(1)
        # E ‖r‖² before it is scaled: of an image of class c in group g, (1 - share)² + Σ of the others' share².
        size = (counts.sum(1) / counts.sum() * (share.sum(1) - share.square().sum(1))).sum()
        return {**constants, **found._asdict(), "share": share.float(), "size": size.clamp_min(1e-8).float()}

    def penalty(
        self, z: "Tensor", z0: "Tensor", f0: "Tensor", labels: "Tensor", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        from torch.nn.functional import one_hot

        from saeft_ray.model.groups import Groups

        group = Groups(constants["span"], constants["centres"]).of(f0)
        r = one_hot(group, self.groups).to(z) - constants["share"].to(z)[labels]
        covariance = r.T @ change(z, z0) / len(z)  # (K, C)
        return {"group": self.weights["group"] * covariance.square().sum() / constants["size"].to(z)}
