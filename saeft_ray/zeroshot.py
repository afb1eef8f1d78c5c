"""Class names × prompt templates → the head that the frozen model classifies with."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from saeft_ray.encoder import ClipModel


@torch.no_grad()
def zero_shot_head(model: ClipModel, class_names: Sequence[str], prompts: Sequence[str]) -> Tensor:
    """(C, d) weights: per class the normalised mean of its normalised prompt embeddings, times the logit scale
    (Radford et al. 2021, section 3.1.4). `prompts` hold "{}" where the class name goes."""
    rows = []
    for name in class_names:
        tokens = model.tokenize([prompt.replace("{}", name) for prompt in prompts])
        embeddings = normalize(model.clip.encode_text(tokens), dim=-1)
        rows.append(normalize(embeddings.mean(0), dim=0))
    scale: Tensor = model.clip.logit_scale.exp()
    return torch.stack(rows) * scale
