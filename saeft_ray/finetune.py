"""The training loop: one visible loop for every method, a generator of one report an epoch.

Where a trial runs arrives as a `Place`; nothing here knows of Ray. Every draw (order, view, crop) is a function of
(seed, epoch, sample), so a run resumed from a checkpoint equals an undisturbed one without any saved generator.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from saeft_ray import draws, encoder, monitors
from saeft_ray.config import Train
from saeft_ray.contrastive import Step, Towers, info_nce
from saeft_ray.datasets import Split
from saeft_ray.draws import IntArray
from saeft_ray.encoder import Classifier
from saeft_ray.methods import (
    NOTHING,
    Constants,
    FeaturePenalty,
    LayerPenalty,
    Method,
    ParameterPenalty,
    Regularized,
)
from saeft_ray.methods.captions import Captioned
from saeft_ray.sae import Dictionary

MONITORED = 64  # rows of a batch that monitors look at, so that short epochs stay cheap


@dataclass(frozen=True)
class Place:
    """Where a trial runs: its device, its rank among the workers, how they wrap the model (DDP, say), and the mean of
    a tensor over them."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    mean: Callable[[Tensor], Tensor] = lambda tensor: tensor
    loaders: int = 0


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


class Losses(NamedTuple):
    """One batch through the model."""

    terms: dict[str, Tensor]  # the summands of the loss
    features: Tensor | None = None  # (B, d), moving
    frozen: Tensor | None = None  # (B, d), where the penalty compares features


class State(NamedTuple):
    """Everything a checkpoint holds beside the model: Adam's moments by parameter name, and where to go on."""

    epoch: int
    tensors: dict[str, Tensor]


class Diverged(ArithmeticError):  # noqa: N818 - a result, not an error
    """The loss was not finite: a result of the method, not a fault of the machine."""


def finetune(model: Classifier | Towers, task: Task, place: Place, resume: State | None = None) -> "Training":
    """Trains `model` in place as `task` says; iterate over the result for its epochs.

    With `resume`, `model` must hold the weights saved with that state. Raises Diverged, which names the term.
    """
    return Training(model, task, place, resume)


