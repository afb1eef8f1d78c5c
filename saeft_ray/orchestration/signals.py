"""Signals that stop a driver. Between two steps, a training asks whether it must stop, and saves a checkpoint first."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from saeft_ray.errors import Preempted

GRACE = 20.0  # seconds from the first signal to the end; Kubernetes kills after 30


def interrupt() -> None:
    """Sends this process's main thread a SIGINT: a real signal, so that it wakes a call that waits."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


class StopSignals:
    """The signals of a driver, as a context manager: SIGINT (Ctrl-C) and SIGTERM (a pod, a job, a batch system).

    While trials run, the first one asks them to save checkpoints and stop; a second, or the end of `grace` seconds,
    ends the driver at once. While none runs, the first ends it at once. The end is a KeyboardInterrupt with the
    number of the first signal as its argument.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._before: dict[int, Any] = {}
        self._trials_run = False
        self._timer: threading.Timer | None = None
        self._first: int | None = None
        self.stop_requested = False
        self.why = ""  # the driver ends without a signal

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, KeyboardInterrupt) and self._first:
            error.args = (self._first,)

    def install(self) -> None:
        """Installs the handlers, again if a library has replaced them."""
        for number in self._before:
            signal.signal(number, self._on_signal)

    @contextmanager
    def while_trials_run(self) -> Iterator[None]:
        """A context in which trials run that ask for `stop_requested`."""
        self._trials_run = True
        try:
            yield
        except Preempted:
            assert self.stop_requested, "a trial stopped unasked"
        finally:
            self._trials_run = False
        if self.stop_requested:
            raise KeyboardInterrupt

    def end(self, why: str) -> None:
        """Ends the driver as a first signal does, from any thread, unless one came already; `why` is in words."""
        if self._first is None:
            self.why = why
            interrupt()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._first = self._first or number
        if self.stop_requested or not self._trials_run:
            raise KeyboardInterrupt
        self.stop_requested = True
        # Not print: a signal may come within one.
        text = f"Stopping. Trials have {self._grace:.0f} s to save checkpoints. Press Ctrl-C again to stop immediately"
        os.write(2, f"\n{f'{self.why}. ' if self.why else ''}{text}\n".encode())
        self._timer = threading.Timer(self._grace, interrupt)
        self._timer.daemon = True
        self._timer.start()
