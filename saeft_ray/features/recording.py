"""Work that may be done elsewhere: each class holds what it needs, can be pickled, and is called with one thing.

What a user can cause comes back as a sentence and is not raised: one trial that is gone leaves the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

import numpy as np
import torch

from saeft_ray.errors import UserError
from saeft_ray.features import stability
from saeft_ray.features.activity import Ints, Matrix, activity, counts
from saeft_ray.features.codes import stacked
from saeft_ray.features.compute import TrialRecord, codes_of, embeddings_of, frozen_codes, record_of_trial, sets_of
from saeft_ray.features.examples import examples_of
from saeft_ray.features.readers import Kind, dictionary_of, reader
from saeft_ray.orchestration import artifacts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.training.worker import Worker

T = TypeVar("T")
R = TypeVar("R")
Self = TypeVar("Self")


def or_sentence(act: Callable[[Self, T], R]) -> Callable[[Self, T], R | str]:
    """`act`, with a user's mistake returned as its sentence."""

    @wraps(act)
    def told(self: Self, thing: T) -> R | str:
        try:
            return act(self, thing)
        except UserError as error:
            return str(error)

    return told


@dataclass(frozen=True)
class Prepare:
    """Makes what all records share: the dictionaries of some kinds, and the frozen embeddings."""

    plan: Plan
    store: Store

    def __call__(self, kinds: tuple[Kind, ...]) -> list[str]:
        device, said = device_of(self.plan), []
        for name in sets_of(self.plan):
            embeddings_of(self.plan, self.store, None, name, device)
            examples_of(self.plan, self.store, name)
        for kind in kinds:
            try:
                dictionary_of(reader(self.plan, kind), self.plan, self.store, device)
            except UserError as error:
                said.append(str(error))
        return said


@dataclass(frozen=True)
class Record:
    """The record of a trial through a reader, or the sentence that says why there is none."""

    plan: Plan
    store: Store

    @or_sentence
    def __call__(self, thing: tuple[TrialSpec, Kind]) -> TrialRecord:
        return record_of_trial(self.plan, self.store, *thing, device_of(self.plan))


@dataclass(frozen=True)
class Find:
    """(2, F) whether the SAE of another seed holds each of the `features` (F,) of the trained one, by its direction and
    by its activations; trained if need be."""

    plan: Plan
    store: Store
    features: Ints

    @or_sentence
    def __call__(self, number: int) -> Ints:
        device = device_of(self.plan)
        own = dictionary_of(reader(self.plan, "trained"), self.plan, self.store, torch.device("cpu"))
        other = artifacts.dictionary(self.plan.dictionary("trained", number), self.plan, self.store, device)
        its = activity(*codes_of(other, self.plan, self.store, None, device))
        active, stranger = self._active("trained"), self._active("random")
        atoms = own.atoms.numpy()[self.features]
        by_direction = stability.held(atoms, other.atoms.cpu().numpy()[counts(its) > 0])
        by_activity = stability.held_active(active[:, self.features], its, stranger)
        return np.stack([by_direction, by_activity]).astype(np.int64)

    def _active(self, kind: Kind) -> Matrix:
        """(N, D) sparse magnitudes of the frozen codes through this reader."""
        read, device = reader(self.plan, kind), device_of(self.plan)
        return activity(
            *stacked([frozen_codes(self.plan, self.store, read, name, device) for name in sets_of(self.plan)])
        )


def device_of(plan: Plan) -> torch.device:
    """Where a worker of the sweep computes; the CPU on a machine without its accelerator, such as a head node."""
    device = Worker.of(plan.config.compute).device
    return device if device.type == "cpu" or torch.cuda.is_available() else torch.device("cpu")
