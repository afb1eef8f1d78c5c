"""Dictionaries of semantic features: the TopK sparse autoencoder (SAE) of the frozen features, and random directions.

Shapes: B batch, d embedding width, D dictionary width, k active atoms. Encoder E and atoms W are (D, d), one row an
atom; b (d,) is subtracted before encoding and added after decoding (Gao et al. 2024, eq. 2-3).
"""

import json
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

    Atoms are unit vectors throughout, the encoder begins as their transpose, the bias as the feature mean. Every batch
    is a draw named by (seed, step), so equal arguments give equal weights on one machine.
    """
    x = _read(activations, settings)[~held_out(activations.shape[0])].flatten(0, 1).to(device)
    d = x.shape[1]
    atoms = _directions(settings.width, d, seed).to(device)
    encoder, bias = atoms.clone(), x.mean(0)
    optimizer = torch.optim.Adam([encoder, atoms, bias], lr=settings.lr, fused=True)
    for step in range(settings.steps):
        rate = settings.lr * min(1.0, 5 * (1 - step / settings.steps))  # constant, then linearly to 0 in the last fifth
        optimizer.param_groups[0]["lr"] = rate
        index = draws.bits(seed, "sae batch", step, np.arange(settings.batch_size)) % np.uint64(len(x))
        batch = x[torch.from_numpy(index.astype(np.int64)).to(device)]
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
    values, index = (centred @ encoder.T).topk(settings.k, dim=-1, sorted=False)
    if settings.activation == "relu_topk":
        values = values.relu_()
    error = embedding_bag(index, atoms, per_sample_weights=values, mode="sum") - centred
    error *= 2 / error.numel()
    by_value = torch.einsum("bkd,bd->bk", atoms[index], error)
    if settings.activation == "relu_topk":
        by_value.masked_fill_(values <= 0, 0)
    rows = index.flatten()
    by_atoms = torch.zeros_like(atoms).index_add_(0, rows, (values[..., None] * error[:, None]).flatten(0, 1))
    by_encoder = torch.zeros_like(encoder).index_add_(0, rows, (by_value[..., None] * centred[:, None]).flatten(0, 1))
    by_bias = error.sum(0) - embedding_bag(index, encoder, per_sample_weights=by_value, mode="sum").sum(0)
    return by_encoder, by_atoms, by_bias


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
