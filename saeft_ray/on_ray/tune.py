"""One phase is one Tune experiment: Tune asks our queue for trials, places them, retries them and stops them early.

Tune's own state is thrown away afterwards. What must survive is in the ledger, written by the trials themselves.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper

from saeft_ray.errors import Unfinished, UserError
from saeft_ray.on_ray import preemption
from saeft_ray.on_ray.failures import lost_by
from saeft_ray.on_ray.train import final, train_on_workers
from saeft_ray.orchestration.failures import Attempts, last_line, short_traceback
from saeft_ray.orchestration.phases import Watcher
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.search import TrialQueue
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.storage.temporary import scratch

_log = logging.getLogger(__name__)
# Pages of tracebacks of trials that go on; what matters of them is told here in a line, or stands in the results.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def run_phase(
    queue: TrialQueue, plan: Plan, store: Store, ledger: Ledger, watcher: Watcher, signals: StopSignals
) -> None:
    """Runs all trials of `queue`; once `signals` is given, only until those that run have left. Raises Unfinished, after
    all others have ended, if trials could not be run."""
    compute = plan.config.compute
    dealer = _QueueSearcher(queue, ledger, watcher, signals)
    alone = compute.workers == 1
    need = {"CPU": compute.cpus, "GPU": compute.gpus} if alone else _driver_resources()
    early = queue.phase == "search" and plan.config.search.early_stopping == "asha"
    with scratch("tune") as folder:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_trial, plan=plan, store=store, ledger=ledger), need),
            tune_config=tune.TuneConfig(
                metric="selection",
                mode="max",
                search_alg=dealer,
                scheduler=_asha(plan) if early else None,
                num_samples=-1,  # the dealer knows when there are no more, and queues again what was lost
                max_concurrent_trials=_concurrent(plan),
                # A nested trainer blocks where Tune cannot take its process back (docs/ray.md 0.3).
                reuse_actors=alone,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=queue.phase,
                storage_path=folder,
                verbose=0,
                callbacks=[_ErrorListener(dealer)],
                stop=_Stop(dealer),
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        with _heard(dealer):
            tuner.fit()
    if signals.stop_requested:
        preemption.request_stop(False)
    dealer.check()
    left = queue.remaining
    if left and not signals.stop_requested:
        raise Unfinished(f"Tune ended the {queue.phase} phase with {left} trials not run; the same command goes on")


class _QueueSearcher(Searcher):  # type: ignore[misc]
    """Stands between Tune and a queue. A trial that failed is a trial of Tune's that has ended; if it is to be tried
    again, it is dealt again."""

    def __init__(self, queue: TrialQueue, ledger: Ledger, watcher: Watcher, signals: StopSignals):
        super().__init__(metric="selection", mode="max")
        self._queue, self._ledger, self._watcher, self._signals = queue, ledger, watcher, signals
        self._running: dict[str, TrialSpec] = {}
        self._again: list[tuple[float, TrialSpec]] = []  # not before this time
        self._attempts = Attempts()
        self._told = False
        self.errors: dict[str, BaseException] = {}  # the last one of each of Tune's trials
        self.halted: Unfinished | None = None

    @property
    def over(self) -> bool:
        """Whether no trial begins any more."""
        return self.halted is not None or self._signals.stop_requested

    def pass_on(self) -> None:
        """Tells the trials that run of a signals."""
        if self._signals.stop_requested and not self._told:
            self._told = True
            preemption.request_stop(True)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        spec = self._next()
        if spec is None:
            done = not (self._queue.remaining or self._running or self._again)
            return str(Searcher.FINISHED) if done or self.over else None
        self._running[trial_id] = spec
        return {"spec": spec.model_dump_json()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error or self.halted or trial_id not in self._running:  # `failed` hears of errors, with their cause
            return
        spec, result = self._running.pop(trial_id), result or {}
        selection = None if result.get("status") == "failed" else result.get("selection")
        if "status" not in result:
            self._ledger.stop(spec, selection)
        self._end(spec, selection)

    def failed(self, trial_id: str) -> None:
        """A trial of Tune's has ended with an error."""
        spec, error = self._running.pop(trial_id), self.errors.pop(trial_id)
        with suppress(FileNotFoundError):  # it died after its rows were written, before Tune heard of them
            (value,) = (row.value for row in self._ledger.rows(spec.id) if row.role == "selection")
            self._end(spec, value)
            return
        if self._signals.stop_requested:  # it left, or died on its way out
            return
        cause = lost_by(error)
        try:
            wait = self._attempts.wait(spec.id, cause, error)
        except Unfinished as reason:
            self.halted = reason
            return
        if wait is None:
            self._ledger.give_up(spec, short_traceback(error, getattr(error, "traceback_str", None)))
            self._end(spec, None)
        else:
            _log.warning("%s: %s (%.120s); tried again in %.0f s", spec.id, cause, last_line(error), wait)
            self._again.append((time.monotonic() + wait, spec))

    def check(self) -> None:
        """Raises Unfinished if trials could not be run."""
        if self.halted:
            raise self.halted
        self._attempts.check(self._queue.phase)

    def save(self, checkpoint_path: str) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return Searcher, ()  # Tune pickles its searcher for restores that we never make

    def _next(self) -> TrialSpec | None:
        if self.over:
            return None
        for position, (due, lost) in enumerate(self._again):
            if due <= time.monotonic():
                del self._again[position]
                return lost
        spec = self._queue.ask() if self._queue.remaining else None
        if spec is not None:
            self._ledger.queue(spec)
            self._watcher.started(spec)
        return spec

    def _end(self, spec: TrialSpec, selection: float | None) -> None:
        self._queue.tell(spec, selection)
        self._watcher.ended(spec, selection)


