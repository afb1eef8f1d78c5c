"""Frozen image features of every view in the pool, computed once and memory-mapped by every trial.

Shapes: N images, V views, d embedding width.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray.datasets import Split
from saeft_ray.encoder import Classifier, ClipModel

FILE = "activations.npy"
BATCH = 256


@torch.no_grad()
def compute(model: ClipModel, split: Split, views: int, view_seed: int, device: torch.device, folder: Path) -> None:
    """Writes (N, V, d) float32 activations of `split`'s views to `folder`/activations.npy."""
    n = len(split.labels)
    encoder = (
        Classifier(copy.deepcopy(model.clip.visual), torch.nn.Linear(1, 1), model.mean, model.std).to(device).eval()
    )
    out = None
    for view in range(views):
        for start in range(0, n, BATCH):
            index = np.arange(start, min(start + BATCH, n))
            images = split.views(index, np.full(len(index), view), view_seed)
            features = encoder.features(images.to(device)).float().cpu().numpy()
            if out is None:
                shape = (n, views, features.shape[1])
                out = np.lib.format.open_memmap(folder / FILE, mode="w+", dtype=np.float32, shape=shape)
            out[index, view] = features
    assert out is not None
    out.flush()


def load(folder: Path) -> NDArray[np.float32]:
    """The (N, V, d) activations in `folder`, memory-mapped read-only."""
    return np.load(folder / FILE, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def parts(activations: NDArray[np.float32], device: torch.device, images: int = 4096) -> Iterator[torch.Tensor]:
    """All views of (N, V, d) `activations` as tensors (n, d), those of so many images at a time."""
    for start in range(0, len(activations), images):
        yield torch.from_numpy(np.array(activations[start : start + images])).flatten(0, 1).to(device)
