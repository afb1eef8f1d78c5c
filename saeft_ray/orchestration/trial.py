"""One trial end to end: (plan, spec, store, worker) → reports of its epochs, then its rows."""

import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray.datasets import Split
from saeft_ray.errors import Diverged, Preempted, Stopped, UserError
from saeft_ray.orchestration import tuned
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.trial_context import TrialContext
from saeft_ray.records.course import Course
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import AGREEMENT, KL, NLL, TESTED, Row, Status, pack
from saeft_ray.records.stops import Asking
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.training.evaluate import beside_frozen, predicted
from saeft_ray.training.loop import Epoch
from saeft_ray.training.worker import Worker

_QUIET = 15.0  # seconds between two signs of life, at least: many short epochs would write more than they compute


class EpochReport(NamedTuple):
    """A finished epoch, and how the trial went so far."""

    epoch: Epoch
    course: Course


class Outcome(NamedTuple):
    """The outcome of a trial. `selection` is None if it failed or was stopped on purpose."""

    rows: list[Row]
    selection: float | None
    status: Status
    course: Course | None = None


def run(
    plan: Plan,
    spec: TrialSpec,
    store: Store,
    worker: Worker,
    replay: bool = False,
    scored: Collection[str] = (),
) -> Iterator[EpochReport | Outcome]:
    """Trains and evaluates `spec`, but for the sets that it was `scored` on; yields an EpochReport after every epoch
    that it runs and one Outcome at the end.

    A training that was finished before, in this phase or another, is not run again, unless this is a `replay`, which
    reads and leaves no weights in the store. Divergence is an Outcome with status `failed`; one with status `stopped`
    follows below one of the spec's `cutoffs`, and without a selection accuracy if `worker` says that the trial must end
    for good. Anything else that goes wrong is raised, and Preempted if `worker` must stop. Ranks other than 0 yield an
    Outcome without rows.
    """
    context, history, began = TrialContext(plan, store, worker, replay), list[Epoch](), time.time()
    try:
        if any(worker.heed()):
            raise Preempted("before it began")
        model = context.frozen()
        if spec.trained is not None:
            for epoch in context.train(model, spec, history):
                yield EpochReport(epoch, _course(worker, began, history))
            if history and history[-1].epoch < plan.config.train.epochs:
                rows = [_stopped(plan, spec, history[-1])] if worker.rank == 0 else []
                yield Outcome(rows, history[-1].selection, "stopped", _course(worker, began, history))
                return
        else:
            spec.settings.start(context, model)
        model = spec.settings.finish(model, context.frozen)
    except (Diverged, Stopped) as error:
        status: Status = "stopped" if isinstance(error, Stopped) else "failed"
        rows = _valueless(plan, spec, status, str(error)) if worker.rank == 0 else []
        yield Outcome(rows, None, status, _course(worker, began, history))
        return
    if worker.rank != 0:
        yield Outcome([], None, "ok", _course(worker, began, history))
        return
    rows = [] if scored else _training_rows(plan, spec, history)
    selection, read_again = None, () if replay else _read_again(plan, spec)
    for dataset, role in _evaluated(plan, spec, scored).items():
        if why := worker.stopped():
            rows = _valueless(plan, spec, "stopped", why, scored)
            yield Outcome(rows, None, "stopped", _course(worker, began, history))
            return
        split = context.split(dataset)
        embedded: list[NDArray[np.float32]] | None = [] if dataset in read_again else None
        logits: list[torch.Tensor] | None = [] if role == "selection" else None
        try:
            answers = predicted(model, split, worker.device, loaders=worker.loaders, embedded=embedded, logits=logits)
        except Diverged as error:
            if spec.trained is None:
                raise UserError(f"model: {error} of {dataset}, and nothing trained it; give other weights") from error
            yield Outcome(_valueless(plan, spec, "failed", f"{error} of {dataset}", scored), None, "failed")
            return
        if embedded:
            tuned.keep_embeddings(plan, store, spec, dataset, partial(np.concatenate, embedded))
        right = answers == split.labels
        rows += _scores(plan, spec, dataset, role, split, right)
        rows += [spec.row(plan.config.name, dataset, role, *more) for more in split.extra_metrics(answers).items()]
        if logits is not None:
            selection = float(right.mean())
            beside = beside_frozen(torch.cat(logits), context.frozen_logits(), split.labels)
            for metric, value in zip((KL, AGREEMENT, NLL), beside, strict=True):
                rows.append(spec.row(plan.config.name, dataset, role, metric, value))
    if history and spec.base is None and selection is not None:
        history[-1] = history[-1]._replace(selection=selection)
    yield Outcome(rows, selection, "ok", _course(worker, began, history))


def _scores(plan: Plan, spec: TrialSpec, dataset: str, role: str, split: Split, right: NDArray[np.bool_]) -> list[Row]:
    """The row of the accuracy on `split`, with a bit for each of its images."""
    about = {"n": len(right), "examples": split.example_order, "correct": pack(right)}
    return [spec.row(plan.config.name, dataset, role, "accuracy", float(right.mean()), **about)]


