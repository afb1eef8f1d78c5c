"""`python -m saeft_ray.preflight SWEEP`: tries all that a sweep needs once, and says what it will cost, before it does.

Run it on a machine like those of the trials. It writes nothing but a small file that it removes from the store.
"""

import argparse
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray import door, draws, sae
from saeft_ray.config import sweep_file
from saeft_ray.config.schema import SweepConfig
from saeft_ray.datasets import Split, Subset
from saeft_ray.errors import Damaged, Unavailable, UserError
from saeft_ray.features.cue import GROUPS, association
from saeft_ray.methods import NOTHING, Constants, Method
from saeft_ray.model import encoder
from saeft_ray.model.encoder import Classifier, ClipModel
from saeft_ray.model.zero_shot import zero_shot_head
from saeft_ray.orchestration.facts import find_facts, in_haste
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.room import check_room
from saeft_ray.orchestration.tuned import embeddings
from saeft_ray.records.cue import in_words
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import TESTED
from saeft_ray.settings import lowest
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.retry import HASTY
from saeft_ray.storage.store import Store
from saeft_ray.training.evaluate import correct
from saeft_ray.training.loop import Task, batch_count, finetune
from saeft_ray.training.worker import Worker

LOOKED_AT = 1_000  # training images that the frozen encoder embeds to look for a cue
SLOW = 2.0  # seconds for three requests to the store, beyond which it is too far away


class Check(NamedTuple):
    """`find` says what it found, or raises UserError with what to do; `needs` are checks without which it is idle."""

    name: str
    find: Callable[["Rehearsal"], str]
    needs: tuple[str, ...] = ()


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 all is well, 1 a check failed, else as `door.guarded`."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.preflight", description="Try what a sweep needs.")
    parser.add_argument("file", help="the sweep file (YAML)")
    parser.add_argument("--steps", type=int, default=20, help="training steps to time for each method (20)")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps {options.steps}: give at least 1")
    return door.guarded(lambda: _check(Rehearsal(sweep_file.load(options.file), options.steps)))


def _check(rehearsal: "Rehearsal") -> int:
    """Prints a line for each check; 1 if one failed."""
    failed: set[str] = set()
    for check in CHECKS:
        if missing := [name for name in check.needs if name in failed]:
            state, words = "skip", f"needs {' and '.join(missing)}"
            failed.add(check.name)
        else:
            state, words = _tried(check, rehearsal)
            failed |= {check.name} if state == "FAIL" else set()
        print(f"{state:5}{check.name:12}" + words.replace("\n", "\n" + " " * 17), flush=True)
    return 1 if failed else 0


def _tried(check: Check, rehearsal: "Rehearsal") -> tuple[str, str]:
    try:
        return "ok", check.find(rehearsal)
    except (UserError, Unavailable, Damaged) as error:
        return "FAIL", redacted(str(error))
    except Exception as error:  # the line must still say which check met it, and the others continue
        print(redacted("".join(traceback.format_exception(error)) + door.bug(error)), file=sys.stderr)
        return "FAIL", redacted(f"{type(error).__name__}: {str(error)[:500]}")


