"""Scores what trials of the confirm phase ended in, on images that their sweep did not ask about, or asked before."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from saeft_ray.datasets import Split
from saeft_ray.datasets.images.new_folder import new_folder
from saeft_ray.draws import IntArray
from saeft_ray.errors import UserError
from saeft_ray.model.encoder import Classifier
from saeft_ray.orchestration import tuned
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.trial_context import TrialContext
from saeft_ray.records.evaluations import Evaluations
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import pack
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.store import Store
from saeft_ray.training.evaluate import predicted
from saeft_ray.training.worker import Worker


class Images(NamedTuple):
    """Images to score; `held` of `among` classes are theirs, and those `among` can be predicted."""

    name: str
    split: Split
    fingerprint: str
    held: int
    among: int


class Scored(NamedTuple):
    """The rows of a trial (`evaluations.SCHEMA`); `before`: they were there already, and nothing was computed."""

    spec: TrialSpec
    rows: pa.Table
    before: bool


def images_of(plan: Plan, data: str) -> Images:
    """A set of the sweep by its name, or the folder of class folders or shards at the path or URL `data`.

    Raises UserError for what is neither, a class that the sweep has not, or a set whose files have changed.
    """
    known, classes = ["selection", *plan.config.data.test_sets()], plan.facts.classes
    if data not in known:
        try:
            folder = new_folder(data, plan.config.data, plan.facts.image_size)
        except UserError as error:
            raise UserError(f"{error}\nDATA is a folder of class folders or shards, or {', '.join(known)}") from error
        return Images(folder.place, folder.split, folder.fingerprint, folder.held, classes)
    split = tuned.split_of(plan, data)
    if plan.config.data.fingerprint() != plan.facts.data:
        raise UserError(f"{data}: the data have changed since the sweep ran; give the folder of what is there now")
    groups = split.class_groups
    among = classes if groups is None else len(np.unique(groups[groups >= 0]))
    identity = fingerprint({"data": plan.facts.data, "set": data}, 24)
    return Images(data, split, identity, len(np.unique(split.labels)), among)


def evaluate(plan: Plan, ledger: Ledger, store: Store, specs: Sequence[TrialSpec], images: Images) -> Iterator[Scored]:
    """Scores each of `specs` on `images` and keeps its rows beside those of the sweep; a trial that has been scored on
    these images is not scored again.

    Raises UserError for a trial that is not of the confirm phase, or whose weights are not in the store.
    """
    for spec in specs:
        if spec.phase != "confirm":
            raise UserError(
                f"{spec.id}: is a trial of the phase {spec.phase}, which chooses values and never sees a test set; "
                "give one of the phase confirm"
            )
    kept = Evaluations(ledger.url, store.endpoint)
    worker = Worker.of(plan.config.compute)
    for spec in specs:
        if (rows := kept.of(spec.id, images.fingerprint)) is not None:
            yield Scored(spec, rows, before=True)
        else:
            answers = predicted(_ended(plan, spec, store, worker), images.split, worker.device, loaders=worker.loaders)
            yield Scored(spec, kept.keep(spec.id, images.fingerprint, _rows(spec, images, answers)), before=False)


def named(ledger: Ledger, trial: str) -> TrialSpec:
    """The trial of this name. Raises UserError if there is none."""
    try:
        return ledger.spec(trial)
    except FileNotFoundError:
        raise UserError(ledger.no_trial(trial)) from None


def finished(plan: Plan, ledger: Ledger, *methods: str) -> list[tuple[TrialSpec, float]]:
    """The confirm trials that ended well, method by method in the order of their seeds, each with its selection
    accuracy. Raises UserError if a method has none, or is not there."""
    results, asked, found = ledger.results("confirm"), ledger.asked("confirm"), list[tuple[TrialSpec, float]]()
    for method in methods:
        if method not in plan.labels:
            raise UserError(f"{ledger.url}: has no method {method!r}; its methods are {', '.join(plan.labels)}")
        specs = [spec for spec in asked if spec.method == method]
        ended = [(spec, score) for spec in specs if (score := results.get(spec.id)) is not None]
        if not ended:
            raise UserError(f"{ledger.url}: no confirm trial of {method} has ended well yet; run the sweep")
        found += ended
    return found


def best(plan: Plan, ledger: Ledger, method: str) -> tuple[TrialSpec, str]:
    """The confirm trial of `method` with the highest selection accuracy, the earlier of equals, and why in words: a
    test set must not choose, or its accuracy would no longer say what new images would."""
    found = finished(plan, ledger, method)
    spec, score = max(found, key=lambda each: each[1])
    if len(found) == 1:
        return spec, f"{spec.id}: the one confirm trial of {method}"
    return spec, (
        f"{spec.id}: of the {len(found)} confirm trials of {method} that with the highest accuracy on the selection "
        f"split, {100 * score:.2f} %; no test set had a say"
    )


def _ended(plan: Plan, spec: TrialSpec, store: Store, worker: Worker) -> Classifier:
    """What the trial itself was scored with."""
    if spec.trained is not None:
        model = tuned.tuned_classifier(plan, spec, store)
        model.precision = plan.config.train.precision
        return model
    context = TrialContext(plan, store, worker, replay=True)
    model = context.frozen()
    spec.settings.start(context, model)
    return spec.settings.finish(model, context.frozen)


def _rows(spec: TrialSpec, images: Images, answers: IntArray) -> list[dict[str, object]]:
    right = answers == images.split.labels
    same = {
        "method": spec.method,
        "trial": spec.id,
        "configuration": spec.configuration,
        "seed": spec.seed,
        "dataset": images.name,
        "images": images.fingerprint,
        "held": images.held,
        "among": images.among,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    scored = {"n": len(right), "examples": images.split.example_order, "correct": pack(right)}
    rows: list[dict[str, object]] = [{**same, **scored, "metric": "accuracy", "value": float(right.mean())}]
    for metric, value in images.split.extra_metrics(answers).items():
        rows.append({**same, "metric": metric, "value": value})
    return rows
