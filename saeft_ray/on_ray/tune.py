"""One phase is one Tune experiment: Tune asks our queue for trials, places them and says how they ended.

Tune's own state is deleted afterwards. What must survive is in the ledger, written by the trials themselves.
"""

import logging
import time
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper

from saeft_ray.errors import Unfinished, UserError
from saeft_ray.on_ray import internals, preemption
from saeft_ray.on_ray.cluster import Waiting
from saeft_ray.on_ray.failures import death_of, lost_by
from saeft_ray.on_ray.shared import Mark
from saeft_ray.on_ray.train import final, train_on_workers
from saeft_ray.orchestration.failures import Attempts, Failure
from saeft_ray.orchestration.phases import Watcher
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.search import TrialQueue
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.course import Course
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import Phase
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.storage.temporary import scratch

_log = logging.getLogger(__name__)


def run_phase(
    queue: TrialQueue,
    plan: Plan,
    store: Store,
    ledger: Ledger,
    watcher: Watcher,
    signals: StopSignals,
    mark: Mark | None = None,
) -> None:
    """Runs all trials of `queue`; once a signal asked to stop, only until those that run have saved what they have.
    Raises Unfinished, after all others have ended, if trials could not be run."""
    compute = plan.config.compute
    searcher = _QueueSearcher(queue, ledger, watcher, signals)
    alone = compute.workers == 1
    need = {"CPU": compute.cpus, "GPU": compute.gpus} if alone else _driver_resources()
    body = tune.with_resources(tune.with_parameters(_trial, plan=plan, store=store, ledger=ledger, mark=mark), need)
    with scratch("tune") as folder:
        tuner = tune.Tuner(
            internals.named_trainable(body, "Trial"),
            tune_config=tune.TuneConfig(
                metric="selection",
                mode="max",
                search_alg=searcher,
                num_samples=-1,  # the searcher knows when there are no more, and suggests again what was lost
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
                callbacks=[_ErrorListener(searcher, Waiting(compute))],
                stop=_Stop(searcher),
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        fit(tuner, queue.phase)
    if signals.stop_requested:
        preemption.request_stop(False)
    searcher.check()
    if queue.remaining and not signals.stop_requested:
        raise Unfinished(
            f"Tune ended the {queue.phase} phase with {queue.remaining} trials not run. Run the same command to resume"
        )


class _QueueSearcher(Searcher):  # type: ignore[misc]
    """Gives Tune the trials of a queue. For Tune, an attempt that failed is a trial that has ended; the next attempt
    is a new trial of Tune."""

    def __init__(self, queue: TrialQueue, ledger: Ledger, watcher: Watcher, signals: StopSignals):
        super().__init__(metric="selection", mode="max")
        self._queue, self._ledger, self._watcher, self._signals = queue, ledger, watcher, signals
        self._running: dict[str, TrialSpec] = {}
        self._again: list[tuple[float, TrialSpec]] = []  # not before this time
        self._attempts = Attempts()
        self._failures: dict[str, Failure] = {}  # reported by trials that are about to end
        self._passed_on = False
        self.halted: Unfinished | None = None

    @property
    def closed(self) -> bool:
        """Whether no trial begins any more."""
        return self.halted is not None or self._signals.stop_requested

    def pass_on(self) -> None:
        """Asks the trials that run to stop, once a signal came."""
        if self._signals.stop_requested and not self._passed_on:
            self._passed_on = True
            preemption.request_stop(True)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        spec = self._next()
        if spec is None:
            done = not (self._queue.remaining or self._running or self._again)
            return str(Searcher.FINISHED) if done or self.closed else None
        self._running[trial_id] = spec
        return {"spec": spec.model_dump_json()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "failure" in result:
            self._failures[trial_id] = Failure(*result["failure"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error or self.halted or trial_id not in self._running:  # `failed` learns of errors, with their cause
            return
        spec, result = self._running.pop(trial_id), result or {}
        ended_with = result.get("selection")
        selection = None if result.get("status") == "failed" or ended_with is None or ended_with < 0 else ended_with
        try:
            course = self._ledger.course(spec.id)
        except FileNotFoundError:
            self.halted = Unfinished(
                f"{spec.id}: has ended, but its rows are not in {self._ledger.url}, as this machine sees it. "
                "All machines must see one storage"
            )
            return
        if result.get("status") == "stopped" and selection is None:  # the search's own stop has a value
            self._stopped(spec, course)
        else:
            self._end(spec, selection, course)

    def failed(self, trial: Any) -> None:
        """A trial of Tune has ended with an error."""
        spec, failure = self._running.pop(trial.trial_id), self._failures.pop(trial.trial_id, None)
        with suppress(FileNotFoundError):  # it died after its rows were written, before Tune learned of them
            row, course = self._ledger.selection_row(spec.id), self._ledger.course(spec.id)
            if row.status == "stopped" and row.value is None:
                self._stopped(spec, course)
            else:
                self._end(spec, row.value, course)
            return
        if self._signals.stop_requested:  # it stopped, or died before it could
            return
        failure = failure or death_of(trial)
        self._watcher.failed(spec, failure.line)
        try:
            wait = self._attempts.wait(spec.id, failure)
        except Unfinished as reason:
            self.halted = reason
            return
        if wait is None:
            self._ledger.give_up(spec, failure.traceback)
            self._queue.give_up(spec)
            self._watcher.ended(spec, None)
        else:
            _log.warning("%s: %s (%.120s); tried again in %.0f s", spec.id, failure.cause, failure.line, wait)
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
        if self.closed:
            return None
        for position, (due, lost) in enumerate(self._again):
            if due <= time.monotonic():
                del self._again[position]
                return lost
        spec = self._queue.ask() if self._queue.remaining else None
        if spec is not None:
            self._ledger.begin_trial(spec)
            self._watcher.started(spec)
        return spec

    def _end(self, spec: TrialSpec, selection: float | None, course: Course | None) -> None:
        self._queue.tell(spec, selection, course)
        self._watcher.ended(spec, selection, course)

    def _stopped(self, spec: TrialSpec, course: Course | None) -> None:
        """Somebody ended it for good, and its rows say who."""
        self._queue.tell(spec, None, course)
        self._watcher.stopped(spec, str(self._ledger.rows(spec.id)[0].error))


class _ErrorListener(tune.Callback):  # type: ignore[misc]
    """Hands the searcher every trial that ended with an error, and calls it between Tune's steps."""

    def __init__(self, searcher: _QueueSearcher, waits: Waiting):
        self._searcher, self._waits = searcher, waits

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.failed(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._searcher.pass_on()
        self._waits.look()

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.Callback, ()


class _Stop(tune.Stopper):  # type: ignore[misc]
    """Ends all trials once the searcher has halted."""

    def __init__(self, searcher: _QueueSearcher):
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._searcher.halted is not None

    def __reduce__(self) -> tuple[Any, ...]:
        return NoopStopper, ()


def _trial(config: dict[str, Any], plan: Plan, store: Store, ledger: Ledger, mark: Mark | None) -> None:
    """The body of a Tune trial. It reports why it failed, since the driver cannot always read that from the error."""
    try:
        if mark is not None:
            mark.check()
        _run(_spec(config), plan, store, ledger, mark)
    except Exception as error:
        failure = Failure.of(error, lost_by(error))
        tune.report({"selection": -1.0, "failure": list(failure)})
        # Ends this process: it may hold a broken GPU, or its machine may be about to go.
        raise RuntimeError(failure.line) from None


def _run(spec: TrialSpec, plan: Plan, store: Store, ledger: Ledger, mark: Mark | None) -> None:
    """Runs a trial here, or on workers of its own, and reports how it ended."""
    if plan.config.compute.workers > 1:
        tune.report(train_on_workers(plan, spec, store, ledger, mark))
        return
    from saeft_ray.orchestration import trial
    from saeft_ray.training.worker import Worker

    worker = Worker.of(plan.config.compute, must_stop=preemption.must_stop)
    for item in trial.recorded(plan, spec, store, worker, ledger):
        if isinstance(item, trial.Outcome):
            tune.report(final(item.selection, item.status))


def _name(trial: Any) -> str:
    """The name of a trial for Tune: ours, and Tune's own number."""
    return f"{_spec(trial.config).id}-{trial.trial_id}"


def _spec(config: dict[str, Any]) -> TrialSpec:
    """Returns the spec that `_QueueSearcher.suggest` put into Tune's config."""
    return TrialSpec.model_validate_json(config["spec"])


def _driver_resources() -> dict[str, float]:
    """A driver only waits for its workers: any share of a CPU that it held could be the one they wait for. It stays on
    the head, which is not a spot machine."""
    return {"CPU": 0, internals.HEAD: 0.001}


def fit(tuner: Any, phase: Phase) -> None:
    """Runs Tune. Raises Unfinished where Ray ended workers that were just starting, because memory was short: Tune
    takes that for a bug of its own, and ends."""
    try:
        tuner.fit()
    except RuntimeError as error:
        if "low on memory" not in str(error):
            raise
        raise Unfinished(
            f"Ray ended workers of the {phase} phase, for its machine is low on memory. Nothing that ended is lost. "
            "End other work there, or lower compute.concurrent; then run the same command to resume"
        ) from error


def _concurrent(plan: Plan) -> int | None:
    """Trials at once. Workers of nested trials are invisible to Tune, so there the number must be given."""
    compute = plan.config.compute
    if compute.workers == 1:
        return compute.concurrent
    total = _resources()
    slots = int((total.get("GPU", 0) // compute.gpus) if compute.gpus else total.get("CPU", 1) // compute.cpus)
    fit = slots // compute.workers
    if fit < 1 and not internals.largest_cluster() and internals.may_grow():  # how far, its head alone knows
        return compute.concurrent or 1
    if fit < 1:
        raise UserError(
            f"compute.workers: {compute.workers} workers per trial need {compute.workers * compute.cpus} CPUs and "
            f"{compute.workers * compute.gpus:g} GPUs; the cluster has {total.get('CPU', 0):g} CPUs and "
            f"{total.get('GPU', 0):g} GPUs"
        )
    return min(fit, compute.concurrent or fit)


def _resources() -> dict[str, float]:
    """The resources that the cluster has, or will have once it has grown as far as its file lets it."""
    now = ray.cluster_resources()
    later = internals.largest_cluster()
    return {name: max(now.get(name, 0), later.get(name, 0)) for name in ("CPU", "GPU")}
