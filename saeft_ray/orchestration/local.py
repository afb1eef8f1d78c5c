"""The serial runner: a whole sweep in this process, trial after trial; for debuggers, tests and small machines."""

import logging
import time
from collections.abc import Sequence

from saeft_ray.errors import Preempted
from saeft_ray.orchestration import artifacts, trial
from saeft_ray.orchestration.failures import Attempts, Failure
from saeft_ray.orchestration.phases import Watcher
from saeft_ray.orchestration.plan import Artifact, Plan
from saeft_ray.orchestration.search import TrialQueue
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.training.worker import Worker

_log = logging.getLogger(__name__)


class LocalRunner:
    """Runs everything here, on the GPU if the sweep file asks for one."""

    def __init__(self, plan: Plan, store: Store, ledger: Ledger, signals: StopSignals | None = None):
        self._plan, self._store, self._ledger, self._signals = plan, store, ledger, signals or StopSignals()
        self._worker = Worker.of(plan.config.compute, must_stop=lambda: self._signals.stop_requested)

    def build(self, wanted: Sequence[Artifact], watcher: Watcher) -> None:
        wanted = artifacts.pieces(wanted, self._store)
        watcher.building(wanted)
        for artifact in wanted:
            artifacts.ensure(artifact, self._plan, self._store, self._worker.device)
            watcher.built(artifact)

    def run(self, queue: TrialQueue, watcher: Watcher) -> None:
        attempts = Attempts()
        with self._signals.while_trials_run():
            while queue.remaining:
                spec = queue.ask()
                assert spec is not None, "a serial runner leaves no trial waiting for another"
                self._ledger.begin_trial(spec)
                watcher.started(spec)
                outcome = self._attempt(spec, attempts, watcher)
                if outcome is None:
                    queue.give_up(spec)
                    watcher.ended(spec, None)
                    continue
                queue.tell(spec, outcome.selection, outcome.course)
                if outcome.status == "stopped" and outcome.selection is None:  # the search's own stop has a value
                    watcher.stopped(spec, str(outcome.rows[0].error))
                else:
                    watcher.ended(spec, outcome.selection, outcome.course)
        attempts.check(queue.phase)

    def _attempt(self, spec: TrialSpec, attempts: Attempts, watcher: Watcher) -> trial.Outcome | None:
        """Runs `spec` until it has rows; None if it is given up."""
        while True:
            try:
                for item in trial.recorded(self._plan, spec, self._store, self._worker, self._ledger):
                    if isinstance(item, trial.Outcome):
                        return item
            except Preempted:
                raise
            except Exception as error:
                failure = Failure.of(error)
                watcher.failed(spec, failure.line)
                wait = attempts.wait(spec.id, failure)
                if wait is None:
                    self._ledger.give_up(spec, failure.traceback)
                    return None
                _log.warning("%s: %s; tried again in %.0f s", spec.id, failure.line, wait)
                time.sleep(wait)
