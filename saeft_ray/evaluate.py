"""Per-example correctness of a classifier, and interpolation of its weights (WiSE-FT)."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray.datasets import Split
from saeft_ray.encoder import Classifier

BATCH = 512


@torch.inference_mode()
def correct(model: Classifier, split: Split, device: torch.device) -> NDArray[np.bool_]:
    """(N,) True where the largest logit is at the label."""
    model.to(device).eval()
    right = []
    for start in range(0, len(split.labels), BATCH):
        index = np.arange(start, min(start + BATCH, len(split.labels)))
        predicted = model(split.images(index).to(device)).logits.argmax(1).cpu().numpy()
        right.append(predicted == split.labels[index])
    return np.concatenate(right)


@torch.no_grad()
def interpolate(frozen: Classifier, tuned: Classifier, alpha: float) -> Classifier:
    """(1 - alpha) · frozen + alpha · tuned, every weight and the head (Wortsman et al. 2022, eq. 1)."""
    mixed = copy.deepcopy(tuned)
    start = frozen.state_dict()
    end = tuned.state_dict()
    floats = [name for name, tensor in end.items() if tensor.is_floating_point()]
    mixed.load_state_dict(end | {name: torch.lerp(start[name], end[name], alpha) for name in floats})
    return mixed
