"""What the trials of a sweep left in its store: tuned models, dictionaries and their embeddings."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file

from saeft_ray import sae
from saeft_ray.datasets import Split
from saeft_ray.errors import UserError
from saeft_ray.model.encoder import Classifier, ClipModel
from saeft_ray.orchestration import artifacts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.store import Store
from saeft_ray.training.evaluate import BATCH
from saeft_ray.training.prefetch import ahead
from saeft_ray.training.worker import Worker

Embeddings = NDArray[np.float32]  # (N, d)


def clip_of(plan: Plan) -> ClipModel:
    """The pretrained model of the sweep."""
    return artifacts.clip(plan)


def frozen_classifier(plan: Plan, store: Store) -> Classifier:
    """The pretrained image tower with the zero-shot head."""
    return clip_of(plan).classifier(artifacts.head(plan, store))


def tuned_classifier(plan: Plan, spec: TrialSpec, store: Store) -> Classifier:
    """The classifier that `spec` was evaluated with. Raises UserError if it is not in the store."""
    frozen = frozen_classifier(plan, store)
    if spec.trained is None:
        raise UserError(f"{spec.id}: {spec.method} trains no weights; its image tower is that of the frozen model")
    ended = plan.final_weights(spec)
    if not store.has(ended.kind, ended.key):
        raise UserError(f"{spec.id}: its weights are not in {store.url}; those of the confirm phase are kept")
    tuned = clip_of(plan).classifier(frozen.head.weight.detach())
    tuned.load_state_dict(load_file(store.get(ended.kind, ended.key) / "model.safetensors"))
    return spec.settings.finish(tuned, lambda: frozen)


def open_clip_state(tuned: Classifier, clip: ClipModel) -> dict[str, torch.Tensor]:
    """The weights of open_clip's module with the image tower of `tuned`; the text tower stays that of `clip`."""
    state: dict[str, torch.Tensor] = clip.clip.state_dict()
    return state | {f"visual.{name}": tensor for name, tensor in tuned.encoder.state_dict().items()}


def same_weights(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states have the same names and values."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def open_clip_model(tuned: Classifier, clip: ClipModel) -> Any:
    """An open_clip module of its own with the image tower of `tuned`, in evaluation mode on the CPU."""
    model = copy.deepcopy(clip.clip)
    model.load_state_dict(open_clip_state(tuned, clip))
    return model.requires_grad_(True).eval()


def dictionary_of(plan: Plan, spec: TrialSpec, store: Store) -> sae.Dictionary:
    """The dictionary that `spec` was trained with. Raises UserError if its method reads none or the store has none."""
    found = [artifact for artifact in plan.needs(spec) if artifact.kind == "dictionary"]
    if not found:
        readers = [label for label, method in plan.config.methods.items() if method.dictionary_kind]
        others = f"these do: {', '.join(readers)}" if readers else "no method does"
        raise UserError(f"{spec.id}: {spec.method} uses no dictionary; in this sweep {others}")
    if not store.has("dictionary", found[0].key):
        raise UserError(f"{spec.id}: its dictionary is not in {store.url}; run the sweep again to build it")
    return artifacts.dictionary(found[0], plan, store)


def split_of(plan: Plan, name: str) -> Split:
    """The selection split or a test set. Raises UserError for another name or data that is not there."""
    known = ["selection", *plan.config.data.test_sets()]
    if name not in known:
        raise UserError(f"{name!r} is not a test set of this sweep; allowed: {', '.join(known)}")
    if problems := plan.config.data.problems():
        raise UserError("data:" + "".join(f"\n  {problem}" for problem in problems))
    return plan.config.data.split(name, plan.facts.image_size)


def kept_embeddings(
    plan: Plan, store: Store, spec: TrialSpec | None, name: str, make: Callable[[], Embeddings]
) -> Embeddings:
    """(N, d) embeddings of set `name` by the model of `spec`, or by the frozen one if that is None, as the store has
    them; those of `make` if it has none."""
    folder = keep_embeddings(plan, store, spec, name, make)
    found: Embeddings = load_numpy(folder / "embeddings.safetensors")["embeddings"]
    return found


def keep_embeddings(
    plan: Plan, store: Store, spec: TrialSpec | None, name: str, make: Callable[[], Embeddings]
) -> Path:
    """The folder of the same in the store, without reading them."""

    def build(folder: Path) -> None:
        save_numpy({"embeddings": make()}, folder / "embeddings.safetensors")

    identity = identity_of_embeddings(plan, spec, name)
    return store.ensure("embeddings", fingerprint(identity, 24), build, identity)


def identity_of_embeddings(plan: Plan, spec: TrialSpec | None, name: str) -> dict[str, object]:
    """What determines the embeddings of set `name` by the model of `spec`, or by the frozen one."""
    ended = None if spec is None else plan.final_weights(spec).key
    return {
        "model": plan.facts.model,
        "data": plan.facts.data,
        "set": name,
        "weights": ended,
        "method": spec.settings.model_dump(mode="json") if spec and spec.base else None,  # what it makes of weights
        "version": 1,
    }


def frozen_and_tuned(plan: Plan, spec: TrialSpec, split: Split, store: Store) -> tuple[Embeddings, Embeddings]:
    """The embeddings of `split` by the frozen model and by that of `spec`, made now, where the sweep's workers compute.
    Raises UserError as `tuned_classifier`."""
    place = Worker.of(plan.config.compute)
    frozen, tuned = frozen_classifier(plan, store), tuned_classifier(plan, spec, store)
    before, after = (embeddings(model, split, place.device, place.loaders) for model in (frozen, tuned))
    return before, after


@torch.inference_mode()
def embeddings(model: Classifier, split: Split, device: torch.device, loaders: int = 0) -> Embeddings:
    """(N, d) float32 embeddings of the images of `split` in its order, not normalised."""
    model = model.to(device).eval()
    batches = np.split(np.arange(len(split.labels)), range(BATCH, len(split.labels), BATCH))
    found = [model.embed(images.to(device)).cpu() for images in ahead(split.images, batches, loaders, device)]
    stacked: Embeddings = torch.cat(found).numpy()
    return stacked
