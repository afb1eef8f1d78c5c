"""Fits a sparse autoencoder (SAE) to frozen activations.

Shapes: B batch, d embedding width, D dictionary width, k active atoms; N rows (views of images). Encoder E and atoms W
are (D, d), one row per atom; b is (d,).
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from saeft_ray import draws
from saeft_ray.draws import IntArray
from saeft_ray.sae.dictionary import Dictionary
from saeft_ray.sae.embedding_rows import Rows
from saeft_ray.settings import DictionarySettings

SAMPLE = 1 << 16  # rows that suffice for the median and the threshold
_BATCH = 1024  # rows that share a threshold while it is estimated


class Weights(NamedTuple):
    """An SAE, or gradients by it."""

    encoder: Tensor  # (D, d)
    atoms: Tensor  # (D, d)
    bias: Tensor  # (d,)


@contextmanager
def _no_warning_of_csr() -> Iterator[None]:
    """Torch warns once per process that CSR is young; the tests compare our gradients with autograd's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        yield


@_no_warning_of_csr()
def train(
    activations: NDArray[np.float32], settings: DictionarySettings, seed: int, device: torch.device
) -> Dictionary:
    """An SAE fitted to (N, V, d) frozen activations by Adam on the mean squared reconstruction error.

    With `recipe: corrected`, atoms are unit vectors throughout and those long silent learn the residual. With
    `recipe: reference`, AdamW and neither. The order of the views is a draw named by (seed, epoch), so equal arguments
    give equal weights on one machine. Activations may be memory-mapped: no more than a batch of them is held at a time
    where all would not fit.
    """
    x = Rows(activations, settings, device)
    some = x.sample(SAMPLE)
    weights = initial(some, settings, seed)
    corrected = settings.recipe == "corrected"
    optimizer = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=0.0 if corrected else 0.01, fused=True)
    size = min(settings.batch_size, len(x))
    steps = settings.epochs * (len(x) // size) if settings.epochs else settings.steps
    silent = torch.zeros(settings.width, dtype=torch.long, device=device)  # rows since each atom was last active
    for step, batch in enumerate(x.each(_order(len(x), size, steps, seed))):
        if corrected:  # constant, then linearly to 0 in the last fifth
            optimizer.param_groups[0]["lr"] = settings.lr * min(1.0, 5 * (1 - step / steps))
        dead = (silent >= settings.dead_after).nonzero()[:, 0] if settings.aux else silent[:0]
        slopes, active = gradients(batch, weights, settings, dead)
        silent += size
        silent[active] = 0
        for tensor, slope in zip(weights, slopes, strict=True):
            tensor.grad = slope
        optimizer.step()
        if corrected:
            weights.atoms.div_(weights.atoms.norm(dim=1, keepdim=True))
    return finished(weights, some, settings)


def _order(n: int, size: int, steps: int, seed: int) -> Iterator[IntArray]:
    """The rows of each of `steps` batches."""
    for step in range(steps):
        epoch, position = divmod(step, n // size)
        if position == 0:
            order = draws.permutation(seed, "sae order", n, epoch)
        yield order[position * size : (position + 1) * size]


def initial(x: Tensor, settings: DictionarySettings, seed: int) -> Weights:
    """The SAE before its first step, on the device of its training rows `x` (N, d) or an even sample of them.

    `recipe: corrected`: atoms uniform on the sphere, the encoder tied to them, the bias at the geometric median of the
    features (Gao et al. 2024, appendix A.1). `recipe: reference`: both matrices as torch draws a linear layer's,
    independently, then atoms at length 1, and no bias.
    """
    d = x.shape[1]
    if settings.recipe == "corrected":
        atoms = directions(settings.width, d, seed).to(x.device)
        return Weights(atoms.clone(), atoms, geometric_median(x))
    generator = torch.Generator().manual_seed(seed)
    encoder, atoms = (2 * torch.rand(settings.width, d, generator=generator) - 1 for _ in range(2))
    return Weights((encoder / math.sqrt(d)).to(x.device), normalize(atoms, dim=1).to(x.device), x.new_zeros(d))


def directions(width: int, d: int, seed: int) -> Tensor:
    """(width, d) unit vectors, uniform on the sphere."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(width, d, generator=generator), dim=1)


def geometric_median(x: Tensor) -> Tensor:
    """The point (d,) with the least sum of distances to the rows of `x` (N, d), by Weiszfeld's iteration (1937).

    Of a larger `x` an even sample is used.
    """
    x = x[:: -(-len(x) // SAMPLE)]
    median = x.mean(0)
    for _ in range(100):
        distance = (x - median).norm(dim=1, keepdim=True)
        weight = 1 / distance.clamp_min(1e-6 * float(distance.mean()) + 1e-12)
        last, median = median, (weight * x).sum(0) / weight.sum()
        if (median - last).norm() <= 1e-5 * distance.mean():
            break
    return median


def finished(weights: Weights, x: Tensor, settings: DictionarySettings) -> Dictionary:
    """The dictionary of `weights`. `batch_topk` gets its threshold from a sample `x` (N, d) of the training rows: the
    mean over batches of the smallest active pre-activation (Bussmann et al. 2024, section 3)."""
    threshold = None
    if settings.activation == "batch_topk":
        batches = torch.split(x[:: -(-len(x) // SAMPLE)], _BATCH)
        threshold = torch.stack([_smallest_active(b, weights, settings) for b in batches]).mean()
    return Dictionary(*weights, settings, threshold)


def _smallest_active(batch: Tensor, weights: Weights, settings: DictionarySettings) -> Tensor:
    a = ((batch - weights.bias) @ weights.encoder.T).flatten()
    return a.topk(settings.k * len(batch)).values[-1].clamp_min(0)


def gradients(x: Tensor, weights: Weights, settings: DictionarySettings, dead: Tensor) -> tuple[Weights, Tensor]:
    """Gradients by the weights of the loss of a batch `x` (B, d), and which atoms were active (repeats among them).

    The loss is mean (x̂ - x)² over B × d, plus aux · mean (ê - e)², where e = x - x̂ (no gradient) is what the SAE
    left and ê its reconstruction from the d/2 `dead` atoms of the highest pre-activations (Gao et al. 2024, A.2).
    """
    d = x.shape[1]
    centred = x - weights.bias
    fit = _fit(centred, centred, weights.encoder, weights.atoms, settings.k, settings.activation)
    by_bias = fit.error.sum(0) + fit.by_bias
    if len(dead):
        left, encoder, atoms = fit.error * (-fit.error.numel() / 2), weights.encoder[dead], weights.atoms[dead]
        activation = "topk" if settings.activation == "topk" else "relu_topk"
        extra = _fit(centred, left, encoder, atoms, min(d // 2 or 1, len(dead)), activation)
        fit.by_encoder.index_add_(0, dead, extra.by_encoder, alpha=settings.aux)
        fit.by_atoms.index_add_(0, dead, extra.by_atoms, alpha=settings.aux)
        by_bias += settings.aux * extra.by_bias
    return Weights(fit.by_encoder, fit.by_atoms, by_bias), fit.active


class _Fit(NamedTuple):
    """Gradients of mean (W s - target)² over B × d, and what they were made of."""

    error: Tensor  # (B, d), by W s
    by_encoder: Tensor
    by_atoms: Tensor
    by_bias: Tensor  # through the codes alone
    active: Tensor  # atoms, with repeats


def _fit(centred: Tensor, target: Tensor, encoder: Tensor, atoms: Tensor, k: int, activation: str) -> _Fit:
    """Codes s of `centred` (B, d) fitted to `target` (B, d).

    Written out because only k of D atoms take part in each row: autograd would multiply B × D matrices of zeros.
    """
    columns, values, starts = _active(centred @ encoder.T, k, activation)
    error = embedding_bag(columns, atoms, starts[:-1], per_sample_weights=values, mode="sum") - target
    error *= 2 / error.numel()
    pattern = torch.sparse_csr_tensor(starts, columns, torch.zeros_like(values), (len(centred), len(atoms)))
    by_value = torch.sparse.sampled_addmm(pattern, error, atoms.T, beta=0.0).values()
    active = columns
    if activation != "topk":
        positive = values > 0
        by_value = by_value * positive
        active = columns[positive]
    # The same entries atom by atom: (codes)ᵀ error, as sums over the rows in which an atom is active.
    order = _sorting(columns)
    rows = torch.repeat_interleave(torch.arange(len(centred), device=centred.device), starts.diff())[order]
    counts = torch.bincount(columns, minlength=len(atoms))
    first = counts.cumsum(0) - counts
    by_atoms = embedding_bag(rows, error, first, per_sample_weights=values[order], mode="sum")
    by_encoder = embedding_bag(rows, centred, first, per_sample_weights=by_value[order], mode="sum")
    by_bias = -torch.bincount(columns, by_value, minlength=len(atoms)) @ encoder
    return _Fit(error, by_encoder, by_atoms, by_bias, active)


def _active(a: Tensor, k: int, activation: str) -> tuple[Tensor, Tensor, Tensor]:
    """The active entries of `a` (B, D) as CSR: columns, values, and where each row starts (B + 1,).

    They are the k largest of each row, or with `batch_topk` the k B largest of all, where positive.
    """
    if activation == "batch_topk":
        smallest = _kth_largest(a.view(1, -1), k * len(a)).clamp_min(torch.finfo(a.dtype).tiny)
        chosen = a >= smallest
        columns, counts = chosen.nonzero()[:, 1], chosen.sum(1)
        return columns, a[chosen], torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    if a.device.type == "cpu":
        dense = a.numpy() >= _kth_largest(a, k).numpy()
        flat = torch.from_numpy(np.flatnonzero(dense))
        values = a.flatten()[flat]
        columns = flat % a.shape[1]
        # Ties keep all that tie.
        counts = torch.from_numpy(dense.sum(1)) if len(flat) != len(a) * k else torch.tensor(k)
        starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.expand(len(a)).cumsum(0)])
    else:
        values, index = a.topk(k, dim=-1, sorted=False)
        index, place = index.sort(dim=-1)
        values = values.gather(-1, place)
        values, columns = values.flatten(), index.flatten()
        starts = torch.arange(0, len(columns) + 1, k, device=a.device)
    return columns, values.relu() if activation == "relu_topk" else values, starts


def _kth_largest(a: Tensor, k: int) -> Tensor:
    """(B, 1) the k-th largest entry of each row of `a` (B, n)."""
    if a.device.type == "cpu":  # a partition is three times as fast as torch's topk there
        return torch.from_numpy(np.partition(a.numpy(), -k, axis=1)[:, -k, None])
    return a.topk(k, dim=-1).values[:, -1:]


def _sorting(columns: Tensor) -> Tensor:
    """Returns the order that sorts `columns`; equal ones keep theirs."""
    if columns.device.type == "cpu":  # numpy sorts small integers by radix, five times as fast
        short = columns.numpy().astype(np.uint16 if columns.numel() and int(columns.max()) < 1 << 16 else np.int64)
        return torch.from_numpy(np.argsort(short, kind="stable"))
    return torch.argsort(columns, stable=True)
