"""Dictionaries of semantic features: the TopK sparse autoencoder (SAE) of the frozen features, and random directions.

Shapes: B batch, d embedding width, D dictionary width, k active atoms. Encoder E and atoms W are (D, d), one row an
atom; b (d,) is subtracted before encoding and added after decoding (Gao et al. 2024, eq. 2-3).
"""

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, normalize

from saeft_ray import draws
from saeft_ray.config import DictionarySettings
from saeft_ray.methods import unit

# Torch warns once a process that CSR is young; the tests compare our gradients with autograd's.
warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")

HELD_OUT = 0.05  # share of images whose views measure the quality of an SAE and never train it


class Codes(NamedTuple):
    preactivations: Tensor  # (B, D)
    codes: Tensor  # (B, D), at most k nonzero a row


class Dictionary(nn.Module):
    """D atoms with the encoder that activates them; frozen wherever a penalty uses it."""

    def __init__(self, encoder: Tensor, atoms: Tensor, bias: Tensor, settings: DictionarySettings):
        super().__init__()
        self.register_buffer("encoder", encoder)
        self.register_buffer("atoms", atoms)
        self.register_buffer("bias", bias)
        self.encoder: Tensor
        self.atoms: Tensor
        self.bias: Tensor
        self.settings = settings

    def read(self, features: Tensor) -> Tensor:
        """Features (B, d) as this dictionary was trained on them: at length 1, or raw."""
        return unit(features) if self.settings.input == "unit" else features

    def encode(self, x: Tensor) -> Codes:
        """Codes of `x` (B, d), which must have gone through `read`."""
        a = (x - self.bias) @ self.encoder.T
        values, index = a.topk(self.settings.k, dim=-1)
        if self.settings.activation == "relu_topk":
            values = values.relu()
        return Codes(a, torch.zeros_like(a).scatter(-1, index, values))

    def combine(self, codes: Tensor) -> Tensor:
        """W codes (B, d), without the bias: what differences of codes need."""
        return codes @ self.atoms

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions (B, d) of what `read` gave."""
        return self.combine(codes) + self.bias


def train(
    activations: NDArray[np.float32], settings: DictionarySettings, seed: int, device: torch.device
) -> Dictionary:
    """A TopK SAE fitted to (N, V, d) frozen activations by Adam on the mean squared reconstruction error.

    Atoms are unit vectors throughout, the encoder begins as their transpose, the bias as the feature mean. The order of
    the views is a draw named by (seed, epoch), so equal arguments give equal weights on one machine.
    """
    x = _read(activations, settings)[~held_out(activations.shape[0])].flatten(0, 1).to(device)
    d = x.shape[1]
    atoms = _directions(settings.width, d, seed).to(device)
    encoder, bias = atoms.clone(), x.mean(0)
    optimizer = torch.optim.Adam([encoder, atoms, bias], lr=settings.lr, fused=True)
    size = min(settings.batch_size, len(x))
    for step in range(settings.steps):
        rate = settings.lr * min(1.0, 5 * (1 - step / settings.steps))  # constant, then linearly to 0 in the last fifth
        optimizer.param_groups[0]["lr"] = rate
        epoch, position = divmod(step, len(x) // size)
        if position == 0:
            order = torch.from_numpy(draws.permutation(seed, "sae order", len(x), epoch)).to(device)
        batch = x[order[position * size : (position + 1) * size]]
        encoder.grad, atoms.grad, bias.grad = _gradients(batch, encoder, atoms, bias, settings)
        optimizer.step()
        atoms.div_(atoms.norm(dim=1, keepdim=True))
    return Dictionary(encoder, atoms, bias, settings)


def _gradients(
    x: Tensor, encoder: Tensor, atoms: Tensor, bias: Tensor, settings: DictionarySettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of mean((decode(encode(x)) - x)²) by (encoder, atoms, bias).

    Written out because only k of D atoms take part in each row: autograd would multiply B × D matrices of zeros.
    """
    centred = x - bias
    columns, values, starts = _active(centred @ encoder.T, settings)
    error = embedding_bag(columns, atoms, starts[:-1], per_sample_weights=values, mode="sum") - centred
    error *= 2 / error.numel()
    pattern = torch.sparse_csr_tensor(starts, columns, torch.zeros_like(values), (len(x), len(atoms)))
    by_value = torch.sparse.sampled_addmm(pattern, error, atoms.T, beta=0.0).values()
    if settings.activation == "relu_topk":
        by_value = by_value * (values > 0)
    # The same entries atom by atom: (codes)ᵀ error, as sums over the rows in which an atom is active.
    order = _sorting(columns)
    rows = torch.repeat_interleave(torch.arange(len(x), device=x.device), starts.diff())[order]
    counts = torch.bincount(columns, minlength=len(atoms))
    first = counts.cumsum(0) - counts
    by_atoms = embedding_bag(rows, error, first, per_sample_weights=values[order], mode="sum")
    by_encoder = embedding_bag(rows, centred, first, per_sample_weights=by_value[order], mode="sum")
    by_bias = error.sum(0) - torch.bincount(columns, by_value, minlength=len(atoms)) @ encoder
    return by_encoder, by_atoms, by_bias


