"""The caps of a sweep, `compute.max_hours` and `compute.deadline`: a phase under way ends early once one is reached, as
at SIGTERM, and nothing begins afterwards. No result depends on them, so whoever continues the sweep may change them."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from saeft_ray.errors import Unfinished
from saeft_ray.orchestration.phases import Runner, Watcher
from saeft_ray.orchestration.plan import Artifact
from saeft_ray.orchestration.search import TrialQueue
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.hours import Hours
from saeft_ray.settings import Compute
from saeft_ray.storage.store import Store

_LOOK = 10.0  # seconds between two looks at the clock, at most: it may be set, or a machine sleep


class Cap:
    """A context manager: ends its body as a first signal does once a cap is reached, with Unfinished in the place of
    KeyboardInterrupt.

    `far` says how far the sweep is, for the message. Where a cap is reached before, the body runs, and `check` refuses
    work.
    """

    def __init__(self, compute: Compute, hours: Hours, signals: StopSignals, far: Callable[[], str]):
        self._compute, self._hours, self._signals, self._far = compute, hours, signals, far
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="cap")

    def __enter__(self) -> Self:
        if self._left() > 0:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        if isinstance(error, KeyboardInterrupt) and self._signals.why:
            raise self._unfinished() from None

    @property
    def reached(self) -> bool:
        return self._left() <= 0

    def check(self) -> None:
        """Raises Unfinished if a cap is reached: there is work that must not begin."""
        if self.reached:
            raise self._unfinished()

    def _left(self) -> float:
        """Seconds until the first cap; infinite without one."""
        left = [float("inf")]
        if self._compute.max_hours is not None:
            left.append(3600 * self._compute.max_hours - self._hours.spent)
        if self._compute.deadline is not None:
            left.append(moment(self._compute.deadline) - time.time())
        return min(left)

    def _watch(self) -> None:
        while (left := self._left()) > 0:
            if self._over.wait(min(left, _LOOK)):
                return
        self._signals.end(self._why())

    def _why(self) -> str:
        compute = self._compute
        if compute.max_hours is not None and self._hours.spent >= 3600 * compute.max_hours:
            driven = f"{self._hours.spent / 3600:.2f} hours were driven, over all runs of this sweep"
            return f"compute.max_hours: {compute.max_hours:g} is reached: {driven}"
        return f"compute.deadline: {compute.deadline} has passed"

    def _unfinished(self) -> Unfinished:
        why = self._why()
        return Unfinished(
            f"{why}. The sweep ends early, {self._far()}. Nothing is lost: raise {why.partition(':')[0]}, on which no "
            "result depends, and run the same command to go on"
        )


class Capped:
    """A runner that begins nothing once a cap is reached."""

    def __init__(self, runner: Runner, store: Store, cap: Cap):
        self._runner, self._store, self._cap = runner, store, cap

    def build(self, artifacts: Sequence[Artifact], watcher: Watcher) -> None:
        if self._cap.reached and all(self._store.has(one.kind, one.key) for one in artifacts):
            return
        self._cap.check()
        self._runner.build(artifacts, watcher)

    def run(self, queue: TrialQueue, watcher: Watcher) -> None:
        self._cap.check()
        self._runner.run(queue, watcher)


def moment(deadline: str) -> float:
    """Seconds since 1970 of a deadline in ISO 8601 with a time zone."""
    return datetime.fromisoformat(deadline).timestamp()
