"""A sweep as a tracker is told it: plain values, read from storage alone."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from saeft_ray.errors import UserError
from saeft_ray.records.course import SPEC, course_of, number_of, numbers_of, scalars
from saeft_ray.records.folder import RECORD, SweepFolder, read_parquet
from saeft_ray.records.read import ERROR, MORE, ROWS, no_sweep
from saeft_ray.records.rows import PHASES
from saeft_ray.records.state import read_state
from saeft_ray.settings import Choices, Range
from saeft_ray.storage.checksum import from_json
from saeft_ray.storage.files import Files
from saeft_ray.storage.fingerprint import canonical, fingerprint
from saeft_ray.storage.location import environment_endpoint

Value = str | float | bool
State = Literal["waiting", "running", "ok", "failed", "stopped", "error"]
"""The last four are those of its rows. `waiting`: it was begun and nobody runs it now. `error`: the next start of the
sweep tries it again."""
_REPORT = "report"
_OPEN: TypeAdapter[Range | Choices] = TypeAdapter(Range | Choices)


class Epoch(NamedTuple):
    """A finished epoch, from 1; `ended` is in seconds since 1970, by the seconds that the epochs took."""

    number: int
    ended: float
    numbers: Mapping[str, float]


class Trial(NamedTuple):
    """A trial that was begun. `values` are its settings, `results` its numbers by metric and data set, as
    `accuracy/Sketch`; `selection` is its accuracy on the selection split. `began` and `ended` are seconds since 1970,
    None where they are not known."""

    id: str
    phase: str
    method: str
    configuration: str
    seed: int | None
    number: int | None
    values: Mapping[str, Value]
    state: State
    epochs: list[Epoch]
    selection: float | None = None
    results: Mapping[str, float] = {}
    began: float | None = None
    ended: float | None = None
    node: str = ""
    device: str = ""
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether it has its final results."""
        return self.state in ("ok", "failed", "stopped")


class Report(NamedTuple):
    """The files of the sweep's report: `version` changes when they do, `read` gives them by name."""

    version: str
    read: Callable[[], dict[str, bytes]]


class Sweep(NamedTuple):
    """`key` tells sweeps of one name apart. `spaces` are the open values of the methods that are searched. `created` is
    in seconds since 1970. `over` says that no driver runs it; `ended` is when that was noted."""

    name: str
    key: str
    url: str
    created: float
    about: Mapping[str, str]
    spaces: Mapping[str, Mapping[str, Range | Choices]]
    trials: list[Trial]
    report: Report | None
    over: bool
    ended: float | None


class SweepReader:
    """Reads one sweep again and again; what can no longer change is read once."""

    def __init__(self, url: str, endpoint: str | None = None):
        """`url` is the sweep's folder or URL, `endpoint` the S3 server (else the environment's)."""
        self._url, self._endpoint = url, endpoint or environment_endpoint()
        self._files = Files(url, endpoint=self._endpoint)
        # Kept, since it remembers which files it has read and found to count.
        self._folder = SweepFolder(self._files, "")
        self._ended: dict[str, Trial] = {}
        self._asked: dict[str, Mapping[str, Any]] = {}
        self._added = set[str]()

    def read(self) -> Sweep:
        """The sweep as it is now. Raises UserError if there is none at the URL, Damaged as `read_rows`."""
        state = read_state(self._url, self._endpoint)
        try:
            record = self._folder.get_json(RECORD)
        except FileNotFoundError:  # of a driver that came late
            raise UserError(no_sweep(self._url, self._endpoint)) from None
        ended = state.progress["ended"] if state.progress else None
        return Sweep(
            record["name"],
            fingerprint([record["name"], record["created"]], 10),
            self._files.url,
            datetime.fromisoformat(record["created"]).timestamp(),
            _about(record),
            {label: _open(settings) for label, settings in record["config"]["methods"].items()},
            sorted(self._trials(self._folder, state.signs), key=_place),
            self._report(),
            ended is not None,
            state.progress["at"] if state.progress and ended else None,
        )

    def _trials(self, folder: SweepFolder, signs: Mapping[str, Mapping[str, Any]]) -> list[Trial]:
        names: dict[str, set[str]] = {}
        for path in folder.paths("trials"):
            _, trial, name = path.split("/", 2)
            names.setdefault(trial, set()).add(name)
        new = [trial for trial, found in names.items() if ROWS in found and trial not in self._ended]
        for path, data in folder.get_many(f"trials/{trial}/{ROWS}" for trial in new).items():
            shown = f"{self._url}/{path}"
            self._ended[path.split("/")[1]] = _ended(read_parquet(data, shown), shown)
        self._read_added(folder, names)
        still = [trial for trial in names if trial not in self._ended]
        unread = [trial for trial in still if trial not in self._asked and SPEC in names[trial]]
        for path, data in folder.get_many(f"trials/{trial}/{SPEC}" for trial in unread).items():
            self._asked[path.split("/")[1]] = from_json(data, f"{self._url}/{path}")
        given_up = [trial for trial in still if ERROR in names[trial] and trial not in signs]
        why = {
            path.split("/")[1]: read_parquet(data, f"{self._url}/{path}").to_pylist()[0]["error"] or ""
            for path, data in folder.get_many(f"trials/{trial}/{ERROR}" for trial in given_up).items()
        }
        begun = [
            _begun(trial, self._asked[trial], signs.get(trial), why.get(trial))
            for trial in still
            if trial in self._asked
        ]
        return [*(self._ended[trial] for trial in names if trial in self._ended), *begun]

    def _read_added(self, folder: SweepFolder, names: Mapping[str, set[str]]) -> None:
        """Reads the rows of test sets that were added to the sweep after its trials had ended."""
        paths = (
            f"trials/{trial}/{name}" for trial in self._ended for name in names.get(trial, ()) if name.startswith(MORE)
        )
        for path, data in folder.get_many(set(paths) - self._added).items():
            trial = self._ended[path.split("/")[1]]
            more = _results(read_parquet(data, f"{self._url}/{path}").to_pylist())
            self._ended[trial.id] = trial._replace(results={**trial.results, **more})
            self._added.add(path)

    def _report(self) -> Report | None:
        """None where it was not written yet, or elsewhere."""
        found = {path: one for path, one in self._files.listing(_REPORT).items() if "/." not in path}
        if not found:
            return None

        def read() -> dict[str, bytes]:
            return {path[len(_REPORT) + 1 :]: data for path, data in self._files.read_many(found).items()}

        return Report(fingerprint(sorted([path, *one] for path, one in found.items()), 16), read)