def _active(a: Tensor, settings: DictionarySettings) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest of each row of `a` (B, D) as CSR: columns, values, and where each row starts (B + 1,)."""
    if a.device.type == "cpu":  # a partition is three times as fast as torch's topk there; ties keep all that tie
        dense = a.numpy()
        kth = np.partition(dense, -settings.k, axis=1)[:, -settings.k, None]
        chosen = dense >= kth
        flat = torch.from_numpy(np.flatnonzero(chosen))
        values = a.flatten()[flat]
        columns = flat % a.shape[1]
        counts = torch.from_numpy(chosen.sum(1)) if len(flat) != len(a) * settings.k else torch.tensor(settings.k)
        starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.expand(len(a)).cumsum(0)])
    else:
        values, index = a.topk(settings.k, dim=-1, sorted=False)
        index, place = index.sort(dim=-1)
        values = values.gather(-1, place)
        values, columns = values.flatten(), index.flatten()
        starts = torch.arange(0, len(columns) + 1, settings.k, device=a.device)
    return columns, values.relu() if settings.activation == "relu_topk" else values, starts


def _sorting(columns: Tensor) -> Tensor:
    """What sorts `columns`, equals in order."""
    if columns.device.type == "cpu":  # numpy sorts small integers by radix, five times as fast
        short = columns.numpy().astype(np.uint16 if columns.numel() and int(columns.max()) < 1 << 16 else np.int64)
        return torch.from_numpy(np.argsort(short, kind="stable"))
    return torch.argsort(columns, stable=True)


def random(activations: NDArray[np.float32], settings: DictionarySettings, seed: int) -> Dictionary:
    """The control: D directions uniform on the sphere, encoder tied to them, bias at the feature mean."""
    x = _read(activations, settings)[~held_out(activations.shape[0])].flatten(0, 1)
    atoms = _directions(settings.width, x.shape[1], seed)
    return Dictionary(atoms.clone(), atoms, x.mean(0), settings)


class Quality(NamedTuple):
    """Of a dictionary on held-out images."""

    fvu: float  # share of variance unexplained
    l0: float  # mean number of active atoms
    dead: float  # share of atoms that no held-out view activates


@torch.no_grad()
def quality(dictionary: Dictionary, activations: NDArray[np.float32]) -> Quality:
    """How well `dictionary` codes the held-out part of (N, V, d) activations."""
    x = _read(activations, dictionary.settings)[held_out(activations.shape[0])].flatten(0, 1).to(dictionary.bias.device)
    codes = dictionary.encode(x).codes
    unexplained = (dictionary.decode(codes) - x).square().sum() / (x - x.mean(0)).square().sum()
    active = codes != 0
    return Quality(float(unexplained), float(active.sum(1).float().mean()), float((~active.any(0)).float().mean()))


def held_out(n: int) -> NDArray[np.bool_]:
    """(n,) True for the images that no SAE trains on; at least one."""
    chosen = draws.uniform(0, "sae held out", np.arange(n), slots=1)[:, 0] < HELD_OUT
    chosen[0] |= not chosen.any()
    return chosen


def save(dictionary: Dictionary, card: dict[str, Any], folder: Path) -> None:
    """Weights as safetensors, and beside them the identity card that `load` checks."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in dictionary.named_buffers()}
    save_file(tensors, folder / "dictionary.safetensors")
    card = {**card, "settings": dictionary.settings.model_dump()}
    (folder / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True))


def load(folder: Path, model: dict[str, str]) -> Dictionary:
    """The dictionary in `folder`. Raises ValueError if it was not made for `model` (an identity of `encoder`)."""
    card = json.loads((folder / "card.json").read_text())
    if card["model"] != model:
        raise ValueError(
            f"dictionary {folder}: it was made for {card['model']}, but this sweep fine-tunes {model}; "
            "a dictionary reads the features of its own model alone"
        )
    tensors = load_file(folder / "dictionary.safetensors")
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise ValueError(
            f"dictionary {folder}: {', '.join(bad)} holds values that are not finite; delete it and retrain"
        )
    return Dictionary(
        tensors["encoder"], tensors["atoms"], tensors["bias"], DictionarySettings.model_validate(card["settings"])
    )


def _read(activations: NDArray[np.float32], settings: DictionarySettings) -> Tensor:
    x = torch.from_numpy(np.array(activations, np.float32))
    return normalize(x, dim=-1) if settings.input == "unit" else x


def _directions(width: int, d: int, seed: int) -> Tensor:
    """(width, d) unit vectors, uniform on the sphere."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(width, d, generator=generator), dim=1)