class Training:
    """An iterator of `Epoch`; `state()` between two epochs is what a checkpoint needs."""

    def __init__(self, model: Classifier | Towers, task: Task, place: Place, resume: State | None):
        model.to(place.device)
        self._towers = model if isinstance(model, Towers) else None
        self.model = model.classifier if isinstance(model, Towers) else model
        self.task, self.place = task, place
        self._dictionary = task.dictionary.to(place.device) if task.dictionary else None
        self._constants = {name: tensor.to(place.device) for name, tensor in task.constants.items()}
        self._sites: list[int] = []
        if isinstance(task.method, LayerPenalty):
            self._sites = task.method.sites(encoder.depth(self.model))
        if isinstance(task.frozen, Classifier):
            task.frozen.to(place.device).eval()
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        names, parameters = zip(*trained.items(), strict=True)
        self._names: tuple[str, ...] = names
        settings = task.train
        self._optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
        self._parameters: tuple[nn.Parameter, ...] = parameters
        self._wrapped = place.wrap(model)
        self._epoch = 0
        if resume is not None:
            self._restore(resume)

    def __iter__(self) -> Iterator[Epoch]:
        task, place = self.task, self.place
        batches = batch_count(len(task.split.labels), task.train.batch_size)
        total = batches * task.train.epochs
        while self._epoch < task.train.epochs:
            began = time.perf_counter()
            self._wrapped.train()
            losses, clipped = _Means(place), torch.zeros((), device=place.device)
            for step, batch in enumerate(_batches(task, self._epoch, place), start=self._epoch * batches):
                rate = learning_rate(step, total, task.train)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                terms = self._losses(batch, self._wrapped).terms
                loss = torch.stack(list(terms.values())).sum()
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                norm = nn.utils.clip_grad_norm_(self._parameters, task.train.clip_norm)
                losses.add(terms)
                clipped += norm > task.train.clip_norm
                if step % 20 == 0 or step % batches == batches - 1:
                    losses.check_finite(self._epoch, step)
                self._optimizer.step()
                if self._towers is not None:
                    assert isinstance(task.method, Captioned)
                    self._towers.follow(task.method, step, total)
            if self._towers is not None:
                self._towers.rebuild_head()
            self._epoch += 1
            means = losses.means()
            watched = self._monitors(batch) if self._epoch == task.train.epochs else {}
            yield Epoch(self._epoch, means, float(clipped) / batches, time.perf_counter() - began, watched)

    def state(self) -> State:
        """Adam's moments and the number of finished epochs."""
        tensors = {}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        return State(self._epoch, tensors)

    def _restore(self, state: State) -> None:
        self._epoch = state.epoch
        for name, parameter in zip(self._names, self._parameters, strict=True):
            self._optimizer.state[parameter] = {
                key: state.tensors[f"{key}.{name}"].to(parameter.device) for key in ("step", "exp_avg", "exp_avg_sq")
            }

    def _losses(self, batch: "Batch", model: nn.Module) -> Losses:
        """Cross-entropy and the penalty's terms on this worker's share of the batch; or what stands in their place."""
        task, device, method = self.task, self.place.device, self.task.method
        images = batch.images.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        if self._towers is not None:
            return Losses(self._contrastive(batch.sample, images, labels, model))
        with encoder.outputs(self.model, self._sites) as h:
            out = model(images)
        terms = {"cross_entropy": cross_entropy(out.logits, labels, label_smoothing=task.train.label_smoothing)}
        f0 = None
        if isinstance(method, FeaturePenalty):
            if isinstance(task.frozen, Classifier):
                with torch.no_grad():
                    f0 = task.frozen.features(images)
            else:
                assert task.frozen is not None
                f0 = torch.from_numpy(task.frozen[batch.sample, batch.view]).to(device, non_blocking=True)
            terms |= method.penalty(out.features, f0, self._dictionary, self._constants)
        elif isinstance(method, LayerPenalty):
            assert isinstance(task.frozen, Classifier)
            with torch.no_grad(), encoder.outputs(task.frozen, self._sites) as h0:
                task.frozen.features(images)
            terms |= method.penalty(h, h0)
        elif isinstance(method, ParameterPenalty):
            assert isinstance(task.frozen, Classifier)
            w, w0 = dict(self.model.encoder.named_parameters()), dict(task.frozen.encoder.named_parameters())
            terms |= method.penalty(w, w0, self._constants)
        return Losses(terms, out.features, f0)

    def _contrastive(self, sample: IntArray, images: Tensor, labels: Tensor, model: nn.Module) -> dict[str, Tensor]:
        """The loss of pairs of image and caption, and the method's terms."""
        task, towers, method = self.task, self._towers, self.task.method
        assert isinstance(method, Captioned)
        assert towers is not None
        words = towers.drawn(labels, draws.uniform(task.seed, "caption", sample, self._epoch, slots=2))
        seen = model(images, *words)
        step = Step(seen, towers.taught(images, *words), labels, towers.projections, self._epoch + 1, task.train.epochs)
        return {"contrastive": info_nce(seen.logits), **method.penalty(step)}

    def _monitors(self, batch: "Batch") -> dict[str, float]:
        """What the penalty does, on one batch and means over the workers; nothing without a penalty."""
        if not isinstance(self.task.method, Regularized):
            return {}
        self.model.eval()
        rows = MONITORED if self.task.method.batch_mean else None  # a part would be another penalty
        losses = self._losses(Batch._make(part[:rows] for part in batch), self.model)
        found = monitors.gradient_norms(losses.terms, self._parameters)
        if self._dictionary is not None and losses.features is not None and losses.frozen is not None:
            found |= monitors.of_codes(losses.features.detach(), losses.frozen, self._dictionary)
        values = self.place.mean(torch.stack(list(found.values()))).tolist()
        return {name: value for name, value in zip(found, values, strict=True) if math.isfinite(value)}


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


def _batches(task: Task, epoch: int, place: Place) -> Iterator[Batch]:
    """This worker's share of every global batch of `epoch`."""
    n, size = len(task.split.labels), task.train.batch_size
    order = draws.permutation(task.seed, "order", n, epoch)
    count = batch_count(n, size)
    shares = [order[i * size : (i + 1) * size][place.rank :: place.world_size] for i in range(count)]
    rendered = _Rendered(task, epoch, shares)
    if place.loaders == 0:
        yield from (rendered[i] for i in range(count))
        return
    loader = torch.utils.data.DataLoader(
        rendered, batch_size=None, num_workers=place.loaders, pin_memory=place.device.type == "cuda"
    )
    yield from loader


class _Rendered(torch.utils.data.Dataset[Batch]):
    """Batches by number; a map-style data set, so that loader processes may render them in any order."""

    def __init__(self, task: Task, epoch: int, shares: list[IntArray]):
        self._task, self._epoch, self._shares = task, epoch, shares

    def __len__(self) -> int:
        return len(self._shares)

    def __getitem__(self, i: int) -> Batch:
        task, index = self._task, self._shares[i]
        view = view_of(task.seed, self._epoch, index, task.views)
        labels = torch.from_numpy(task.split.labels[index])
        return Batch(index, view, task.split.views(index, view, task.view_seed), labels)


class _Means:
    """Running sums of named scalars, left on the device until asked for."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        self._count += 1
        for name, value in terms.items():
            value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def means(self) -> dict[str, float]:
        """Means over steps and workers: every worker gets the same, so all of them diverge together or none does."""
        values = self._place.mean(torch.stack(list(self._sums.values()))) / self._count
        return dict(zip(self._sums, values.tolist(), strict=True))

    def check_finite(self, epoch: int, step: int) -> None:
        bad = [name for name, value in self.means().items() if not math.isfinite(value)]
        if bad:
            raise Diverged(f"{' and '.join(bad)} not finite by step {step} (epoch {epoch + 1})")
