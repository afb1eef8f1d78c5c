"""One trial end to end: (plan, spec, store, place) → reports of its epochs, then its rows.

`python -m saeft_ray.trial STORAGE TRIAL` replays any trial of a sweep and compares its rows with the recorded ones.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from saeft_ray import activations, artifacts, encoder
from saeft_ray.datasets import Split
from saeft_ray.encoder import Classifier
from saeft_ray.evaluate import correct, interpolate
from saeft_ray.finetune import Diverged, Epoch, Place, State, Task, finetune
from saeft_ray.identity import canonical
from saeft_ray.methods import Regularized
from saeft_ray.methods.plain import WiseFT
from saeft_ray.plan import Plan, TrialSpec
from saeft_ray.rows import Row, Status, pack
from saeft_ray.store import Store


class Report(NamedTuple):
    """A finished epoch; `selection` is the accuracy on the selection split where the search stops trials early."""

    epoch: Epoch
    selection: float | None


class Outcome(NamedTuple):
    """What a trial came to. `selection` is None if it failed."""

    rows: list[Row]
    selection: float | None
    status: Status


def run(plan: Plan, spec: TrialSpec, store: Store, place: Place) -> Iterator[Report | Outcome]:
    """Trains and evaluates `spec`; yields a Report after every epoch that it runs and one Outcome at the end.

    A training that was finished before, in this phase or another, is not run again. Divergence is an Outcome with
    status `failed`; anything else that goes wrong is raised. Workers of other ranks than 0 yield an Outcome without rows.
    """
    bench = _Bench(plan, store, place)
    try:
        model, history = bench.frozen(), list[Epoch]()
        if spec.trained is not None:
            for report in bench.train(model, spec, history):
                yield report
        if isinstance(spec.settings, WiseFT):
            assert isinstance(spec.settings.alpha, float)
            model = interpolate(bench.frozen(), model, spec.settings.alpha)
    except Diverged as error:
        yield Outcome(_failed(plan, spec, str(error)) if place.rank == 0 else [], None, "failed")
        return
    if place.rank != 0:
        yield Outcome([], None, "ok")
        return
    rows = _training_rows(plan, spec, history)
    selection = None
    for dataset, role in _evaluated(plan, spec).items():
        split = bench.split(dataset)
        right = correct(model, split, place.device)
        accuracy = float(right.mean())
        selection = accuracy if role == "selection" else selection
        rows.append(
            _row(
                plan, spec, dataset, role, "accuracy", accuracy, n=len(right), examples=split.order, correct=pack(right)
            )
        )
    yield Outcome(rows, selection, "ok")


class _Bench:
    """What a trial works with: data, models and artifacts of one sweep at one place."""

    def __init__(self, plan: Plan, store: Store, place: Place):
        self.plan, self.store, self.place = plan, store, place

    def split(self, name: str) -> Split:
        key = (self.plan.facts.data, name, self.plan.facts.image_size)
        if key not in _SPLITS:
            _SPLITS[key] = self.plan.config.data.split(name, self.plan.facts.image_size)
        return _SPLITS[key]

    def frozen(self) -> Classifier:
        """A fresh copy of the frozen encoder with the zero-shot head."""
        config = self.plan.config
        model = encoder.load(config.model, config.storage.endpoint)
        return model.classifier(artifacts.head(self.plan, self.store)).to(self.place.device)

    def train(self, model: Classifier, spec: TrialSpec, history: list[Epoch]) -> Iterator[Report]:
        """Brings `model` to the end point of `spec`; `history` receives all its epochs."""
        endpoint = self.plan.endpoint(spec)
        if not self.store.has("endpoint", endpoint.key):
            yield from self._train(model, spec, endpoint.key, history)
        else:
            folder = self.store.get("endpoint", endpoint.key)
            model.load_state_dict(load_file(folder / "model.safetensors", device=str(self.place.device)))
            history[:] = _epochs(folder)

    def _train(self, model: Classifier, spec: TrialSpec, key: str, history: list[Epoch]) -> Iterator[Report]:
        plan, place, method = self.plan, self.place, spec.trained
        assert method is not None
        assert spec.seed is not None
        checkpoints = _Checkpoints(self.store, key, plan.config.compute.checkpoint_minutes * 60, place)
        task = Task(
            split=self.split("train"),
            view_seed=plan.view_seed,
            views=plan.config.views,
            train=plan.config.train,
            method=method,
            seed=spec.seed,
            frozen=self._frozen_features(method),
            dictionary=next(
                (artifacts.dictionary(a, plan, self.store) for a in plan.needs(spec) if a.kind == "dictionary"), None
            ),
        )
        state = checkpoints.latest(model, history)
        training = finetune(model, task, place, state)
        early = spec.phase == "search" and plan.config.search.early_stopping != "none"
        for epoch in training:
            history.append(epoch)
            selection = None
            if early and place.rank == 0:
                selection = float(correct(model, self.split("selection"), place.device).mean())
            if epoch.epoch < plan.config.train.epochs:
                checkpoints.offer(model, training.state(), history)
            yield Report(epoch, selection)
        if place.rank == 0 and self._keeps_endpoint(spec):

            def write(folder: Path) -> None:
                save_file(_contiguous(model), folder / "model.safetensors")
                (folder / "history.json").write_text(json.dumps([epoch._asdict() for epoch in history]))

            self.store.ensure("endpoint", key, write, plan.endpoint(spec).identity)
            checkpoints.clear()

    def _frozen_features(self, method: object) -> NDArray[np.float32] | Classifier | None:
        if not isinstance(method, Regularized):
            return None
        if not self.plan.cached:
            return self.frozen().requires_grad_(False)
        return activations.load(artifacts.ensure(self.plan.activations(), self.plan, self.store, self.place.device))

    def _keeps_endpoint(self, spec: TrialSpec) -> bool:
        """End points of confirm trials are kept, and of those that a derived method starts from."""
        return spec.phase == "confirm" or spec.base is not None


_SPLITS: dict[tuple[str, str, int], Split] = {}  # rendered once a process: a reused worker runs many trials


class _Checkpoints:
    """Checkpoints of one training, as artifacts: whole or absent, verified on reading, at most one every `seconds`."""

    def __init__(self, store: Store, key: str, seconds: float, place: Place):
        self._store, self._key, self._seconds, self._place = store, key, seconds, place
        self._last = time.monotonic()

    def latest(self, model: Classifier, history: list[Epoch]) -> State | None:
        """The newest sound checkpoint, loaded into `model`; None if there is none."""
        for name in sorted(self._names(), reverse=True):
            try:
                folder = self._store.get("checkpoint", name)
            except OSError:
                continue
            tensors = load_file(folder / "state.safetensors", device=str(self._place.device))
            model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
            history[:] = _epochs(folder)
            return State(history[-1].epoch, {k: v for k, v in tensors.items() if not k.startswith("model.")})
        return None

    def offer(self, model: Classifier, state: State, history: list[Epoch]) -> None:
        if self._place.rank != 0 or time.monotonic() - self._last < self._seconds:
            return

        def write(folder: Path) -> None:
            tensors = {f"model.{name}": tensor for name, tensor in _contiguous(model).items()}
            save_file(
                tensors | {name: t.contiguous() for name, t in state.tensors.items()}, folder / "state.safetensors"
            )
            (folder / "history.json").write_text(json.dumps([epoch._asdict() for epoch in history]))

        older = self._names()
        self._store.ensure("checkpoint", f"{self._key}-{state.epoch:05d}", write)
        for name in older:
            self._store.remove("checkpoint", name)
        self._last = time.monotonic()

    def clear(self) -> None:
        for name in self._names():
            self._store.remove("checkpoint", name)

    def _names(self) -> list[str]:
        return self._store.keys("checkpoint", f"{self._key}-")


def _contiguous(model: Classifier) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def _epochs(folder: Path) -> list[Epoch]:
    return [Epoch(**epoch) for epoch in json.loads((folder / "history.json").read_text())]


def _evaluated(plan: Plan, spec: TrialSpec) -> dict[str, str]:
    """The splits that a trial of this phase may see, with their roles; test sets in `confirm` alone."""
    return {"selection": "selection", **(plan.config.data.test_sets() if spec.phase == "confirm" else {})}


def _row(plan: Plan, spec: TrialSpec, dataset: str, role: str, metric: str, value: float | None, **more: object) -> Row:
    return Row(
        sweep=plan.config.name,
        phase=spec.phase,
        method=spec.method,
        configuration=spec.configuration,
        settings=canonical(spec.values),
        seed=spec.seed,
        trial=spec.id,
        dataset=dataset,
        role=role,
        metric=metric,
        value=value,
        **more,  # type: ignore[arg-type]
    )


def _failed(plan: Plan, spec: TrialSpec, error: str) -> list[Row]:
    return [
        _row(plan, spec, dataset, role, "accuracy", None, status="failed", error=error)
        for dataset, role in _evaluated(plan, spec).items()
    ]


def _training_rows(plan: Plan, spec: TrialSpec, history: list[Epoch]) -> list[Row]:
    """Numbers about the training itself: the last epoch's loss terms and clip rate, and all its seconds."""
    if not history:
        return []
    last = history[-1]
    numbers = {f"loss.{name}": value for name, value in last.terms.items()}
    numbers |= {"clipped": last.clipped, "seconds": sum(epoch.seconds for epoch in history)}
    return [_row(plan, spec, "train", "train", metric, value) for metric, value in numbers.items()]
