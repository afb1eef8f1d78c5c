"""Temporary folders that do not outlive their process for long, even one that was killed."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_YOUNG = 60.0  # seconds in which a folder may have no lock yet


@contextmanager
def scratch(what: str) -> Iterator[str]:
    """A folder that is gone afterwards. What processes that were killed have left of theirs goes first.

    A folder is held by a lock on it, which ends with its process, in whatever container that ran.
    """
    prefix = f"saeft_ray-{what}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # its process lives, it is another user's, or it has just gone
            if time.time() - left.stat().st_mtime > _YOUNG:
                with _held(left):
                    shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder, _held(Path(folder)):
        yield folder


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Holds the lock on `folder`. Raises OSError if another process does."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)
