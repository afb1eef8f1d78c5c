"""Fine-tuning on captions, the way the model was pretrained, and two methods that add to its loss.

Shapes: B batch, d embedding width, v and t widths of the image and the text tower before their projections.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from saeft_ray import draws
from saeft_ray.draws import IntArray
from saeft_ray.methods import Context, Method, TrainingBatch
from saeft_ray.settings import Count, Tunable, highest

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.methods.facts import Facts
    from saeft_ray.model.encoder import Classifier
    from saeft_ray.model.two_towers import TowerOutputs, Towers


class Step(NamedTuple):
    """What the terms of a method on captions may use."""

    outputs: "TowerOutputs"
    teacher_outputs: "TowerOutputs | None"
    labels: "Tensor"  # (B,)
    projections: "tuple[Tensor, Tensor]"  # (v, d) of the image tower, (t, d) of the text tower
    epoch: int  # this one, from 1
    epochs: int


class Captioned(Method):
    """Trained on pairs of image and caption by the symmetric InfoNCE loss, and what `penalty` adds."""

    family: ClassVar[str] = "captions"
    trains_text: ClassVar[bool] = True
    batch_mean: ClassVar[bool] = False
    teacher: ClassVar[bool] = False
    """Whether a second model, which begins as the frozen one, sees every batch too."""

    @property
    def extra_captions(self) -> tuple[str, ...]:
        """Templates of captions that say more than the class; each image gets one of these as well."""
        return ()

    def determining_settings(self) -> dict[str, Any]:
        found = super().determining_settings()
        return found if any(highest(value) for name, value in self if name.startswith("lambda_")) else {"type": "flyp"}

    def penalty(self, step: Step) -> "dict[str, Tensor]":
        """The weighted terms that are added to the contrastive loss, by name, each a scalar."""
        return {}

    def momentum(self, step: int, total: int) -> float:
        """The teacher's share of its weights after step number `step` of `total`; the student's make up the rest."""
        return 1.0

    def wrap(self, context: Context, model: "Classifier") -> "Towers":
        from saeft_ray.model.two_towers import Towers
        from saeft_ray.model.zero_shot import captions

        clip, names = context.clip(), context.class_names()
        every = captions(clip, names, context.prompts())
        extra = captions(clip, names, self.extra_captions) if self.extra_captions else every[:, :0]
        return Towers(model, clip, every, extra, self.teacher)

    def inputs(self, trained: Any, labels: "Tensor", sample: IntArray, seed: int, epoch: int) -> "tuple[Tensor, ...]":
        chosen: tuple[Tensor, ...] = trained.sample_captions(
            labels, draws.uniform(seed, "caption", sample, epoch, slots=2)
        )
        return chosen

    def losses(self, batch: TrainingBatch) -> "dict[str, Tensor]":
        """InfoNCE in the place of cross-entropy, and the penalty."""
        from saeft_ray.model.two_towers import info_nce

        towers, outputs = batch.trained, batch.output
        teacher = towers.teacher_outputs(batch.images, *batch.inputs)
        step = Step(outputs, teacher, batch.labels, towers.projections, batch.epoch, batch.epochs)
        return {"contrastive": info_nce(outputs.logits), **self.penalty(step)}

    def after_step(self, trained: Any, step: int, total: int) -> None:
        trained.update_teacher(self.momentum(step, total))

    def after_epoch(self, trained: Any) -> None:
        trained.rebuild_head()


class FLYP(Captioned):
    """Symmetric InfoNCE between a batch's images and one caption of each image's class (Goyal et al. 2023):

    loss = ½ (cross-entropy of images over captions + of captions over images), logits = scale · cosine, the match on
    the diagonal; a class that is in the batch twice counts as a negative of itself.

    Both towers and the scale are trained; the head is made anew from the text tower after every epoch. Which template
    makes an image's caption is a draw named by (seed, image, epoch).
    """

    type: Literal["flyp"] = "flyp"
    about: ClassVar[str] = (
        "Fine-tuning of both towers on pairs of image and caption, with the loss that CLIP was pre-trained with."
    )


class StarFT(Captioned):
    """FLYP with the frozen model's view of spurious captions kept (StarFT, IJCAI 2025; the authors' code decides):

    + lambda_star · (1 - e / E) · KL(p0 ‖ p), the mean over the batch, after e of E epochs with this one counted.

    p, p0 (B, B): softmax over the batch's spurious captions of scale0 · cosine, of the moving and of the frozen
    model, both with the frozen model's scale; entries of the image's own class are left out. So the last epoch is
    plain FLYP. `spurious` are whole captions such as "a photo of a {} in the snow"; the authors had a language model
    list them.
    """

    type: Literal["starft"] = "starft"
    about: ClassVar[str] = "FLYP that also keeps how the frozen model relates images to spurious captions."
    teacher: ClassVar[bool] = True
    lambda_star: Tunable = 0.5
    spurious: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @property
    def extra_captions(self) -> tuple[str, ...]:
        return self.spurious

    def problems(self) -> list[str]:
        if not self.spurious:
            return ['spurious is missing: give captions such as "a photo of a {} in the snow"']
        return [
            f'spurious: {words!r} has no "{{}}" where the class goes' for words in self.spurious if "{}" not in words
        ]

    def penalty(self, step: Step) -> "dict[str, Tensor]":
        assert isinstance(self.lambda_star, float)
        assert step.teacher_outputs is not None
        same = step.labels[:, None] == step.labels
        logits, logits0 = (
            (step.teacher_outputs.scale * seen.image @ seen.extra_text.T).masked_fill(same, -1e8)
            for seen in (step.outputs, step.teacher_outputs)
        )
        log_p, log_p0 = logits.log_softmax(1), logits0.log_softmax(1)
        divergence = (log_p0.exp() * (log_p0 - log_p)).sum(1).mean()
        return {"star": self.lambda_star * (1 - step.epoch / step.epochs) * divergence}


class CaRot(Captioned):
    """FLYP with projections held in shape and a slow copy of the model as teacher (CaRot, NeurIPS 2024; the authors'
    code decides):

    + lambda_orth · ‖VᵀV - I‖ + lambda_cross · ‖VTᵀ‖ (Frobenius), V (v, d) and T (t, d) being the towers' projections,
    + lambda_distil · mean over the batch of the cross-entropies of the teacher's with the student's softmax, images
    over captions and captions over images.

    After every `every`-th step the teacher keeps a share m of its weights and takes the rest from the student; m rises
    linearly from 0.05 to 0.9 over the first fifth of the training. The student is what is evaluated.
    """

    type: Literal["carot"] = "carot"
    about: ClassVar[str] = "FLYP that also keeps projections in shape and learns from a slow copy of itself."
    teacher: ClassVar[bool] = True
    lambda_orth: Tunable = 0.2
    lambda_cross: Tunable = 0.05
    lambda_distil: Tunable = 1.5
    every: Count = 500

    def unmet_requirements(self, facts: "Facts") -> list[str]:
        if facts.blocks is None:
            return [
                f"the image encoder of {facts.model['arch']} has no projection to hold; give a ViT, or leave it out"
            ]
        return []

    def penalty(self, step: Step) -> "dict[str, Tensor]":
        import torch

        assert step.teacher_outputs is not None
        v, t = step.projections
        logits, logits0 = step.outputs.logits, step.teacher_outputs.logits
        distil = torch.stack(
            [-(z0.softmax(1) * z.log_softmax(1)).sum(1).mean() for z, z0 in ((logits, logits0), (logits.T, logits0.T))]
        ).sum()
        terms = {
            "orth": (v.T @ v - torch.eye(v.shape[1], dtype=v.dtype, device=v.device)).norm(),
            "cross": (v @ t.T).norm(),
            "distil": distil,
        }
        weights = {name: getattr(self, f"lambda_{name}") for name in terms}
        return {name: weights[name] * term for name, term in terms.items() if weights[name]}

    def momentum(self, step: int, total: int) -> float:
        if step % self.every:
            return 1.0
        return 0.05 + 0.85 * min(1.0, step / (0.2 * total))
