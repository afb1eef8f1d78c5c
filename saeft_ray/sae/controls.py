"""Controls of a trained SAE: dictionaries of the same width, sparsity and penalty, made in other ways.

Shapes: d embedding width, D dictionary width; N images, V views.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray import draws
from saeft_ray.sae.dictionary import Dictionary
from saeft_ray.sae.embedding_rows import Rows
from saeft_ray.sae.training import SAMPLE, Weights, directions, finished, initial
from saeft_ray.settings import DictionarySettings


def random(activations: NDArray[np.float32], settings: DictionarySettings, seed: int) -> Dictionary:
    """D directions uniform on the sphere, encoder tied to them, bias at the mean of (N, V, d) activations."""
    x = Rows(activations, settings)
    atoms = directions(settings.width, x.d, seed)
    return finished(Weights(atoms.clone(), atoms, x.mean()), x.sample(SAMPLE), settings)


def untrained(activations: NDArray[np.float32], settings: DictionarySettings, seed: int) -> Dictionary:
    """The SAE that `train` would begin from with this seed.

    By the corrected recipe that is a random dictionary but for its bias, the median and not the mean; by the
    reference's, whose encoder is not tied, its atoms and encoder have nothing in common.
    """
    x = Rows(activations, settings).sample(SAMPLE)
    return finished(initial(x, settings, seed), x, settings)


def permuted(trained: Dictionary, seed: int) -> Dictionary:
    """`trained` with its encoder's rows in a random order against its atoms: equal codes, equal atoms, wrong pairs."""
    order = torch.from_numpy(draws.permutation(seed, "sae permuted", len(trained.encoder)))
    threshold = trained.threshold
    if threshold is not None and threshold.ndim:
        threshold = threshold[order]
    return Dictionary(trained.encoder[order], trained.atoms.clone(), trained.bias.clone(), trained.settings, threshold)


def principal(activations: NDArray[np.float32], settings: DictionarySettings) -> Dictionary:
    """Principal directions of (N, V, d) activations: +v₁, -v₁, +v₂, … by falling variance, encoder tied, bias the mean.

    Both signs, because a code is not negative. There are 2d such atoms; of a larger dictionary the rest are zero, so
    never active: width D, and with it the meaning of every lambda, stays that of the trained SAE.
    """
    x = Rows(activations, settings)
    mean, products = x.mean(), torch.zeros(x.d, x.d, dtype=torch.float64)
    for part in x.parts():
        centred = (part - mean).double()
        products += centred.T @ centred
    vectors = torch.linalg.eigh(products).eigenvectors.T.flip(0).float()  # (d, d), one row per direction
    # The sign that eigh returns is arbitrary.
    sign = vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    both = torch.stack([vectors * sign, -vectors * sign], 1).flatten(0, 1)
    atoms = torch.zeros(settings.width, x.d)
    used = min(settings.width, len(both))
    atoms[:used] = both[:used]
    return finished(Weights(atoms.clone(), atoms, mean), x.sample(SAMPLE), settings)