def recorded(
    plan: Plan, spec: TrialSpec, store: Store, worker: Worker, ledger: Ledger
) -> Iterator[EpochReport | Outcome]:
    """The same as `run`, with signs of life and at the end the rows in the ledger; it ends once somebody asks for that
    in the storage. A trial that has ended is scored on the test sets alone that were added since."""
    before = _before(spec, ledger)
    if before:
        yield from _scored_further(plan, spec, store, worker, ledger, before)
        return
    if worker.rank == 0:
        worker = replace(worker, stopped=_stopped_base(spec, ledger) or Asking(ledger.stops, spec.id))
        _show_life(plan, spec, _course(worker, time.time(), []), ledger)
    shown = time.monotonic()
    for item in run(plan, spec, store, worker):
        if worker.rank == 0 and isinstance(item, Outcome):
            ledger.finish(spec, item.rows, item.course)
        elif worker.rank == 0 and isinstance(item, EpochReport) and time.monotonic() - shown > _QUIET:
            _show_life(plan, spec, item.course, ledger)
            shown = time.monotonic()
        yield item


def _before(spec: TrialSpec, ledger: Ledger) -> list[Row]:
    """The rows of a confirm trial that has ended; none of another, which has nothing to be scored on later."""
    with suppress(FileNotFoundError):
        return ledger.all_rows(spec.id) if spec.phase == "confirm" else []
    return []


def _scored_further(
    plan: Plan, spec: TrialSpec, store: Store, worker: Worker, ledger: Ledger, before: Sequence[Row]
) -> Iterator[EpochReport | Outcome]:
    """The rest of a trial with the rows `before`, on test sets that it has not been scored on. One that failed or
    was stopped on purpose has no number on them either."""
    scored = {row.dataset for row in before}
    value = next((row.value for row in before if row.role == "selection" and row.metric == "accuracy"), None)
    if before[0].status != "ok":
        rows = _valueless(plan, spec, before[0].status, before[0].error or "", scored)
        if worker.rank == 0:
            ledger.add(spec, rows)
        yield Outcome(rows, None, before[0].status)
        return
    for item in run(plan, spec, store, worker, scored=scored):
        if isinstance(item, Outcome):
            if worker.rank == 0:
                ledger.add(spec, item.rows)
            item = item._replace(selection=value)
        yield item


def _stopped_base(spec: TrialSpec, ledger: Ledger) -> Callable[[], str] | None:
    """Why a derived trial ends whose base was stopped on purpose: it would run the training that nobody wants."""
    base = spec.base_trial
    with suppress(OSError):  # as storage that is away asks for nothing
        if base is not None and ledger.stops.of(base) is not None:
            row = ledger.rows(base)[0]
            if row.status == "stopped":
                return lambda: f"it starts from {base}, which was {row.error}"
    return None


def _show_life(plan: Plan, spec: TrialSpec, course: Course, ledger: Ledger) -> None:
    """Says where the trial is, how far, and how its epochs went. What is only to be looked at stops no trial."""
    where = {"node": course.node, "device": course.device, "since": course.began, "at": course.ended}
    epochs = len(course.epochs) if spec.trained else 0
    far = {"epoch": epochs, "epochs": plan.config.train.epochs, "history": course.epochs}
    with suppress(OSError):
        ledger.show_life(spec.id, {**where, **far})


def _course(worker: Worker, began: float, epochs: Sequence[Epoch]) -> Course:
    """How the trial went so far."""
    device = torch.cuda.get_device_name(worker.device) if worker.device.type == "cuda" else worker.device.type
    return Course(socket.gethostname(), device, began, time.time(), [epoch._asdict() for epoch in epochs])


def _evaluated(plan: Plan, spec: TrialSpec, scored: Collection[str] = ()) -> dict[str, str]:
    """The splits that a trial of this phase may see, with their roles, but for those that it was `scored` on; test sets
    in `confirm` and `curves` alone."""
    found = {"selection": "selection", **(plan.config.data.test_sets() if spec.phase in TESTED else {})}
    return {dataset: role for dataset, role in found.items() if dataset not in scored}


def _valueless(plan: Plan, spec: TrialSpec, status: Status, error: str, scored: Collection[str] = ()) -> list[Row]:
    """The rows of a trial that ended without numbers, but for the sets that it was `scored` on."""
    return [
        spec.row(plan.config.name, dataset, role, "accuracy", None, status=status, error=error)
        for dataset, role in _evaluated(plan, spec, scored).items()
    ]


def _stopped(plan: Plan, spec: TrialSpec, last: Epoch) -> Row:
    """The one row of a trial that ended early: what its last epoch was worth."""
    return spec.row(plan.config.name, "selection", "selection", "accuracy", last.selection, status="stopped")


def _read_again(plan: Plan, spec: TrialSpec) -> tuple[str, ...]:
    """The sets whose embeddings are kept for the record of what changed, which reads them in full precision."""
    features = plan.config.features
    if not features.on or spec.phase != "confirm" or spec.trained is None or plan.config.train.precision != "fp32":
        return ()
    return features.of(plan.config.data.test_sets())


def _training_rows(plan: Plan, spec: TrialSpec, history: list[Epoch]) -> list[Row]:
    """Numbers about the training itself: the last epoch's loss terms, monitors and clip rate, and all its seconds."""
    if not history:
        return []
    last = history[-1]
    numbers = {f"loss.{name}": value for name, value in last.terms.items()}
    numbers |= last.monitors | {"clipped": last.clipped, "seconds": sum(epoch.seconds for epoch in history)}
    return [spec.row(plan.config.name, "train", "train", metric, value) for metric, value in numbers.items()]
