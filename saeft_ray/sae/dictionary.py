"""A dictionary: what codes features, how well it does so, and its files with their identity card.

Shapes: B batch, d embedding width, D dictionary width, k active atoms; N images, V views. Encoder E and atoms W are
(D, d), one row per atom; b (d,) is subtracted before encoding and added after decoding (Gao et al. 2024, eq. 2-3).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saeft_ray.errors import UserError
from saeft_ray.model.tensor_files import not_finite
from saeft_ray.model.unit import unit
from saeft_ray.sae.embedding_rows import held_out
from saeft_ray.settings import DictionarySettings

_CHUNK = 4096  # rows that are coded at once


class Codes(NamedTuple):
    preactivations: Tensor  # (B, D)
    codes: Tensor  # (B, D), at most k nonzero a row; with `batch_topk` about k


class Dictionary(nn.Module):
    """D atoms with the encoder that activates them; frozen wherever a penalty uses it.

    `threshold`, () or (D,): with `activation: batch_topk`, the pre-activation above which an atom is active.
    """

    def __init__(
        self,
        encoder: Tensor,
        atoms: Tensor,
        bias: Tensor,
        settings: DictionarySettings,
        threshold: Tensor | None = None,
    ):
        super().__init__()
        assert (threshold is not None) == (settings.activation == "batch_topk")
        self.register_buffer("encoder", encoder)
        self.register_buffer("atoms", atoms)
        self.register_buffer("bias", bias)
        self.register_buffer("threshold", threshold)
        self.encoder: Tensor
        self.atoms: Tensor
        self.bias: Tensor
        self.threshold: Tensor | None
        self.settings = settings

    def read(self, features: Tensor) -> Tensor:
        """Features (B, d) as this dictionary was trained on them: at length 1, or raw."""
        return unit(features) if self.settings.input == "unit" else features

    def encode(self, x: Tensor) -> Codes:
        """Codes of `x` (B, d), which must have gone through `read`."""
        a = (x - self.bias) @ self.encoder.T
        if self.threshold is not None:
            return Codes(a, a.masked_fill(a <= self.threshold, 0))
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


class Quality(NamedTuple):
    """The quality of a dictionary on held-out images."""

    fvu: float  # share of variance unexplained
    l0: float  # mean number of active atoms
    dead: float  # share of atoms that no held-out view activates


@torch.no_grad()
def quality(dictionary: Dictionary, activations: NDArray[np.float32]) -> Quality:
    """How well `dictionary` codes the held-out part of (N, V, d) activations."""
    x = as_read(activations[held_out(len(activations))], dictionary.settings).to(dictionary.bias.device)
    unexplained, active = x.new_zeros(()), x.new_zeros(len(dictionary.atoms))
    for rows in torch.split(x, _CHUNK):
        codes = dictionary.encode(rows).codes
        unexplained += (dictionary.decode(codes) - rows).square().sum()
        active += (codes != 0).sum(0)
    variance = (x - x.mean(0)).square().sum()
    return Quality(float(unexplained / variance), float(active.sum() / len(x)), float((active == 0).float().mean()))


def as_read(activations: NDArray[np.float32], settings: DictionarySettings) -> Tensor:
    """(N, V, d) activations as rows (N V, d) at length 1, or raw."""
    x = torch.from_numpy(np.require(activations, np.float32, ["C", "W"])).flatten(0, 1)
    return unit(x) if settings.input == "unit" else x


def save(dictionary: Dictionary, card: dict[str, Any], folder: Path) -> None:
    """Weights as safetensors, and next to them the identity card that `load` checks."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in dictionary.named_buffers()}
    save_file(tensors, folder / "dictionary.safetensors")
    card = {**card, "settings": dictionary.settings.model_dump()}
    (folder / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True))


def load(folder: Path, model: dict[str, str]) -> Dictionary:
    """The dictionary in `folder`. Raises UserError if it was not made for `model` (an identity of `encoder`)."""
    card = json.loads((folder / "card.json").read_text())
    if card["model"] != model:
        raise UserError(
            f"dictionary {folder}: it was made for {card['model']}, but this sweep fine-tunes {model}; "
            "a dictionary reads the features of its own model alone"
        )
    tensors = load_file(folder / "dictionary.safetensors")
    if bad := not_finite(tensors):
        raise UserError(f"dictionary {folder}: {bad} holds values that are not finite; delete it and retrain")
    return Dictionary(**tensors, settings=DictionarySettings.model_validate(card["settings"]))
