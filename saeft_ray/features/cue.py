"""Does something that the classes do not need tell the label? Then fine-tuning can learn that in place of the class.

Groups of frozen embeddings off the span of the zero-shot head's class contrasts (`model.groups`) against the labels, by
Cramér's V. It needs no name of a cue, no label of a group and no shifted image.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from saeft_ray import draws
from saeft_ray.draws import IntArray
from saeft_ray.model import groups
from saeft_ray.orchestration import artifacts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.tuned import embeddings, frozen_classifier
from saeft_ray.records.cue import Cue
from saeft_ray.records.rows import pack
from saeft_ray.stats import cramers_v
from saeft_ray.storage.store import Store
from saeft_ray.training import frozen_embeddings
from saeft_ray.training.worker import Worker

GROUPS = 5  # few: of 20 groups of digit world some are shapes of digits, and V is .5 without any cue
FEWEST, IMAGES = 500, 10_000  # images that groups are found by; 250 of digit world have a V of .11 without a cue


class Found(NamedTuple):
    """Groups of images, their association `v` with the labels, and the commonest group of each class, (C,)."""

    groups: groups.Groups
    v: float | None
    usual: IntArray


def association(x: Tensor, labels: IntArray, head: Tensor, seed: int) -> Found | None:
    """What groups of the frozen embeddings `x` (n, d) tell of `labels` (n,); `head` (C, d) is the zero-shot head. None
    where C classes differ in all directions, so that nothing is left, or where there are too few images."""
    if len(groups.class_span(head)) == head.shape[1] or len(x) < FEWEST:
        return None
    found = groups.fit([x], len(x), head, GROUPS, seed)
    group = found.of(x).cpu().numpy()
    counts = np.zeros((len(head), GROUPS), np.int64)
    np.add.at(counts, (labels, group), 1)
    return Found(found, cramers_v(group, labels), counts.argmax(1))


@dataclass(frozen=True)
class FindCue:
    """Looks for a cue in the training images of a sweep whose frozen embeddings are stored, and marks the images of the
    selection split that go against it. None where nothing is stored or nothing can be said."""

    plan: Plan
    store: Store

    def __call__(self, name: str) -> dict[str, Any] | None:
        """The `Cue` as JSON; `name` is that of the split whose images are marked."""
        plan, store = self.plan, self.store
        if not any(artifact.kind == "activations" for artifact in plan.artifacts()):
            return None
        worker = Worker.of(plan.config.compute)
        stored = frozen_embeddings.load(artifacts.ensure(plan.activations(), plan, store, worker.device))
        chosen = np.sort(draws.permutation(plan.view_seed, "cue images", len(stored))[:IMAGES])
        labels = plan.config.data.split("train", plan.facts.image_size).labels[chosen]
        head = artifacts.head(plan, store)
        found = association(torch.from_numpy(stored[chosen, 0]), labels, head, plan.view_seed)
        if found is None or found.v is None:
            return None
        split = plan.config.data.split(name, plan.facts.image_size)
        x = embeddings(frozen_classifier(plan, store), split, worker.device, worker.loaders)
        against = found.groups.of(torch.from_numpy(x)).numpy() != found.usual[split.labels]
        cue = Cue(
            v=found.v,
            groups=GROUPS,
            images=len(chosen),
            examples=split.example_order,
            n=len(against),
            against=pack(against).hex(),
        )
        return cue._asdict()
