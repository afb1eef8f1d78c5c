"""Why a trial did not end, and what follows: try again, give that trial up, or stop the sweep.

    lost      its machine died or is taken away       tried again for ever, after a pause that grows
    crashed   its process died on a living machine    eight times, after a pause that grows
    memory    too little of it                        twice
    bug       anything else that it raised            twice
    storage   refused, full, or away for minutes      the sweep stops: other trials would meet the same

Divergence is none of these: it is a result, and a row (`finetune.Diverged`).
"""

import re
import traceback
from collections import Counter
from typing import Literal

from saeft_ray.errors import Preempted, Unavailable, Unfinished, Unseen
from saeft_ray.records.rows import Phase
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.retry import is_away, is_full

Cause = Literal["lost", "crashed", "memory", "bug", "storage"]
ATTEMPTS: dict[Cause, int] = {"crashed": 8, "memory": 2, "bug": 2}
LONGEST = 60.0  # seconds between two attempts
_LINES = 24
_CUT_OFF = ("Connection closed by peer", "Connection reset by peer", "DistBackendError", "DistNetworkError")


class Attempts:
    """What became of the trials of one phase that did not end at once."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Cause]] = Counter()
        self._given_up: dict[str, str] = {}

    def wait(self, trial: str, cause: Cause, error: BaseException) -> float | None:
        """Seconds until `trial` is tried again; None if it has used up its attempts. Raises Unfinished if the cause is
        the storage."""
        if cause == "storage":
            raise Unfinished(
                f"{trial}: {last_line(error)}\nNothing is lost; the same command goes on once it is mended"
            )
        self._counts[trial, cause] += 1
        count = self._counts[trial, cause]
        if cause in ATTEMPTS and count >= ATTEMPTS[cause]:
            self._given_up[trial] = f"{cause}, {count} times; {last_line(error)}"
            return None
        return min(2.0 ** (count - 1), LONGEST)

    def check(self, phase: Phase) -> None:
        """Raises Unfinished, which names every trial that was given up."""
        if self._given_up:
            lines = [f"{trial}: {why}" for trial, why in sorted(self._given_up.items())]
            raise Unfinished(
                f"{len(lines)} {phase} trials could not be run; the others are safe, the tracebacks stand in the "
                "results table (status = 'error'), and the same command tries these again:\n" + "\n".join(lines)
            )


def cause_of(error: BaseException) -> Cause:
    """The cause behind an exception that a trial raised."""
    chain = _chain(error)
    if isinstance(error, Preempted):
        return "lost"
    if any(isinstance(one, Unavailable | Unseen) or is_full(one) or is_away(one) for one in chain):
        return "storage"
    if any(isinstance(one, MemoryError) or "OutOfMemory" in type(one).__name__ for one in chain):
        return "memory"
    if any(isinstance(one, RuntimeError) and re.search("out of memory|allocate memory", str(one)) for one in chain):
        return "memory"
    # Another worker of the same trial has gone.
    if any(words in f"{type(one).__name__} {one}" for one in chain for words in _CUT_OFF):
        return "crashed"
    return "bug"


def told(error: BaseException, text: str | None = None) -> str:
    """The end of the error's traceback (or of `text`), without colours and secrets."""
    text = text or "".join(traceback.format_exception(error))
    lines = redacted(re.sub(r"\x1b\[[0-9;]*m", "", text)).strip().splitlines()
    return "\n".join(["…", *lines[-_LINES:]] if len(lines) > _LINES else lines)


def last_line(error: BaseException) -> str:
    return redacted((str(error).strip().splitlines() or [type(error).__name__])[-1])


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
