"""A classifier with its text tower, trained on pairs of image and caption.

Shapes: B batch, d embedding width, C classes, P templates, L tokens of a caption.
"""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from saeft_ray import zeroshot
from saeft_ray.encoder import Classifier, ClipModel, autocast


class Captioned(nn.Module):
    """Both towers. `classifier`, which is what is evaluated and kept, shares its image encoder with them."""

    def __init__(self, classifier: Classifier, model: ClipModel, captions: Tensor):
        """`captions` (C, P, L) are the tokens of every class in every template."""
        super().__init__()
        self.classifier = classifier
        classifier.head.requires_grad_(False)  # it is made from text
        self.text: Any = copy.deepcopy(model.clip).requires_grad_(True)
        del self.text.visual
        self.captions: Tensor
        self.register_buffer("captions", captions, persistent=False)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Logits (B, B) of every one of `images` (B, 3, H, W) with every caption (B, L)."""
        image = normalize(self.classifier.features(images), dim=-1)
        with autocast(images.device, self.classifier.precision):
            text = self.text.encode_text(tokens)
        text = normalize(text.float(), dim=-1)
        logits: Tensor = self.text.logit_scale.exp() * image @ text.T
        return logits

    def drawn(self, labels: Tensor, share: NDArray[np.float32]) -> Tensor:
        """Tokens (B, L) of one caption of each of `labels` (B,), chosen by `share` (B, 1) in [0, 1)."""
        templates = torch.from_numpy((share[:, 0] * self.captions.shape[1]).astype(np.int64))
        return self.captions[labels, templates.to(labels.device)]

    def checkpoint_activations(self) -> None:
        """As `encoder.checkpoint_activations`, for the text tower."""
        if hasattr(self.text, "text"):
            self.text.text.set_grad_checkpointing(True)
        else:
            self.text.transformer.grad_checkpointing = True

    @torch.no_grad()
    def rebuild_head(self) -> None:
        """Gives the classifier the zero-shot head of the text tower as it is now."""
        self.classifier.head.weight.copy_(zeroshot.head(self.text, self.captions))


def info_nce(logits: Tensor) -> Tensor:
    """½ (cross-entropy over the rows + over the columns) of `logits` (B, B), the match on the diagonal."""
    match = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, match) + cross_entropy(logits.T, match)) / 2
