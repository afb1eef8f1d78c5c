"""The dictionaries that a record is read through: the trained one, and what its reading is compared with.

Shapes: d embedding width, D dictionary width.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch

from saeft_ray import sae
from saeft_ray.orchestration import artifacts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.sae.embedding_rows import Rows
from saeft_ray.sae.training import SAMPLE, Weights, finished
from saeft_ray.settings import DictionarySettings
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.store import Store
from saeft_ray.training import frozen_embeddings

Kind = Literal["trained", "random", "pca", "neurons"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Reader(NamedTuple):
    """A dictionary by its kind and its key in the store. `trained` may be imported."""

    kind: Kind
    key: str
    identity: dict[str, Any]


def reader(plan: Plan, kind: Kind) -> Reader:
    """The reader of this kind in `plan`, whether or not a method of the sweep has a dictionary."""
    if kind != "neurons":
        artifact = plan.dictionary(kind, 0)
        return Reader(kind, artifact.key, artifact.identity)
    identity = {
        "kind": kind,
        "activations": plan.activations().identity,
        "settings": plan.config.dictionary.model_dump(include={"k", "activation", "input"}),
        "version": 1,
    }
    return Reader(kind, fingerprint(identity, 24), identity)


def dictionary_of(given: Reader, plan: Plan, store: Store, device: torch.device) -> sae.Dictionary:
    """The dictionary, on `device`; made and kept if the store has none."""
    if given.kind != "neurons":
        return artifacts.dictionary(plan.dictionary(given.kind, 0), plan, store, device)

    def build(folder: Path) -> None:
        x = frozen_embeddings.load(artifacts.ensure(plan.activations(), plan, store, device))
        sae.save(neurons(x, plan.config.dictionary), {**given.identity, "model": plan.facts.model}, folder)

    return sae.load(store.ensure("dictionary", given.key, build, given.identity), plan.facts.model).to(device)


def neurons(activations: Any, settings: DictionarySettings) -> sae.Dictionary:
    """The coordinates of (N, V, d) activations as a dictionary of 2d atoms: +e₁, −e₁, +e₂, …, the encoder tied, the
    bias the mean. Both signs, because a code is not negative."""
    x = Rows(activations, settings)
    axes = torch.eye(x.d)
    atoms = torch.stack([axes, -axes], 1).flatten(0, 1)
    fitting = settings.model_copy(update={"width": 2 * x.d, "k": min(settings.k, x.d)})
    return finished(Weights(atoms.clone(), atoms, x.mean()), x.sample(SAMPLE), fitting)
