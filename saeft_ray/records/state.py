"""How a sweep stands, from its storage alone: one listing and few small files, however many trials it has.

Times are those of the machines that wrote them, seconds since 1970.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from saeft_ray.errors import Damaged, UserError
from saeft_ray.records.folder import RECORD, SweepFolder, read_parquet
from saeft_ray.records.read import ERROR, ROWS, no_sweep
from saeft_ray.records.rows import PHASES
from saeft_ray.records.stops import FOLDER, Request, Stops
from saeft_ray.storage.files import Files, is_name
from saeft_ray.storage.location import Location, environment_endpoint

_SHOWN = 20  # failures that are read
_PROGRESS = "progress.json"


class Failed(NamedTuple):
    """A trial that could not be run, and the last line of why."""

    trial: str
    why: str


class State(NamedTuple):
    """`ended` and `dealt` count trials by phase; `progress` is what the driver last said (`Tally.json`), None if it has
    said nothing; `signs` are the last ones of the trials that run; `failed` holds the first of `given_up` trials;
    `asked` are those that somebody asked to stop and that have not ended."""

    url: str
    dealt: Mapping[str, int]
    ended: Mapping[str, int]
    progress: Mapping[str, Any] | None
    signs: Mapping[str, Mapping[str, Any]]
    given_up: int
    failed: list[Failed]
    asked: Mapping[str, Request]
    files: int
    bytes: int


def read_state(url: str, endpoint: str | None = None) -> State:
    """The state of the sweep in the folder or URL `url`. A trial that a dead driver wrote late may be counted too.

    Raises UserError if `url` is not a sweep's folder.
    """
    endpoint = endpoint or environment_endpoint()
    try:
        sizes = Location(url, endpoint).files()
    except (FileNotFoundError, NotADirectoryError):
        sizes = {}
    if RECORD not in sizes:
        raise UserError(no_sweep(url, endpoint))
    files = Files(url, endpoint=endpoint)
    folder = SweepFolder(files, "")
    dealt = {path.split("/")[1] for path in sizes if path.startswith("trials/")}
    ended = {trial for trial in dealt if f"trials/{trial}/{ROWS}" in sizes}
    given_up = {trial for trial in dealt - ended if f"trials/{trial}/{ERROR}" in sizes}
    progress = _read(folder, _PROGRESS)
    running = set(progress["running"]) if progress else set[str]()
    open_ = [] if progress and progress["ended"] else sorted((dealt - ended - given_up) | (running & dealt - ended))
    signs = {trial: _read(folder, f"signs/{trial}.json") for trial in open_ if f"signs/{trial}.json" in sizes}
    return State(
        url,
        _by_phase(dealt),
        _by_phase(ended),
        progress,
        {trial: sign for trial, sign in signs.items() if sign},
        len(given_up),
        _why(folder, sorted(given_up)[:_SHOWN]),
        _asked(files, [path for path in sizes if path.startswith(f"{FOLDER}/")], ended),
        len(sizes),
        sum(sizes.values()),
    )


def span(seconds: float) -> str:
    """A time in words: `2 h 5 min`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _by_phase(trials: set[str]) -> dict[str, int]:
    counts = Counter(trial.partition("-")[0] for trial in trials)
    return {phase: counts[phase] for phase in PHASES if counts[phase]}


def _read(folder: SweepFolder, path: str) -> dict[str, Any] | None:
    """None for a file that is not there, is an earlier driver's, or is damaged: the next beat replaces it."""
    with suppress(FileNotFoundError, Damaged):
        return folder.get_json(path)
    return None


def _asked(files: Files, paths: list[str], ended: set[str]) -> dict[str, Request]:
    trials = {path.rpartition("/")[2].removesuffix(".json") for path in paths} - ended
    stops = Stops(files, "")
    found = {trial: stops.of(trial) for trial in sorted(trials) if is_name(trial)}
    return {trial: request for trial, request in found.items() if request}


def _why(folder: SweepFolder, trials: list[str]) -> list[Failed]:
    found = []
    for path, data in folder.get_many(f"trials/{trial}/{ERROR}" for trial in trials).items():
        (row,) = read_parquet(data, f"{folder.url}/{path}").to_pylist()
        lines = (row["error"] or "").strip().splitlines() or ["it gave no reason"]
        found.append(Failed(row["trial"], lines[-1]))
    return found
