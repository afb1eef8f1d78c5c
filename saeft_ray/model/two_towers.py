"""A classifier with its text tower, trained on pairs of image and caption, with or without a teacher.

Shapes: B batch, d embedding width, C classes, P templates, L tokens of a caption.
"""

import copy
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from saeft_ray.model import zero_shot
from saeft_ray.model.encoder import Classifier, ClipModel, Extended, autocast


class TowerOutputs(NamedTuple):
    """A batch through both towers of one model; rows have length 1."""

    image: Tensor  # (B, d)
    text: Tensor  # (B, d), the images' captions
    extra_text: Tensor  # (B, d), their captions that say more than the class; (0, d) where the method has none
    scale: Tensor  # ()

    @property
    def logits(self) -> Tensor:
        """(B, B), of every image with every caption."""
        return self.scale * self.image @ self.text.T


class Towers(Extended):
    """Both towers. `classifier`, which is what is evaluated and kept, shares its image encoder with them."""

    def __init__(
        self, classifier: Classifier, model: ClipModel, captions: Tensor, extra_captions: Tensor, teacher: bool
    ):
        """`captions` (C, P, L) are the tokens of every class in every template, `extra_captions` (C, S, L) those of
        captions that say more; S may be 0."""
        super().__init__()
        self.classifier = classifier
        classifier.head.requires_grad_(False)  # it is made from text
        self.text: Any = copy.deepcopy(model.clip).requires_grad_(True)
        del self.text.visual
        self.teacher: Any = copy.deepcopy(model.clip).requires_grad_(False) if teacher else None
        self.captions: Tensor
        self.register_buffer("captions", captions, persistent=False)
        self.extra_captions: Tensor
        self.register_buffer("extra_captions", extra_captions, persistent=False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, images: Tensor, tokens: Tensor, extra: Tensor) -> TowerOutputs:
        """Returns the outputs for `images` (B, 3, H, W) and their captions `tokens` (B, L) and `extra` (B or 0, L)."""
        image = self.classifier.embed(images)
        with autocast(images.device, self.classifier.precision):
            text = self.text.encode_text(torch.cat([tokens, extra]))
        return _outputs(image, text, len(tokens), self.text.logit_scale)

    @torch.no_grad()
    def teacher_outputs(self, images: Tensor, tokens: Tensor, extra: Tensor) -> TowerOutputs | None:
        """Returns the teacher's outputs for the same images and captions; None without a teacher."""
        if self.teacher is None:
            return None
        pixels = (images.float() - self.classifier.mean) * self.classifier.scale
        with autocast(images.device, self.classifier.precision):
            image, text = self.teacher.encode_image(pixels), self.teacher.encode_text(torch.cat([tokens, extra]))
        return _outputs(image, text, len(tokens), self.teacher.logit_scale)

    @property
    def projections(self) -> tuple[Tensor, Tensor]:
        """The last matrices of the towers; (0, 0) where a tower has none."""
        found = getattr(self.classifier.encoder, "proj", None), getattr(self.text, "text_projection", None)
        none = self.captions.new_zeros((0, 0), dtype=torch.float32)
        return tuple(each if isinstance(each, Tensor) else none for each in found)  # type: ignore[return-value]

    def sample_captions(self, labels: Tensor, share: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) of one caption of each of `labels` (B,), and of one of its extra captions, chosen by `share`
        (B, 2) in [0, 1)."""
        chosen = []
        for tokens, part in ((self.captions, share[:, 0]), (self.extra_captions, share[:, 1])):
            templates = torch.from_numpy((part * tokens.shape[1]).astype(np.int64)).to(labels.device)
            chosen.append(tokens[labels, templates] if tokens.shape[1] else tokens.new_zeros((0, tokens.shape[2])))
        return chosen[0], chosen[1]

    @torch.no_grad()
    def update_teacher(self, share: float) -> None:
        """Moves the teacher, if there is one: it keeps `share` of its weights and takes the rest from the student."""
        if self.teacher is None or share == 1:
            return
        student = {f"visual.{name}": w for name, w in self.classifier.encoder.named_parameters()}
        student |= dict(self.text.named_parameters())
        for name, weight in self.teacher.named_parameters():
            weight.lerp_(student[name], 1 - share)

    def checkpoint_activations(self) -> None:
        """Does for the text tower what `encoder.checkpoint_activations` does for the image tower."""
        if hasattr(self.text, "text"):
            self.text.text.set_grad_checkpointing(True)
        else:
            self.text.transformer.grad_checkpointing = True

    @torch.no_grad()
    def rebuild_head(self) -> None:
        """Gives the classifier the zero-shot head of the text tower as it is now."""
        self.classifier.head.weight.copy_(zero_shot.head(self.text, self.captions))


def _outputs(image: Tensor, text: Tensor, captions: int, logit_scale: Tensor) -> TowerOutputs:
    """`text` begins with the `captions`."""
    rows = normalize(text.float(), dim=-1)
    return TowerOutputs(normalize(image.float(), dim=-1), rows[:captions], rows[captions:], logit_scale.exp())


def info_nce(logits: Tensor) -> Tensor:
    """½ (cross-entropy over the rows + over the columns) of `logits` (B, B), the match on the diagonal."""
    match = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, match) + cross_entropy(logits.T, match)) / 2