class Rehearsal:
    """The state that the checks share: a sweep's trials, run on this machine with some of its images."""

    def __init__(self, config: SweepConfig, steps: int):
        self.config, self.steps = in_haste(config), steps
        self.peak = 0  # bytes, of the costliest step
        self.seconds: dict[str, float] = {}  # of a step, by method
        self.images_a_second = 0.0  # evaluated, decoding included

    @cached_property
    def plan(self) -> Plan:
        return Plan(self.config, find_facts(self.config))

    @cached_property
    def worker(self) -> Worker:
        """One worker of a trial on this machine; without the others it trains on its share alone."""
        compute = self.config.compute
        if compute.gpus and not torch.cuda.is_available():
            raise UserError(
                f"compute.gpus = {compute.gpus:g}, but torch sees no GPU here; run this where a trial would run: "
                "ray job submit --entrypoint-num-gpus 1 -- python -m saeft_ray.preflight …"
            )
        return Worker.of(compute, world_size=compute.workers)

    @cached_property
    def model(self) -> ClipModel:
        return encoder.load(self.config.model, self.config.storage.endpoint)

    def classifier(self) -> Classifier:
        """The model with an empty head: what a head holds changes neither time nor memory."""
        head = torch.zeros(self.plan.facts.classes, self.plan.facts.width)
        return self.model.classifier(head, self.config.train.precision)

    def train(self, method: Method) -> float:
        """Seconds of a step of the configured batch: the mean of `steps`, by the training loop itself, after as many
        to warm up."""
        train = self.config.train.model_copy(update={"epochs": 2})
        split = _first(
            self.plan.config.data.split("train", self.plan.facts.image_size), self.steps * self.config.train.batch_size
        )
        frozen, dictionary, constants = self._compared(method, split)
        seed = self.plan.seeds("search")[0]
        task = Task(split, self.plan.view_seed, 1, train, method, seed, frozen, dictionary, constants)
        *_, last = finetune(self.classifier(), task, self.worker)
        return last.seconds / batch_count(len(split.labels), train.batch_size)

    def _compared(
        self, method: Method, split: Split
    ) -> tuple[NDArray[np.float32] | Classifier | None, sae.Dictionary | None, Constants]:
        """Returns what a penalty compares with: embeddings of the first images, in place of all."""
        if method.compares == "nothing":
            return None, None, NOTHING
        model = self.classifier().to(self.worker.device).eval().requires_grad_(False)
        index = np.arange(min(len(split.labels), 256))
        with torch.inference_mode():
            x = model.embed(split.views(index, np.zeros_like(index), 0).to(self.worker.device)).float().cpu().numpy()
        dictionary = sae.random(x[:, None], self.config.dictionary, 0) if method.dictionary_kind else None
        sample = SampleOfFrozen(self, split, x, dictionary.to(self.worker.device) if dictionary else None)
        constants = method.prepare(sample) if method.has_constants else NOTHING
        if method.compares != "embeddings":
            return model, None, constants
        stored = np.resize(x, (len(split.labels), 1, x.shape[1])) if self.plan.cached else model
        return stored, dictionary, constants


@dataclass(frozen=True)
class SampleOfFrozen:
    """The frozen side (`methods.Frozen`) as a few images show it: `stored` (n, d) are their embeddings."""

    rehearsal: Rehearsal
    split: Split
    stored: NDArray[np.float32]
    dictionary: sae.Dictionary | None

    @property
    def seed(self) -> int:
        return self.rehearsal.plan.view_seed

    def activations(self) -> Sequence[torch.Tensor]:
        return [torch.from_numpy(self.stored).to(self.rehearsal.worker.device)]

    def labels(self) -> torch.Tensor:
        return torch.from_numpy(self.split.labels[: len(self.stored)])

    def model(self) -> Classifier:
        return self.rehearsal.classifier().to(self.rehearsal.worker.device)

    def images(self) -> Split:
        return self.split

    def contexts(self) -> torch.Tensor:
        facts, device = self.rehearsal.plan.facts, self.rehearsal.worker.device
        return torch.zeros(facts.templates, facts.width, device=device)


def _first(split: Split, n: int) -> Subset:
    """The first `n` images of `split`."""
    return Subset(split, np.arange(min(n, len(split.labels))))


# Checks, in the order in which they are tried ----------------------------------------------------------------------


def credentials(rehearsal: Rehearsal) -> str:
    url = rehearsal.config.storage.url
    if not url.startswith(("s3://", "s3a://")):
        return f"none needed for {url}"
    import botocore.session

    found = botocore.session.get_session().get_credentials()
    if found is None:
        raise UserError("none found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role")
    return f"from {found.method}"


