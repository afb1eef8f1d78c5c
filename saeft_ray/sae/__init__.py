"""Dictionaries of semantic features: the sparse autoencoder (SAE) of the frozen features, and its controls.

`dictionary` codes features and guards its identity, `training` fits an SAE, `controls` makes what an SAE is compared
with, `foreign` reads and writes the formats of others.
"""

from saeft_ray.sae.controls import permuted, principal, random, untrained
from saeft_ray.sae.dictionary import Codes, Dictionary, Quality, load, quality, save
from saeft_ray.sae.embedding_rows import held_out
from saeft_ray.sae.exchange import export_saelens, import_reference, import_saelens
from saeft_ray.sae.training import train

__all__ = [
    "Codes",
    "Dictionary",
    "Quality",
    "export_saelens",
    "held_out",
    "import_reference",
    "import_saelens",
    "load",
    "permuted",
    "principal",
    "quality",
    "random",
    "save",
    "train",
    "untrained",
]
