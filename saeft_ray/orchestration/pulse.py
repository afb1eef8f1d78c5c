"""The pulse of a driver: every minute it shows how far the sweep is, and writes it for those who ask storage alone; and
how long the sweep was driven.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from saeft_ray.orchestration.phases import Watcher
from saeft_ray.orchestration.plan import Artifact
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.tally import Tally
from saeft_ray.records.course import Course
from saeft_ray.records.hours import Hours
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import Phase
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.redact import redacted

EVERY = 60.0  # seconds between two beats in a log
ON_TERMINAL = 5.0


class Pulse(Quiet):
    """Passes on to `shown` what it hears, with a beat every `every` seconds from a thread of its own. It never stops a
    sweep: storage that does not answer is asked again at the next beat."""

    def __init__(self, shown: Watcher, ledger: Ledger, every: float = EVERY, hours: Hours | None = None):
        self._shown, self._ledger, self._every, self._tally, self._hours = shown, ledger, every, Tally(), hours
        self._wake, self._over = threading.Event(), False
        self._thread = threading.Thread(target=self._live, daemon=True, name="pulse")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._wake.set()
        self._thread.join()
        said = "done" if error is None else (redacted(str(error)).strip().splitlines() or [type(error).__name__])[0]
        self._write(ended="stopped by a signal" if isinstance(error, KeyboardInterrupt) else said)

    def building(self, artifacts: Sequence[Artifact]) -> None:
        self._tally.begin("artifacts", len(artifacts), 0)
        self._shown.building(artifacts)
        self._wake.set()

    def built(self, artifact: Artifact) -> None:
        self._tally.step(artifact.kind, None)
        self._shown.built(artifact)

    def phase(self, phase: Phase, total: int, done: int) -> None:
        self._tally.begin(phase, total, done)
        self._shown.phase(phase, total, done)
        self._wake.set()

    def started(self, spec: TrialSpec) -> None:
        self._tally.started(spec)
        self._shown.started(spec)

    def failed(self, spec: TrialSpec, why: str) -> None:
        self._tally.failures += 1
        self._shown.failed(spec, why)

    def ended(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None:
        self._tally.ended(spec, selection)
        self._shown.ended(spec, selection, course)

    def stopped(self, spec: TrialSpec, why: str) -> None:
        self._tally.ended(spec, None)
        self._shown.stopped(spec, why)

    def far(self) -> str:
        """How far the sweep is, for a sentence: in which phase, and what of it is missing."""
        title, done, total = self._tally.title, self._tally.done, self._tally.total
        if done >= total:
            return f"after {title}: what follows it is missing"
        return f"in {title} with {done} of {total} done: the other {total - done} and what follows them are missing"

    def _live(self) -> None:
        while not self._over:
            woken = self._wake.wait(self._every)
            self._wake.clear()
            if self._over:
                return
            self._write()
            if not woken:
                with suppress(OSError):  # storage is away, or nobody reads: the main thread meets it too
                    self._shown.beat(self._ledger.signs(list(self._tally.running)))

    def _write(self, ended: str | None = None) -> None:
        with suppress(OSError):
            self._ledger.show_progress({**self._tally.json(), "ended": ended})
            if self._hours is not None:
                self._hours.write()