def bucket(rehearsal: Rehearsal) -> str:
    store = Store(rehearsal.config.storage.url, endpoint=rehearsal.config.storage.endpoint, waits=HASTY)
    store.check_writable()
    took = []
    for _ in range(3):
        began = time.perf_counter()
        store.check_writable()
        took.append(time.perf_counter() - began)
    if min(took) > SLOW:
        raise UserError(
            f"{store.url}: a small file took {min(took):.1f} s to be written, read and removed; use a bucket in the "
            "region of the machines"
        )
    return f"{store.url}: a small file is written, read and removed in {min(took) * 1000:.0f} ms"


def ray(rehearsal: Rehearsal) -> str:
    try:
        from saeft_ray.on_ray.survey import survey
    except ModuleNotFoundError:
        return "not installed; the sweep runs with --local alone"
    return survey(rehearsal.config)


def data(rehearsal: Rehearsal) -> str:
    plan = rehearsal.plan
    sizes = ", ".join(f"{name} {count:,}" for name, count in plan.facts.sizes.items())
    found = f"{plan.facts.classes:,} classes; images: {sizes}; fingerprint {plan.facts.data[:12]}"
    return "\n".join([found, *plan.facts.notes])


def weights(rehearsal: Rehearsal) -> str:
    model = rehearsal.config.model
    parameters = sum(parameter.numel() for parameter in rehearsal.model.clip.parameters())
    named, seen = model.pretrained or "its own weights", rehearsal.model.preprocessing
    return (
        f"{model.arch}, {named}: {parameters / 1e6:.1f} million parameters, all finite; pictures "
        f"{seen.resize_mode}, {seen.interpolation}, mean {seen.mean}, deviation {seen.std}"
    )


def cue(rehearsal: Rehearsal) -> str:
    """Whether a feature that the classes do not need tells the label, by some of the training images."""
    plan, worker, model = rehearsal.plan, rehearsal.worker, rehearsal.model
    head = zero_shot_head(model, plan.config.data.class_names(), plan.config.data.prompts())
    split = plan.config.data.split("train", plan.facts.image_size)
    index = np.sort(draws.permutation(plan.view_seed, "cue images", len(split.labels))[:LOOKED_AT])
    x = embeddings(model.classifier(head), Subset(split, index), worker.device, worker.loaders)
    found = association(torch.from_numpy(x), split.labels[index], head, plan.view_seed)
    if found is None or found.v is None:
        return "cannot be looked for: the classes span all directions of the embeddings, or there are too few images"
    return in_words(found.v, GROUPS, len(index))


