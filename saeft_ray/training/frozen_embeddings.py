"""Frozen image embeddings of every view in the pool, computed once and memory-mapped by every trial.

Shapes: N images, V views, d embedding width.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray.datasets import Split
from saeft_ray.draws import IntArray
from saeft_ray.model.encoder import Classifier
from saeft_ray.training.prefetch import ahead

FILE = "activations.npy"
BATCH = 256


@torch.no_grad()
def compute(
    frozen: Classifier, split: Split, images: range, views: int, view_seed: int, folder: Path, loaders: int = 0
) -> None:
    """Writes (n, V, d) float32 activations of `images` of `split` to `folder`/activations.npy.

    Images go through the encoder in batches that begin at multiples of BATCH, so whoever computes parts that begin
    there computes, bit for bit, what one computes for all.
    """
    device = frozen.mean.device
    batches = [
        (np.arange(start, min(start + BATCH, images.stop)), view)
        for start in range(images.start, images.stop, BATCH)
        for view in range(views)
    ]
    out = None
    rendered = ahead(partial(_views, split, view_seed), batches, loaders, device)
    for (index, view), pixels in zip(batches, rendered, strict=True):
        features = frozen.embed(pixels.to(device, non_blocking=True)).cpu().numpy()
        if out is None:
            out = _create(folder, (len(images), views, features.shape[1]))
        out[index - images.start, view] = features
    assert out is not None
    out.flush()


def join(shards: Sequence[Path], n: int, folder: Path) -> None:
    """Writes the activations of `n` images to `folder`, one after the other those in the folders `shards`."""
    out, start = None, 0
    for shard in shards:
        part = load(shard)
        if out is None:
            out = _create(folder, (n, *part.shape[1:]))
        out[start : start + len(part)] = part
        start += len(part)
    assert out is not None
    assert start == n
    out.flush()


def load(folder: Path) -> NDArray[np.float32]:
    """The (N, V, d) activations in `folder`, memory-mapped read-only."""
    return np.load(folder / FILE, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def parts(activations: NDArray[np.float32], device: torch.device, images: int = 4096) -> Iterator[torch.Tensor]:
    """All views of (N, V, d) `activations` as tensors (n, d), those of so many images at a time."""
    for start in range(0, len(activations), images):
        yield torch.from_numpy(np.array(activations[start : start + images])).flatten(0, 1).to(device)


def _views(split: Split, view_seed: int, batch: tuple[IntArray, int]) -> torch.Tensor:
    index, view = batch
    return split.views(index, np.full(len(index), view), view_seed)


def _create(folder: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.float32]]":
    return np.lib.format.open_memmap(folder / FILE, mode="w+", dtype=np.float32, shape=shape)
