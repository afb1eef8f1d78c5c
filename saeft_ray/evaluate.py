"""Per-example correctness of a classifier, and interpolation of its weights (WiSE-FT)."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray.datasets import Split
from saeft_ray.draws import IntArray
from saeft_ray.encoder import Classifier

BATCH = 512


def correct(model: Classifier, split: Split, device: torch.device) -> NDArray[np.bool_]:
    """(N,) True where the prediction is the label."""
    right: NDArray[np.bool_] = predicted(model, split, device) == split.labels
    return right


@torch.inference_mode()
def predicted(model: Classifier, split: Split, device: torch.device) -> IntArray:
    """(N,) the class of the largest logit among those that `split` holds, as `split` counts it."""
    model.to(device).eval()
    groups = split.counts_as
    absent = None if groups is None else torch.from_numpy(groups < 0).to(device)
    found = []
    for start in range(0, len(split.labels), BATCH):
        index = np.arange(start, min(start + BATCH, len(split.labels)))
        logits = model(split.images(index).to(device)).logits
        if absent is not None:
            logits = logits.masked_fill(absent, -torch.inf)
        best: IntArray = logits.argmax(1).cpu().numpy()
        found.append(best if groups is None else groups[best])
    return np.concatenate(found)


@torch.no_grad()
def interpolate(frozen: Classifier, tuned: Classifier, alpha: float) -> Classifier:
    """(1 - alpha) · frozen + alpha · tuned, every weight and the head (Wortsman et al. 2022, eq. 1)."""
    mixed = copy.deepcopy(tuned)
    start = frozen.state_dict()
    end = tuned.state_dict()
    floats = [name for name, tensor in end.items() if tensor.is_floating_point()]
    mixed.load_state_dict(end | {name: torch.lerp(start[name], end[name], alpha) for name in floats})
    return mixed