def _about(record: Mapping[str, Any]) -> dict[str, str]:
    """What else is to be known of a sweep, in words."""
    model, versions = record.get("model", {}), record.get("versions", {})
    about = {
        "created": record["created"],
        "commit": record.get("commit"),
        "model": model.get("name", model.get("arch")),
    }
    about |= {f"version.{name}": version for name, version in versions.items()}
    return {name: str(value) for name, value in about.items() if value}


def _open(settings: Mapping[str, Any]) -> dict[str, Range | Choices]:
    """The settings that the search chooses, as the record has them: no code of the method is needed."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value.keys() & {"low", "choices"}:
            try:
                found[name] = _OPEN.validate_json(json.dumps(value))
            except ValidationError:  # some other setting of the method
                continue
    return found


def _place(trial: Trial) -> tuple[int, str, int, int, str]:
    """Phases in their order, then methods, then suggestions or seeds in theirs."""
    return ([*PHASES].index(trial.phase), trial.method, trial.number or 0, trial.seed or 0, trial.id)  # type: ignore[arg-type]


def _begun(trial: str, asked: Mapping[str, Any], sign: Mapping[str, Any] | None, error: str | None) -> Trial:
    """A trial without results, from its spec and its last sign of life."""
    base = {"base": asked["base"]} if asked.get("base") else {}
    settings = json.loads(canonical({**asked["settings"], **base}))  # as its rows will have them
    found = Trial(
        trial,
        asked["phase"],
        asked["method"],
        fingerprint([asked["method"], settings], 10),
        asked["seed"],
        asked["number"],
        _values(settings),
        "error" if error is not None else "running" if sign else "waiting",
        [],
        error=(error or "").strip(),
    )
    if sign is None:
        return found
    epochs = _epochs(sign.get("history", ()), sign["since"], sign["at"])
    return found._replace(epochs=epochs, began=sign["since"], node=sign["node"], device=sign["device"])


def _ended(table: pa.Table, shown: str) -> Trial:
    """A trial with results, from the file of its rows."""
    rows, course = table.to_pylist(), course_of(table, shown)
    first = rows[0]
    selection = [row["value"] for row in rows if row["role"] == "selection" and row["metric"] == "accuracy"]
    found = Trial(
        first["trial"],
        first["phase"],
        first["method"],
        first["configuration"],
        first["seed"],
        number_of(table),
        _values(json.loads(first["settings"])),
        first["status"],
        [],
        selection[0] if selection else None,
        _results(rows),
        error=first["error"] or "",
    )
    if course is None:
        return found
    epochs = _epochs(course.epochs, course.began, course.ended)
    return found._replace(epochs=epochs, began=course.began, ended=course.ended, node=course.node, device=course.device)


def _results(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    return {
        f"{row['metric']}/{row['dataset']}": row["value"]
        for row in rows
        if row["role"] != "train" and row["value"] is not None
    }


def _epochs(history: Iterable[Mapping[str, Any]], began: float, ended: float) -> list[Epoch]:
    """A training that an earlier phase had run took its seconds before this trial began: no epoch ends after it."""
    found, at = [], began
    for epoch in history:
        at = min(at + epoch["seconds"], ended)
        found.append(Epoch(epoch["epoch"], at, numbers_of(epoch)))
    return found


def _values(settings: Mapping[str, Any]) -> dict[str, Value]:
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in scalars(settings)
    }