class _ErrorListener(tune.Callback):  # type: ignore[misc]
    """Tells the dealer that a trial failed when its error is known, and gives it moments to act."""

    def __init__(self, dealer: _QueueSearcher):
        self._dealer = dealer

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._dealer.failed(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._dealer.pass_on()

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.Callback, ()


@contextmanager
def _heard(dealer: _QueueSearcher) -> Iterator[None]:
    """While Tune runs, the dealer hears why a trial failed: Tune tells the trial and, of many an error, nobody else."""
    told = Trial.handle_error

    def handle_error(trial: Any, error: BaseException | None = None) -> None:
        dealer.errors[trial.trial_id] = error or RuntimeError("Tune tells no error")
        told(trial, error)

    Trial.handle_error = handle_error
    try:
        yield
    finally:
        Trial.handle_error = told


class _Stop(tune.Stopper):  # type: ignore[misc]
    """Ends all trials once the dealer has halted."""

    def __init__(self, dealer: _QueueSearcher):
        self._dealer = dealer

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._dealer.halted is not None

    def __reduce__(self) -> tuple[Any, ...]:
        return NoopStopper, ()


def _trial(config: dict[str, Any], plan: Plan, store: Store, ledger: Ledger) -> None:
    """The body of a Tune trial: runs it here, or on workers of its own, and reports how it ended."""
    spec = _spec(config)
    if plan.config.compute.workers > 1:
        tune.report(train_on_workers(plan, spec, store, ledger))
        return
    from saeft_ray.orchestration import trial
    from saeft_ray.training.worker import Worker

    worker = Worker.of(plan.config.compute, must_stop=preemption.must_stop)
    for item in trial.run(plan, spec, store, worker):
        if isinstance(item, trial.Outcome):
            ledger.finish(spec, item.rows)
            tune.report(final(item.selection, item.status, plan))
        elif item.selection is not None and item.epoch.epoch < plan.config.train.epochs:
            tune.report({"selection": item.selection, "epoch": item.epoch.epoch})


def _name(trial: Any) -> str:
    """Tune's name of a trial: ours, and Tune's own number for folders."""
    return f"{_spec(trial.config).id}-{trial.trial_id}"


def _spec(config: dict[str, Any]) -> TrialSpec:
    """What `_QueueSearcher.suggest` put into Tune's config."""
    return TrialSpec.model_validate_json(config["spec"])


def _asha(plan: Plan) -> ASHAScheduler:
    return ASHAScheduler(time_attr="epoch", max_t=plan.config.train.epochs, grace_period=1, reduction_factor=2)


def _driver_resources() -> dict[str, float]:
    """A driver only waits for its workers: any share of a CPU that it held could be the one they wait for. It stays on
    the head, which is not a spot machine."""
    return {"CPU": 0, "node:__internal_head__": 0.001}


def _concurrent(plan: Plan) -> int | None:
    """Trials at once. Workers of nested trials are invisible to Tune, so there it must be told."""
    compute = plan.config.compute
    if compute.workers == 1:
        return compute.concurrent
    total = _resources()
    slots = int((total.get("GPU", 0) // compute.gpus) if compute.gpus else total.get("CPU", 1) // compute.cpus)
    fit = slots // compute.workers
    if fit < 1:
        raise UserError(
            f"compute.workers: {compute.workers} workers a trial want {compute.workers * compute.cpus} CPUs and "
            f"{compute.workers * compute.gpus:g} GPUs; the cluster has {total.get('CPU', 0):g} CPUs and "
            f"{total.get('GPU', 0):g} GPUs"
        )
    return min(fit, compute.concurrent or fit)


def _resources() -> dict[str, float]:
    """What the cluster has, or will have once it has grown as far as its file lets it."""
    now = ray.cluster_resources()
    most = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    bounded = {name: amount for name, amount in most.items() if amount < 1 << 62}  # sys.maxsize is Ray's "no bound"
    return {name: max(now.get(name, 0), bounded.get(name, 0)) for name in ("CPU", "GPU")}
