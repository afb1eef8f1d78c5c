"""How each shared artifact is built, and opened again: the one place that knows both the plan and torch."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from saeft_ray import sae
from saeft_ray.config.schema import METHODS
from saeft_ray.datasets import Split
from saeft_ray.errors import UserError
from saeft_ray.methods import Constants
from saeft_ray.model import encoder, zero_shot
from saeft_ray.model.encoder import Classifier, ClipModel
from saeft_ray.orchestration.plan import Artifact, Plan
from saeft_ray.sae import exchange
from saeft_ray.storage.retry import is_full
from saeft_ray.storage.store import Store
from saeft_ray.training import frozen_embeddings

_CPU = torch.device("cpu")


def ensure(artifact: Artifact, plan: Plan, store: Store, device: torch.device) -> Path:
    """The folder of `artifact`, built now if the store has no sound copy."""
    built = []

    def build(folder: Path) -> None:
        try:
            _build(artifact, plan, store, device, folder)
        except SafetensorError as error:
            if is_full(error):  # as everything else that writes has it
                raise OSError(errno.ENOSPC, str(error), str(folder)) from error
            raise
        built.append(artifact)

    folder = store.ensure(artifact.kind, artifact.key, build, artifact.identity)
    for shard in artifact.shards if built else ():
        store.remove(shard.kind, shard.key)
    return folder


def pieces(wanted: Sequence[Artifact], store: Store) -> list[Artifact]:
    """`wanted` with the shards of what is not in the store, each before what it is a part of."""
    found: list[Artifact] = []
    for artifact in wanted:
        if artifact.shards and not store.has(artifact.kind, artifact.key):
            found += artifact.shards
        found.append(artifact)
    return found


def clip(plan: Plan) -> ClipModel:
    """The pretrained model. Raises UserError if it is no longer the one that the sweep began with."""
    model = encoder.load(plan.config.model, plan.config.storage.endpoint)
    if model.identity != plan.facts.model:
        raise UserError(
            f"model: its weights are not those that this sweep began with: they were {plan.facts.model}, and are now "
            f"{model.identity}; give them a name that stays, and begin another sweep"
        )
    return model


def head(plan: Plan, store: Store) -> Tensor:
    """(C, d) weights of the zero-shot head."""
    artifact = plan.head()
    weight: Tensor = load_file(ensure(artifact, plan, store, _CPU) / "head.safetensors")["weight"]
    return weight


def dictionary(artifact: Artifact, plan: Plan, store: Store, device: torch.device = _CPU) -> sae.Dictionary:
    """The dictionary, on the `device` that makes it if the store has none."""
    return sae.load(ensure(artifact, plan, store, device), plan.facts.model).to(device)


def constants(artifact: Artifact, plan: Plan, store: Store) -> Constants:
    """Returns the constants that a method prepared, on the CPU."""
    prepared: Constants = load_file(ensure(artifact, plan, store, _CPU) / "constants.safetensors")
    return prepared


def _build(artifact: Artifact, plan: Plan, store: Store, device: torch.device, folder: Path) -> None:
    config = plan.config
    if artifact.kind == "head":
        model = clip(plan)
        weight = zero_shot.zero_shot_head(model, config.data.class_names(), config.data.prompts())
        save_file({"weight": weight.contiguous()}, folder / "head.safetensors")
    elif artifact.shards:
        shards = [ensure(shard, plan, store, device) for shard in artifact.shards]
        frozen_embeddings.join(shards, plan.facts.sizes["train"], folder)
    elif artifact.kind in ("activations", "shard"):
        frozen = clip(plan).classifier(torch.zeros(1, plan.facts.width), config.train.precision).to(device).eval()
        split = config.data.split("train", plan.facts.image_size)
        images = range(*artifact.identity.get("images", [len(split.labels)]))
        loaders = config.compute.loaders
        frozen_embeddings.compute(frozen, split, images, plan.pool, plan.view_seed, folder, loaders)
    elif artifact.kind == "dictionary":
        x = frozen_embeddings.load(ensure(plan.activations(), plan, store, device))
        made = _dictionary(artifact, x, plan, store, device)
        quality = sae.quality(made, x)._asdict()
        sae.save(made, {**artifact.identity, "model": plan.facts.model, "quality": quality}, folder)
    elif artifact.kind == "constants":
        settings = artifact.identity["method"]
        method = METHODS[settings["type"]].model_construct(**settings)  # without its lambdas, which change nothing
        prepared = method.prepare(_Frozen(artifact, plan, store, device))
        save_file({name: x.cpu().contiguous() for name, x in prepared.items()}, folder / "constants.safetensors")
    else:
        raise AssertionError(f"{artifact.kind} is made by its trial")


@dataclass(frozen=True)
class _Frozen:
    """The frozen side for the constants that `artifact` is, on `device` (`methods.Frozen`)."""

    artifact: Artifact
    plan: Plan
    store: Store
    device: torch.device

    @property
    def seed(self) -> int:
        return self.plan.view_seed

    @property
    def dictionary(self) -> sae.Dictionary | None:
        found = (need for need in self.artifact.needs if need.kind == "dictionary")
        return next((dictionary(need, self.plan, self.store).to(self.device) for need in found), None)

    def activations(self) -> Iterator[Tensor]:
        stored = ensure(self.plan.activations(), self.plan, self.store, self.device)
        return frozen_embeddings.parts(frozen_embeddings.load(stored), self.device)

    def labels(self) -> Tensor:
        return torch.from_numpy(self.images().labels).repeat_interleave(self.plan.pool)

    def model(self) -> Classifier:
        return clip(self.plan).classifier(head(self.plan, self.store)).to(self.device)

    def images(self) -> Split:
        return self.plan.config.data.split("train", self.plan.facts.image_size)

    def contexts(self) -> Tensor:
        config = self.plan.config
        model = clip(self.plan)
        tokens = zero_shot.captions(model, config.data.class_names(), config.data.prompts())
        return zero_shot.head(model.clip, tokens.transpose(0, 1)).to(self.device)


def _dictionary(
    artifact: Artifact, x: NDArray[np.float32], plan: Plan, store: Store, device: torch.device
) -> sae.Dictionary:
    """The dictionary of `artifact`, from the (N, V, d) activations `x`."""
    settings, seed = plan.config.dictionary, artifact.identity["seed"]
    match artifact.identity["kind"]:
        case "trained" if settings.source:
            return _imported(artifact, x, plan)
        case "trained":
            return sae.train(x, settings, seed, device)
        case "permuted":
            (trained,) = (need for need in artifact.needs if need.kind == "dictionary")
            return sae.permuted(dictionary(trained, plan, store), seed)
        case "pca":
            return sae.principal(x, settings)
        case "untrained":
            return sae.untrained(x, settings, seed)
        case _:
            return sae.random(x, settings, seed)


def _imported(artifact: Artifact, x: NDArray[np.float32], plan: Plan) -> sae.Dictionary:
    """The SAE that the sweep file names. Raises UserError if it is not an SAE of these embeddings."""
    settings = plan.config.dictionary
    found = exchange.open_named(settings, plan.facts.width, plan.config.storage.endpoint)
    if found.sha256 != artifact.identity["imported"]:
        raise UserError(
            f"dictionary.from: {settings.source} has changed since this sweep began; give a name that stays"
        )
    # Many models have the same width; only their embeddings distinguish them.
    if (fvu := sae.quality(found.dictionary, x).fvu) >= 1:
        raise UserError(
            f"dictionary.from: {settings.source} reconstructs this model's features worse than their mean would (FVU "
            f"{fvu:.2f}): it was trained on another model or layer, or on another input than {settings.input!r}"
        )
    return found.dictionary
