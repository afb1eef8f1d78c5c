"""How every door ends: a mistake becomes words and a status, a bug keeps its traceback and says where the logs are."""

import os
import select
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from saeft_ray.errors import Damaged, Unavailable, Unfinished, UserError
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.retry import is_full

BUG = (
    "This is a bug of saeft_ray or of a library, not a mistake of yours: please report it with the traceback above. "
    "Logs: "
)
STOPPED, _READER_LEFT = 130, 141  # as a shell counts SIGINT and SIGPIPE


def guarded(act: Callable[[], int], advice: str = "", stopped: str = "stopped") -> int:
    """Returns what `act` returns, or the exit status for what it raised.

    UserError is 2 and one message on stderr. Unfinished, Unavailable, Damaged and a full disk are 1 and a message that
    ends with `advice`. Ctrl-C is 130 and says `stopped`. Any other exception is 1, with its traceback and the logs that
    its notes name (`Exception.add_note`). A reader that leaves early, such as `head`, ends the door quietly. What
    a stream cannot encode is written as a number (`\\u2026`), and what a closed one should take goes nowhere.
    """
    sys.stdout, sys.stderr = (stream or _nowhere() for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = act()
        sys.stdout.flush()
    except UserError as error:
        return _said(2, f"error: {error}")
    except Unfinished as error:
        return _said(1, str(error))
    except KeyboardInterrupt:
        return _said(STOPPED, f"\n{stopped}")
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return _READER_LEFT
        if isinstance(error, Unavailable | Damaged) or is_full(error):
            return _said(1, "\n".join(filter(None, (f"error: {error}", advice))))
        return _said(1, "".join(traceback.format_exception(error)) + bug(error))
    return status


def bug(error: BaseException) -> str:
    """The line below the traceback of a bug."""
    return BUG + ("; ".join(getattr(error, "__notes__", [])) or "none but this output")


def _said(status: int, words: str) -> int:
    try:
        print(redacted(words), file=sys.stderr, flush=True)
    except BrokenPipeError:
        _to_nowhere(sys.stderr)
    return status


def _reader_left() -> bool:
    """Whether nobody reads stdout any more; then what is left for it goes nowhere."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)  # asked for nothing, it says POLLERR of a pipe without a reader
    left = any(event & select.POLLERR for _, event in watch.poll(0))
    if left:
        _to_nowhere(sys.stdout)
    return left


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w")


def _to_nowhere(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
