"""Copies of a sweep in the trackers that people use already, made from storage alone: a sweep never waits for one.

A tracker is one file of this room. It looks at what it holds already and adds what is missing, so a copy that was cut
off, for whatever reason, is simply begun again.
"""

import importlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from saeft_ray.errors import Unavailable, UserError
from saeft_ray.mirrors.sweep import Sweep
from saeft_ray.storage.redact import redacted

_log = logging.getLogger(__name__)
PATIENCE = 300.0  # seconds for which a tracker that does not answer is asked again
_LONGEST = 15.0  # between two tries


class Added(NamedTuple):
    """What a tracker holds that it did not before."""

    trials: int = 0
    epochs: int = 0


class Tracker(Protocol):
    """Where a sweep is copied to."""

    def add(self, sweep: Sweep) -> Iterator[Added]:
        """Adds what is missing of `sweep`, and yields after each trial what that was. Raises UserError for a place that
        holds other things."""
        ...

    def is_away(self, error: Exception) -> bool:
        """Whether `error`, which `add` raised, says that the tracker does not answer now."""
        ...


class Kind(NamedTuple):
    """A kind of tracker: its class, in the file of its name in this room, what `--to` gives it, what pip installs."""

    tracker: str
    place: str
    package: str


KINDS = {
    "tensorboard": Kind("TensorBoard", "DIR", "tensorboard"),
    "mlflow": Kind("MLflow", "URI", "mlflow-skinny"),
    "optuna": Kind("Optuna", "URL", "optuna"),
    "wandb": Kind("WandB", "PROJECT", "wandb"),
}
TARGETS = " | ".join(f"{name}:{kind.place}" for name, kind in KINDS.items())


def open_tracker(target: str) -> Tracker:
    """The tracker that `target`, one of `TARGETS`, names. Raises UserError for one that is unknown or not installed."""
    name, _, place = target.partition(":")
    if name not in KINDS or not place.strip():
        raise UserError(f"--to {target}: is not a tracker that is known here; give {TARGETS}")
    kind = KINDS[name]
    try:
        module = importlib.import_module(f"saeft_ray.mirrors.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("saeft_ray"):
            raise
        raise UserError(
            f"--to {name}:…: the module {error.name} is not installed here; install it: pip install {kind.package}"
        ) from error
    opened: Callable[[str], Tracker] = getattr(module, kind.tracker)
    return opened(place)


def copy(sweep: Sweep, tracker: Tracker, patience: float | None = None) -> Added:
    """Brings `tracker` up to `sweep`; returns what was added. One that does not answer is asked again for `patience`
    seconds (else `PATIENCE`). Raises Unavailable after that, and what `Tracker.add` raises."""
    limit = PATIENCE if patience is None else patience
    trials, epochs, heard, wait = 0, 0, time.monotonic(), 0.2
    while True:
        try:
            for added in tracker.add(sweep):
                trials, epochs = trials + added.trials, epochs + added.epochs
                heard, wait = time.monotonic(), 0.2
            return Added(trials, epochs)
        except Exception as error:
            if not tracker.is_away(error):
                raise
            said = redacted(str(error)).strip().splitlines()[0]
            if time.monotonic() - heard + wait > limit:
                raise Unavailable(
                    f"the tracker does not answer ({said}). The sweep is not touched, and what was copied stays; run "
                    "the same command again once it answers: it adds what is missing"
                ) from error
            _log.warning("the tracker does not answer (%s); it is asked again in %.1f s", said, wait)
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST)


def free_name(sweep: Sweep, taken_by: Callable[[str], str | None]) -> str:
    """The name that `sweep` has in a tracker: its own, and with its key behind where another sweep has that name.
    `taken_by` says which key a name belongs to: None if to none, "" if to something else."""
    if taken_by(sweep.name) in (None, sweep.key):
        return sweep.name
    return f"{sweep.name}-{sweep.key}"
