"""What a trial works with: data, models and artifacts of one sweep on one worker; and how it comes to its end point."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from saeft_ray.datasets import Dataset, Split
from saeft_ray.errors import Damaged, Missing
from saeft_ray.methods import NOTHING, Method
from saeft_ray.model.encoder import Classifier, ClipModel
from saeft_ray.orchestration import artifacts, tuned
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.settings import Preprocessing
from saeft_ray.storage.store import Store
from saeft_ray.training import frozen_embeddings
from saeft_ray.training.checkpoints import Checkpoints, contiguous, epochs, write_epochs
from saeft_ray.training.evaluate import correct
from saeft_ray.training.loop import Epoch, Task, Training, finetune
from saeft_ray.training.worker import Worker

_log = logging.getLogger(__name__)
_FROZEN: dict[tuple[str, str, str], torch.Tensor] = {}  # the last sweep's: a reused worker runs many trials


class TrialContext:
    """All that a trial works with: data, models and artifacts of one sweep on one worker."""

    def __init__(self, plan: Plan, store: Store, worker: Worker, replay: bool):
        self.plan, self.store, self.worker, self.replay = plan, store, worker, replay

    def split(self, name: str) -> Split:
        facts, config = self.plan.facts, self.plan.config
        of = _SplitOf(facts.data, name, facts.image_size, facts.preprocessing, config.storage.endpoint, config.data)
        return _split(of)

    def frozen(self) -> Classifier:
        """A fresh copy of the frozen encoder with the zero-shot head."""
        head = artifacts.head(self.plan, self.store)
        return self.clip().classifier(head, self.plan.config.train.precision).to(self.worker.device)

    def frozen_logits(self) -> torch.Tensor:
        """(N, C) logits of the frozen model for the selection split, on the CPU."""
        plan, store = self.plan, self.store

        def embed() -> NDArray[np.float32]:
            model = self.frozen()
            return tuned.embeddings(model, self.split("selection"), self.worker.device, self.worker.loaders)

        of = (plan.head().key, plan.facts.data, plan.config.train.precision)
        if of not in _FROZEN:
            _FROZEN.clear()
            kept = plan.config.train.precision == "fp32" and not self.replay
            found = torch.from_numpy(tuned.kept_embeddings(plan, store, None, "selection", embed) if kept else embed())
            head = artifacts.head(plan, store)
            _FROZEN[of] = torch.nn.functional.normalize(found, dim=-1) @ head.T
        return _FROZEN[of]

    def train(self, model: Classifier, spec: TrialSpec, history: list[Epoch]) -> Iterator[Epoch]:
        """Brings `model` to the end point of `spec`; `history` receives all its epochs."""
        endpoint = self.plan.final_weights(spec)
        folder = None
        if not self.replay:
            with suppress(Missing):
                try:
                    folder = self.store.get("endpoint", endpoint.key)
                except Damaged as error:
                    _log.warning("%s; it is trained again", error)
        if folder is None:
            yield from self._train(model, spec, endpoint.key, history)
        else:
            model.load_state_dict(load_file(folder / "model.safetensors", device=str(self.worker.device)))
            history[:] = epochs(folder)

    def _train(self, model: Classifier, spec: TrialSpec, key: str, history: list[Epoch]) -> Iterator[Epoch]:
        plan, worker, method = self.plan, self.worker, spec.trained
        assert method is not None
        assert spec.seed is not None
        checkpoints = Checkpoints(self.store, key, plan.config.compute.checkpoint_minutes * 60, worker)
        needs = {artifact.kind: artifact for artifact in plan.needs(spec)}
        task = Task(
            split=self.split("train"),
            view_seed=plan.view_seed,
            views=plan.config.views,
            train=plan.config.train,
            method=method,
            seed=spec.seed,
            frozen=self._frozen_side(method),
            dictionary=artifacts.dictionary(needs["dictionary"], plan, self.store) if "dictionary" in needs else None,
            constants=artifacts.constants(needs["constants"], plan, self.store) if "constants" in needs else NOTHING,
        )
        method.start(self, model)
        whole = method.wrap(self, model)
        state = None if self.replay else checkpoints.latest(whole, history)

        def pause(training: Training) -> None:
            if not self.replay:
                checkpoints.offer(whole, training, history)

        training = finetune(whole, task, worker, state, pause)
        early = spec.phase == "search" and plan.config.search.early_stopping != "none"
        cutoffs = dict(spec.cutoffs)

        def ends(epoch: Epoch) -> bool:
            mine = epoch.selection is not None and epoch.selection < cutoffs.get(epoch.epoch, 0)
            return epoch.epoch in cutoffs and any(worker.any(mine))  # rank 0 alone knows its accuracy

        for done, epoch in enumerate(history, start=1):
            if ends(epoch):  # the checkpoint is of another trial of these values, which went on
                del history[done:]
                return
        for epoch in training:
            if early and worker.rank == 0:
                right = correct(model, self.split("selection"), worker.device, loaders=worker.loaders)
                epoch = epoch._replace(selection=float(right.mean()))
            history.append(epoch)
            if ends(epoch):  # asked before a pause: no checkpoint lets it go on
                yield epoch
                return
            if epoch.epoch < plan.config.train.epochs:
                pause(training)
            yield epoch
        if worker.rank == 0 and self._keeps_endpoint(spec) and not self.replay:

            def write(folder: Path) -> None:
                save_file(contiguous(model), folder / "model.safetensors")
                write_epochs(history, folder)

            self.store.save("endpoint", key, write, plan.final_weights(spec).identity)
            checkpoints.clear()

    @property
    def label_smoothing(self) -> float:
        return self.plan.config.train.label_smoothing

    def embeddings(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        stored, device = self._activations(), self.worker.device
        labels = torch.from_numpy(self.split("train").labels).repeat_interleave(stored.shape[1]).to(device)
        for f0 in frozen_embeddings.parts(stored, device):
            yield f0, labels[: len(f0)]
            labels = labels[len(f0) :]

    def clip(self) -> ClipModel:
        return artifacts.clip(self.plan)

    def class_names(self) -> Sequence[str]:
        return self.plan.config.data.class_names()

    def prompts(self) -> Sequence[str]:
        return self.plan.config.data.prompts()

    def _frozen_side(self, method: Method) -> NDArray[np.float32] | Classifier | None:
        """Returns what the penalty compares with: stored activations where they are enough, else the frozen model."""
        if method.compares == "nothing":
            return None
        if method.compares == "embeddings" and self.plan.cached:
            return self._activations()
        return self.frozen().requires_grad_(False)

    def _activations(self) -> NDArray[np.float32]:
        return frozen_embeddings.load(
            artifacts.ensure(self.plan.activations(), self.plan, self.store, self.worker.device)
        )

    def _keeps_endpoint(self, spec: TrialSpec) -> bool:
        """End points of confirm trials are kept, and of those that a derived method starts from."""
        return spec.phase == "confirm" or spec.base is not None


@dataclass(frozen=True)
class _SplitOf:
    """What determines a split and where it is read, and the data set that makes it."""

    fingerprint: str
    name: str
    image_size: int
    preprocessing: Preprocessing
    endpoint: str | None
    data: Dataset = field(compare=False)


@lru_cache(maxsize=128)
def _split(of: _SplitOf) -> Split:
    """Rendered once per process: a reused worker runs many trials."""
    return of.data.split(of.name, of.image_size)
