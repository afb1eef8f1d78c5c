"""Weights between two models of one form."""

import copy

import torch

from saeft_ray.model.encoder import Classifier


@torch.no_grad()
def interpolate(frozen: Classifier, tuned: Classifier, alpha: float) -> Classifier:
    """(1 - alpha) · frozen + alpha · tuned, every weight and the head (Wortsman et al. 2022, eq. 1)."""
    mixed = copy.deepcopy(tuned)
    start = frozen.state_dict()
    end = tuned.state_dict()
    floats = [name for name, tensor in end.items() if tensor.is_floating_point()]
    mixed.load_state_dict(end | {name: torch.lerp(start[name], end[name], alpha) for name in floats})
    return mixed
