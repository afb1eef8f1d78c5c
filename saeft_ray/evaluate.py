"""Per-example correctness of a classifier, and interpolation of its weights (WiSE-FT)."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray.datasets import Split
from saeft_ray.encoder import Classifier
from saeft_ray.loading import ahead

BATCH = 512


@torch.inference_mode()
def correct(model: Classifier, split: Split, device: torch.device, *, loaders: int = 0) -> NDArray[np.bool_]:
    """(N,) True where the largest logit is at the label. `loaders` processes render ahead."""
    model.to(device).eval()
    batches = np.split(np.arange(len(split.labels)), range(BATCH, len(split.labels), BATCH))
    predicted = [
        model(images.to(device, non_blocking=True)).logits.argmax(1)
        for images in ahead(split.images, batches, loaders, device)
    ]
    found: NDArray[np.bool_] = torch.cat(predicted).cpu().numpy() == split.labels
    return found


@torch.no_grad()
def interpolate(frozen: Classifier, tuned: Classifier, alpha: float) -> Classifier:
    """(1 - alpha) · frozen + alpha · tuned, every weight and the head (Wortsman et al. 2022, eq. 1)."""
    mixed = copy.deepcopy(tuned)
    start = frozen.state_dict()
    end = tuned.state_dict()
    floats = [name for name, tensor in end.items() if tensor.is_floating_point()]
    mixed.load_state_dict(end | {name: torch.lerp(start[name], end[name], alpha) for name in floats})
    return mixed
