"""Class names × prompt templates → the head that the frozen model classifies with.

Shapes: C classes, P templates, L tokens of a prompt, d embedding width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from saeft_ray.model.encoder import ClipModel


def zero_shot_head(model: ClipModel, class_names: Sequence[str], prompts: Sequence[str]) -> Tensor:
    """(C, d) weights of the head that the words give; `prompts` hold "{}" where the class name goes."""
    return head(model.clip, captions(model, class_names, prompts))


def captions(model: ClipModel, class_names: Sequence[str], prompts: Sequence[str]) -> Tensor:
    """Tokens (C, P, L) of every class name in every template."""
    return torch.stack([model.tokenize([prompt.replace("{}", name) for prompt in prompts]) for name in class_names])


@torch.no_grad()
def head(clip: Any, tokens: Tensor) -> Tensor:
    """(C, d) weights from captions (C, P, L): per class the normalised mean of its normalised prompt embeddings, times
    the logit scale (Radford et al. 2021, section 3.1.4)."""
    rows = [normalize(normalize(clip.encode_text(each), dim=-1).mean(0), dim=0) for each in tokens]
    scale: Tensor = clip.logit_scale.exp()
    return torch.stack(rows) * scale