def memory(rehearsal: Rehearsal) -> str:
    """Trains a few steps of every method, and keeps their times for `throughput`."""
    worker, train = rehearsal.worker, rehearsal.config.train
    whole = torch.cuda.get_device_properties(worker.device).total_memory if worker.device.type == "cuda" else 0
    measured = dict(_measurable(rehearsal.config))
    for label, method in measured.items():
        try:
            rehearsal.seconds[label] = rehearsal.train(method)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{label}: a step of train.batch_size = {train.batch_size} wants "
                f"more than the {whole / 1e9:.0f} GB of this GPU; raise compute.workers or compute.accumulate, "
                "or set compute.checkpoint_activations: true"
            ) from error
        rehearsal.peak = (
            torch.cuda.max_memory_allocated() if whole else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
    left = [label for label, method in rehearsal.config.methods.items() if method.trains and label not in measured]
    aside = f"; not tried: {', '.join(left)}" if left else ""
    share = f" of {whole / 1e9:.0f} GB" if whole else ""
    return f"a batch of {train.batch_size} takes {rehearsal.peak / 1e9:.1f} GB{share} at the peak{aside}"


def throughput(rehearsal: Rehearsal) -> str:
    batch = rehearsal.config.train.batch_size
    split = _first(rehearsal.plan.config.data.split("selection", rehearsal.plan.facts.image_size), 2048)
    model = rehearsal.classifier()
    correct(model, _first(split, 64), rehearsal.worker.device)
    began = time.perf_counter()
    correct(model, split, rehearsal.worker.device)
    rehearsal.images_a_second = len(split.labels) / (time.perf_counter() - began)
    lines = [f"{label} {batch / seconds:,.0f}" for label, seconds in rehearsal.seconds.items()]
    return f"images per second: {', '.join(lines)}; evaluation {rehearsal.images_a_second:,.0f}"


def cost(rehearsal: Rehearsal) -> str:
    plan, compute = rehearsal.plan, rehearsal.config.compute
    unit, devices = ("GPU", compute.gpus * compute.workers) if compute.gpus else ("CPU", compute.cpus * compute.workers)
    at_once = compute.concurrent or 1
    lines = []
    for name, seconds, bytes_ in _phases(rehearsal):
        hours = seconds / 3600
        size = f", {bytes_ / 1e9:,.2f} GB kept" if bytes_ else ""
        busy = min(at_once, plan.searched_at_once or 1) if name == "search" else at_once
        lines.append(f"{name}: {hours / busy:,.2f} hours, {hours * devices:,.2f} {unit}-hours{size}")
    store = Store(rehearsal.config.storage.url, endpoint=rehearsal.config.storage.endpoint, waits=HASTY)
    check_room(plan, store, Ledger(store, rehearsal.config.name))
    one = "trial" if at_once == 1 else "trials"
    lines.append(f"with {at_once} {one} at once and nothing lost; every trial counted, dictionaries and heads not")
    return "\n".join([*lines, *_savings(plan)])


CHECKS = (
    Check("credentials", credentials),
    Check("bucket", bucket, ("credentials",)),
    Check("ray", ray, ("bucket",)),
    Check("data", data),
    Check("weights", weights),
    Check("cue", cue, ("data", "weights")),
    Check("memory", memory, ("data", "weights")),
    Check("throughput", throughput, ("memory",)),
    Check("cost", cost, ("throughput",)),
)


# Details -------------------------------------------------------------------------------------------------------------


def _measurable(config: SweepConfig) -> Iterator[tuple[str, Method]]:
    """The methods that train, each with its open settings at the low end; what trains a text tower too is not tried."""
    for label, method in config.methods.items():
        if method.trains and not method.trains_text:
            yield label, method.with_values({name: lowest(value) for name, value in method.open_values().items()})


def _phases(rehearsal: Rehearsal) -> Iterator[tuple[str, float, int]]:
    """(phase, seconds of one trial after the other, bytes that stay)."""
    plan, rate = rehearsal.plan, rehearsal.images_a_second
    sizes, artifacts = plan.facts.sizes, plan.artifacts()
    views = any(artifact.kind == "activations" for artifact in artifacts) * sizes["train"] * plan.pool
    yield "artifacts", views / rate, sum(artifact.bytes or 0 for artifact in artifacts)
    step = sum(rehearsal.seconds.values()) / len(rehearsal.seconds) if rehearsal.seconds else 0.0
    trainings, counts = dict(plan.trainings()), plan.counts()
    model = sum(p.numel() * p.element_size() for p in rehearsal.classifier().parameters())
    for phase, count in counts.items():
        seen = sum(sizes.values()) - sizes["train"] if phase in TESTED else sizes["selection"]
        seconds = trainings[phase] * plan.steps * step + count * seen / rate
        yield phase, seconds, trainings[phase] * model if phase == "confirm" else 0


def _savings(plan: Plan) -> Iterator[str]:
    """Says which of the counted trials may not run."""
    config = plan.config
    if config.search.early_stopping == "asha":
        epochs, kept, share, begun = config.train.epochs, 0.0, 1.0, 0
        while begun < epochs:  # half of the trials end at epochs 1, 2, 4, …
            end = min(max(2 * begun, 1), epochs)
            kept, share, begun = kept + share * (end - begun), share / 2, end
        yield f"early stopping may save up to {1 - kept / epochs:.0%} of search"
    if until := config.confirm.until:
        yield f"a method decided at the first look saves {1 - until.min / until.max:.0%} of its seeds in confirm"


if __name__ == "__main__":
    sys.exit(main())
