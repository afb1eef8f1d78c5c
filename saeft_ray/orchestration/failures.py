"""Why a trial did not end, and what follows: try again, give that trial up, or stop the sweep.

    lost      its machine died or is taken away       tried again without limit, after a pause that grows
    crashed   its process died on a living machine    eight times, after a pause that grows
    memory    there was too little memory             twice
    bug       anything else that it raised            twice
    storage   refused, full, or away for minutes      the sweep stops: other trials would fail in the same way
    input     data, weights or settings do not serve  the sweep stops: it would fail again, and so would others

Divergence is none of these: it is a result, and a row (`errors.Diverged`).
"""

import re
import traceback
from collections import Counter
from typing import Literal, NamedTuple, Self

from saeft_ray.errors import Damaged, Preempted, SaeftError, Unavailable, Unfinished, Unseen, UserError
from saeft_ray.records.rows import Phase
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.retry import is_away, is_full

Cause = Literal["lost", "crashed", "memory", "bug", "storage", "input"]
STOPS: tuple[Cause, ...] = ("storage", "input")
ATTEMPTS: dict[Cause, int] = {"crashed": 8, "memory": 2, "bug": 2}
LONGEST = 60.0  # seconds between two attempts
_LINES = 24
_CUT_OFF = ("Connection closed by peer", "Connection reset by peer", "DistBackendError", "DistNetworkError")


class Failure(NamedTuple):
    """Why one attempt at a trial did not end, as plain values that travel between processes. Texts hold no secrets."""

    cause: Cause
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException, cause: Cause | None = None) -> Self:
        """The failure that `error` is; `cause` where the caller knows it better than `cause_of`."""
        named = str(error) if isinstance(error, SaeftError) else f"{type(error).__name__}: {error}"
        return cls(cause or cause_of(error), redacted(named.strip()), short_traceback(error))

    @property
    def line(self) -> str:
        """The message's last line."""
        return (self.message.splitlines() or [self.cause])[-1]


class Attempts:
    """The attempts at the trials of one phase that did not end at once."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Cause]] = Counter()
        self._given_up: dict[str, str] = {}

    def wait(self, trial: str, failure: Failure) -> float | None:
        """Seconds until `trial` is tried again; None if it has used up its attempts. Raises Unfinished if the cause
        stops the sweep."""
        cause = failure.cause
        if cause in STOPS:
            raise Unfinished(
                f"{trial}: {failure.message}\nNothing is lost. Fix this, then run the same command to resume"
            )
        self._counts[trial, cause] += 1
        count = self._counts[trial, cause]
        if cause in ATTEMPTS and count >= ATTEMPTS[cause]:
            self._given_up[trial] = f"{cause}, {count} times; {failure.line}"
            return None
        return min(2.0 ** (count - 1), LONGEST)

    def check(self, phase: Phase) -> None:
        """Raises Unfinished, which names every trial that was given up."""
        if self._given_up:
            lines = [f"{trial}: {why}" for trial, why in sorted(self._given_up.items())]
            raise Unfinished(
                f"{len(lines)} {phase} trials could not be run; the others are safe. The results table holds the "
                "tracebacks (status = 'error'). The same command tries these trials again:\n" + "\n".join(lines)
            )


def cause_of(error: BaseException) -> Cause:
    """The cause behind an exception that a trial raised."""
    chain = _chain(error)
    if isinstance(error, Preempted):
        return "lost"
    if any(isinstance(one, Unavailable | Unseen) or is_full(one) or is_away(one) for one in chain):
        return "storage"
    if any(isinstance(one, UserError | Damaged) for one in chain):
        return "input"
    if any(isinstance(one, MemoryError) or "OutOfMemory" in type(one).__name__ for one in chain):
        return "memory"
    if any(isinstance(one, RuntimeError) and re.search("out of memory|allocate memory", str(one)) for one in chain):
        return "memory"
    # Another worker of the same trial has gone.
    if any(words in f"{type(one).__name__} {one}" for one in chain for words in _CUT_OFF):
        return "crashed"
    return "bug"


def short_traceback(error: BaseException | str) -> str:
    """The end of an error's traceback, or of a text that is one, without colours and secrets."""
    text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
    lines = redacted(re.sub(r"\x1b\[[0-9;]*m", "", text)).strip().splitlines()
    return "\n".join(["…", *lines[-_LINES:]] if len(lines) > _LINES else lines)


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
