"""Checkpoints of one training: artifacts of the store, so whole or absent, and verified on reading."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from saeft_ray.errors import Damaged, Missing, Preempted
from saeft_ray.storage.store import Store
from saeft_ray.training.loop import Epoch, State, Training
from saeft_ray.training.worker import Worker

_log = logging.getLogger(__name__)
_SHARE = 50  # a checkpoint that takes a minute is followed by this many without one


class Checkpoints:
    """The checkpoints of the training whose final weights have `key`: one per `seconds` at most; the newest is kept."""

    def __init__(self, store: Store, key: str, seconds: float, worker: Worker):
        self._store, self._key, self._seconds, self._worker = store, key, seconds, worker
        self._due = time.monotonic() + seconds

    def latest(self, model: nn.Module, history: list[Epoch]) -> State | None:
        """The newest sound checkpoint, loaded into `model`; None if there is none."""
        for name in sorted(self._names(), reverse=True):
            try:
                folder = self._store.get("checkpoint", name)
            except Damaged as error:
                _log.warning("%s; training continues from an older checkpoint", error)
                continue
            except Missing:  # removed since it was listed
                continue
            tensors = load_file(folder / "state.safetensors", device=str(self._worker.device))
            model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
            history[:] = epochs(folder)
            step = int(name.removeprefix(f"{self._key}-").partition("-")[2] or 0)
            rest = {k: v for k, v in tensors.items() if not k.startswith("model.")}
            return self._agreed(State(history[-1].epoch if history else 0, step, rest))
        return self._agreed(None)

    def _agreed(self, state: State | None) -> State | None:
        """`state`, if all workers found the same. Raises RuntimeError if they did not."""
        mine = torch.tensor([state.epoch, state.step] if state else [0, 0], device=self._worker.device).double()
        mean = self._worker.mean(mine)
        if not torch.equal(mean, mine):
            raise RuntimeError(
                f"worker {self._worker.rank} found a checkpoint of epoch and step {mine.tolist()}, the workers' mean "
                f"is {mean.tolist()}"
            )
        return state

    def offer(self, model: nn.Module, training: Training, history: list[Epoch]) -> None:
        """Saves a checkpoint if one is due. If a worker must stop, saves one and raises Preempted. Raises Stopped if
        the trial must end for good: nothing will continue it. All workers must offer at the same step."""
        leaving, due = self._worker.heed(self._worker.rank == 0 and time.monotonic() >= self._due)
        if not (leaving or due):
            return
        state = training.state()
        if self._worker.rank == 0:
            began = time.monotonic()
            self._save(model, state, history)
            spent = time.monotonic() - began
            self._due = began + spent + (max(self._seconds, _SHARE * spent) if self._seconds else 0)
        if leaving:
            raise Preempted(f"saved after {state.epoch} epochs and {state.step} steps")

    def _save(self, model: nn.Module, state: State, history: list[Epoch]) -> None:
        def write(folder: Path) -> None:
            tensors = {f"model.{name}": tensor for name, tensor in contiguous(model).items()}
            save_file(
                tensors | {name: t.contiguous() for name, t in state.tensors.items()}, folder / "state.safetensors"
            )
            write_epochs(history, folder)

        name = f"{self._key}-{state.epoch:05d}-{state.step:07d}"
        older = [other for other in self._names() if other < name]
        self._store.save("checkpoint", name, write)
        for other in older:
            self._store.remove("checkpoint", other)

    def clear(self) -> None:
        for name in self._names():
            self._store.remove("checkpoint", name)

    def _names(self) -> list[str]:
        return self._store.keys("checkpoint", f"{self._key}-")


def contiguous(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def epochs(folder: Path) -> list[Epoch]:
    return [Epoch(**epoch) for epoch in json.loads((folder / "history.json").read_text())]


def write_epochs(history: Sequence[Epoch], folder: Path) -> None:
    (folder / "history.json").write_text(json.dumps([epoch._asdict() for epoch in history]))
