"""How long a sweep was driven: each driver says of itself, in a file of its own.

<storage>/sweeps/<name>/hours/<lease>.json   seconds from its start; replaced every minute while it runs, and at its end

A driver that is killed loses the time since its last word, a minute at most.
"""

import re
import time

from saeft_ray.errors import Damaged
from saeft_ray.storage.checksum import from_json, to_json
from saeft_ray.storage.files import Files


class Hours:
    """The time of the driver with the number `lease`, from now on, and of all others before it."""

    def __init__(self, files: Files, name: str, lease: int):
        self._files, self._lease = files, lease
        self._path, self._began = f"sweeps/{name}/hours/{lease:06d}.json", time.monotonic()
        self._before = sum(_told(files, name, but=self._path))

    @property
    def spent(self) -> float:
        """Seconds of wall clock over all drivers so far."""
        return self._before + time.monotonic() - self._began

    def write(self) -> None:
        """Replaces what this driver last said."""
        self._files.write(self._path, to_json({"seconds": time.monotonic() - self._began}, self._lease))


def seconds_driven(files: Files, name: str) -> float:
    """Seconds for which the sweep `name` was driven, by all its drivers, as far as they have said it."""
    return sum(_told(files, name))


def _told(files: Files, name: str, but: str = "") -> list[float]:
    paths = [path for path in files.list(f"sweeps/{name}/hours") if path != but and re.search(r"/\d+\.json$", path)]
    found = []
    for path, data in files.read_many(paths).items():
        try:
            found.append(float(from_json(data, path)["seconds"]))
        except Damaged:  # it counts for nothing: a cap must not stop a sweep for a number that nobody wrote
            continue
    return found
