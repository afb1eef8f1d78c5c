"""Fine-tuning on captions, the way the model was pretrained."""

from typing import ClassVar, Literal

from saeft_ray.methods import Method


class FLYP(Method):
    """Symmetric InfoNCE between a batch's images and one caption of each image's class (Goyal et al. 2023):

    loss = ½ (cross-entropy of images over captions + of captions over images), logits = scale · cosine, the match on
    the diagonal; a class that is in the batch twice counts as a negative of itself.

    Both towers and the scale are trained; the head is made anew from the text tower after every epoch. Which template
    makes an image's caption is a draw named by (seed, image, epoch).
    """

    type: Literal["flyp"] = "flyp"
    batch_mean: ClassVar[bool] = False
