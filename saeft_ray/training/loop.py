"""The training loop: one visible loop for every method, a generator of one report per epoch.

Where a trial runs arrives as a `Worker`; nothing here knows of Ray. Every draw (order, view, crop) is a function of
(seed, epoch, sample), so a run resumed from a checkpoint, after an epoch or within one, equals an undisturbed one
without any saved generator.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saeft_ray import draws
from saeft_ray.datasets import Split
from saeft_ray.draws import IntArray
from saeft_ray.errors import Diverged, UserError
from saeft_ray.methods import NOTHING, Constants, Method, TrainingBatch
from saeft_ray.model import encoder
from saeft_ray.model.encoder import Classifier, Extended
from saeft_ray.sae import Dictionary
from saeft_ray.settings import Train
from saeft_ray.training import monitors
from saeft_ray.training.epoch_means import EpochMeans
from saeft_ray.training.prefetch import ahead
from saeft_ray.training.worker import Worker

MONITORED = 64  # rows of a batch that monitors look at, so that short epochs stay cheap
STEPS_BETWEEN_PAUSES = 20  # steps between two looks at the loss; after each of them a training may pause


class Task(NamedTuple):
    """What is trained: the same for all methods of a sweep but for `method` and what it reads."""

    split: Split
    view_seed: int
    views: int
    train: Train
    method: Method
    seed: int
    frozen: NDArray[np.float32] | Classifier | None  # (N, V, d) activations, or the frozen model
    dictionary: Dictionary | None
    constants: Constants = NOTHING  # what the method prepared


class Epoch(NamedTuple):
    """One finished epoch: means over its steps."""

    epoch: int  # epochs finished, from 1
    terms: dict[str, float]  # the summands of the loss: cross-entropy and the weighted penalty terms
    clipped: float  # share of steps whose gradient was clipped
    seconds: float
    monitors: dict[str, float] = {}  # noqa: RUF012 - of a penalty, on the training's last batch: see `monitors`
    lr: float | None = None  # of its last step
    selection: float | None = None  # accuracy on the selection split, where it was looked at


class Losses(NamedTuple):
    """One batch through the model."""

    terms: dict[str, Tensor]  # the summands of the loss
    embeddings: Tensor | None = None  # (B, d), moving
    frozen: Tensor | None = None  # (B, d), where the penalty compares embeddings


class State(NamedTuple):
    """All that a checkpoint holds except the model: how many epochs are finished, how many steps of the next, Adam's
    moments by parameter name, and the sums of that epoch so far."""

    epoch: int
    step: int
    tensors: dict[str, Tensor]


def finetune(
    model: Classifier | Extended,
    task: Task,
    worker: Worker,
    resume: State | None = None,
    pause: Callable[["Training"], None] = lambda training: None,
) -> "Training":
    """Trains `model` in place as `task` says; iterate over the result for its epochs.

    With `resume`, `model` must hold the weights saved with that state. `pause` is called now and then between two steps
    of an epoch, on all workers at the same step. Raises Diverged, which names the term, UserError for a model or a
    method that cannot be trained on this worker, and what `pause` raises.
    """
    return Training(model, task, worker, resume, pause)


class Training:
    """An iterator of `Epoch`; `state()` in a pause or between two epochs is what a checkpoint needs."""

    def __init__(
        self,
        model: Classifier | Extended,
        task: Task,
        worker: Worker,
        resume: State | None,
        pause: Callable[["Training"], None],
    ):
        _check_parts(model, task, worker)
        model.to(worker.device)
        self._trained = model
        self.model = model.classifier if isinstance(model, Extended) else model
        self.task, self.worker, self._pause = task, worker, pause
        self._dictionary = task.dictionary.to(worker.device) if task.dictionary else None
        self._constants = {name: tensor.to(worker.device) for name, tensor in task.constants.items()}
        self._sites = task.method.sites(encoder.depth(self.model)) if task.method.compares == "layers" else []
        if isinstance(task.frozen, Classifier):
            task.frozen.to(worker.device).eval()
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        names, parameters = zip(*trained.items(), strict=True)
        self._names: tuple[str, ...] = names
        settings = task.train
        self._optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
        self._parameters: tuple[nn.Parameter, ...] = parameters
        if worker.checkpoint_activations:
            encoder.checkpoint_activations(self.model)
            if isinstance(model, Extended):
                model.checkpoint_activations()
        self._wrapped = worker.wrap(model)
        # Only the step is compiled, and `model` stays what it is: its keys, its hooks, its copies, its evaluation.
        compiled = worker.compile and not self._sites
        self._step: nn.Module = torch.compile(self._wrapped) if compiled else self._wrapped  # type: ignore[assignment]
        self._epoch, self._sums = 0, EpochMeans(worker)
        if resume is not None:
            self._restore(resume)

    def __iter__(self) -> Iterator[Epoch]:
        task, worker = self.task, self.worker
        batches = batch_count(len(task.split.labels), task.train.batch_size)
        total = batches * task.train.epochs
        while self._epoch < task.train.epochs:
            self._wrapped.train()
            done, sums = self._sums.steps, self._sums
            began = time.perf_counter()
            for step, batch in enumerate(_batches(task, self._epoch, worker, done), start=self._epoch * batches + done):
                rate = learning_rate(step, total, task.train)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                self._optimizer.zero_grad(set_to_none=True)
                terms = self._gradients(batch)
                norm = nn.utils.clip_grad_norm_(self._parameters, task.train.clip_norm)
                sums.add(terms, norm > task.train.clip_norm)
                last = sums.steps == batches
                if (step % STEPS_BETWEEN_PAUSES == 0 or last) and (bad := sums.not_finite()):
                    raise Diverged(f"{' and '.join(bad)} not finite by step {step} (epoch {self._epoch + 1})")
                self._optimizer.step()
                task.method.after_step(self._trained, step, total)
                if step % STEPS_BETWEEN_PAUSES == 0 and not last:
                    sums.seconds += time.perf_counter() - began
                    self._pause(self)
                    began = time.perf_counter()
            task.method.after_epoch(self._trained)
            self._epoch += 1
            seconds = sums.seconds + time.perf_counter() - began
            watched = self._monitors(batch) if self._epoch == task.train.epochs else {}
            self._sums = EpochMeans(worker)
            yield Epoch(self._epoch, sums.means(), sums.clipped(), seconds, watched, rate)

    def state(self) -> State:
        """Returns what a checkpoint holds except the model. All workers must ask at the same step."""
        tensors = self._sums.tensors()
        for name, parameter in zip(self._names, self._parameters, strict=True):
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        return State(self._epoch, self._sums.steps, tensors)

    def _restore(self, state: State) -> None:
        self._epoch = state.epoch
        self._sums = EpochMeans(self.worker, state.step, state.tensors)
        for name, parameter in zip(self._names, self._parameters, strict=True):
            like = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
            # In the memory format of the weights: the fused optimizer reads them side by side.
            self._optimizer.state[parameter] = {
                key: torch.empty_like(each, requires_grad=False, device=parameter.device).copy_(
                    state.tensors[f"{key}.{name}"]
                )
                for key, each in like.items()
            }

    def _gradients(self, batch: "Batch") -> dict[str, Tensor]:
        """Adds the gradients of this worker's share of the batch, one micro-batch in memory at a time; returns the
        terms of the loss. A mean over the batch is the mean of its parts' means, each weighed by its size."""
        rows = len(batch.labels)
        size = -(-rows // self.worker.accumulate)
        total: dict[str, Tensor] = {}
        for start in range(0, rows, size):
            part = Batch._make(each[start : start + size] for each in batch)
            share = len(part.labels) / rows
            with self._in_sync(start + size >= rows):
                terms = self._losses(part, self._step).terms
                loss = torch.stack(list(terms.values())).sum() * share
                loss.backward()  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                total[name] = total.get(name, 0) + value.detach() * share
        return total

    def _in_sync(self, last: bool) -> AbstractContextManager[Any]:
        """Workers add up their gradients once per step, after the last micro-batch."""
        parallel: Any = self._wrapped
        return nullcontext() if last or not hasattr(parallel, "no_sync") else parallel.no_sync()

    def _losses(self, batch: "Batch", model: nn.Module) -> Losses:
        """The summands of the loss on this worker's share of the batch, as the method has them."""
        task, device, method = self.task, self.worker.device, self.task.method
        images = batch.images.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        inputs = method.inputs(self._trained, labels, batch.sample, task.seed, self._epoch)
        out, h = encoder.with_tokens(self.model, self._sites, lambda: model(images, *inputs))
        f0, h0 = self._frozen_embeddings(batch, images), list[Tensor]()
        frozen = task.frozen if isinstance(task.frozen, Classifier) else None
        if self._sites:
            assert frozen is not None
            with torch.no_grad():
                _, h0 = encoder.with_tokens(frozen, self._sites, partial(frozen.embed, images))
        terms = method.losses(
            TrainingBatch(
                output=out,
                images=images,
                labels=labels,
                inputs=inputs,
                trained=self._trained,
                model=self.model,
                frozen=frozen,
                f0=f0,
                h=h,
                h0=h0,
                dictionary=self._dictionary,
                constants=self._constants,
                label_smoothing=task.train.label_smoothing,
                epoch=self._epoch + 1,
                epochs=task.train.epochs,
            )
        )
        return Losses(terms, None if f0 is None else out.embeddings, f0)

    def _frozen_embeddings(self, batch: "Batch", images: Tensor) -> Tensor | None:
        """(B, d) of the same views, stored or computed now; None where the method does not compare embeddings."""
        frozen = self.task.frozen
        if self.task.method.compares != "embeddings":
            return None
        if isinstance(frozen, Classifier):
            with torch.no_grad():
                return frozen.embed(images)
        assert frozen is not None
        return torch.from_numpy(frozen[batch.sample, batch.view]).to(images.device, non_blocking=True)

    def _monitors(self, batch: "Batch") -> dict[str, float]:
        """Measures what the penalty does, on one batch and means over the workers; nothing without a penalty."""
        if self.task.method.compares == "nothing":
            return {}
        self.model.eval()
        rows = MONITORED if self.task.method.batch_mean else None  # a part would be another penalty
        losses = self._losses(Batch._make(part[:rows] for part in batch), self.model)
        found = monitors.gradient_norms(losses.terms, self._parameters)
        if self._dictionary is not None and losses.embeddings is not None and losses.frozen is not None:
            found |= monitors.of_codes(losses.embeddings.detach(), losses.frozen, self._dictionary)
        values = self.worker.mean(torch.stack(list(found.values()))).tolist()
        return {name: value for name, value in zip(found, values, strict=True) if math.isfinite(value)}


def _check_parts(model: nn.Module, task: Task, worker: Worker) -> None:
    """Raises UserError where a batch that is split, over workers or in time, would be another batch."""
    if worker.world_size * worker.accumulate == 1:
        return
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise UserError(f"{encoder.WHOLE_BATCH}; give compute.workers: 1 and compute.accumulate: 1")
    if not task.method.batch_mean:
        raise UserError("the loss of this method is not a mean over the batch, which must stay whole for it")


def batch_count(n: int, batch_size: int) -> int:
    """Steps of an epoch over `n` images: whole batches only, unless there is not even one."""
    return max(1, n // batch_size)


def learning_rate(step: int, total: int, train: Train) -> float:
    """Linear warm-up over `train.warmup` of the `total` steps, then a cosine to 0."""
    warm = round(train.warmup * total)
    if step < warm:
        return train.lr * (step + 1) / warm
    return 0.5 * train.lr * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def view_of(seed: int, epoch: int, index: IntArray, views: int) -> IntArray:
    """Which view of the pool each image shows in `epoch`: a seed walks every image's pool in an order of its own and
    repeats no view before all were shown."""
    order = np.argsort(draws.uniform(seed, "view", index, slots=views), axis=1, kind="stable")
    return order[:, epoch % views]


class Batch(NamedTuple):
    sample: IntArray
    view: IntArray
    images: Tensor  # uint8 (B, 3, H, W)
    labels: Tensor  # (B,)


def _batches(task: Task, epoch: int, worker: Worker, done: int) -> Iterator[Batch]:
    """This worker's share of every global batch of `epoch` but the first `done`."""
    n, size = len(task.split.labels), task.train.batch_size
    order = draws.permutation(task.seed, "order", n, epoch)
    count = batch_count(n, size)
    shares = [order[i * size : (i + 1) * size][worker.rank :: worker.world_size] for i in range(done, count)]
    yield from ahead(partial(_batch, task, epoch), shares, worker.loaders, worker.device)


def _batch(task: Task, epoch: int, index: IntArray) -> Batch:
    view = view_of(task.seed, epoch, index, task.views)
    labels = torch.from_numpy(task.split.labels[index])
    return Batch(index, view, task.split.views(index, view, task.view_seed), labels)
