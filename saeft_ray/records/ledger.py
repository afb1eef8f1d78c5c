"""A sweep's folder in the store: what was registered, what was asked, what came of it. The truth after any crash.

<storage>/sweeps/<name>/sweep.json                 registered once; a sweep that grows says so in it (amendments.py)
<storage>/sweeps/<name>/chosen.json                written once, before the confirm phase
<storage>/sweeps/<name>/chosen/<label>.json        written once, for a method that was added later
<storage>/sweeps/<name>/chosen/<label>-others.json  written once: what shares its confirm seeds with what was chosen
<storage>/sweeps/<name>/registration.json          written once, before the first confirm trial
<storage>/sweeps/<name>/looks/<family>-<n>.json    written once, when a look is taken
<storage>/sweeps/<name>/cue.json                   written once, before the report: a cue in the training images
<storage>/sweeps/<name>/trials/<trial>/spec.json   written when a trial is dealt
<storage>/sweeps/<name>/trials/<trial>/rows.parquet  written once, when it has ended
<storage>/sweeps/<name>/trials/<trial>/more-*.parquet  the rows of test sets that were added later
<storage>/sweeps/<name>/trials/<trial>/error.parquet  why it could not be run; kept until it has rows
<storage>/sweeps/<name>/signs/<trial>.json         replaced now and then while it runs: where, and how far
<storage>/sweeps/<name>/stops/<trial>.json         who wants it to end, and since when (stops.py)
<storage>/sweeps/<name>/progress.json              replaced every minute by the driver: how far it is

`folder.py` says which of these count and how they are checked.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from saeft_ray.config.schema import AnyMethod, SweepConfig
from saeft_ray.errors import Damaged, UserError
from saeft_ray.methods import Method
from saeft_ray.records.amendments import KEY as GREW
from saeft_ray.records.amendments import Growth, Seen, amended, ended_by_phase, growth
from saeft_ray.records.course import KEY as COURSE
from saeft_ray.records.course import SPEC, Course, course_of
from saeft_ray.records.cue import FILE, Cue
from saeft_ray.records.earlier import KEY, opened_before, refuse_other_images, replaced
from saeft_ray.records.folder import RECORD, SweepFolder, read_parquet, sealed_parquet
from saeft_ray.records.merged import made_of
from saeft_ray.records.preregistration import same_look
from saeft_ray.records.read import ERROR, MORE, ROWS
from saeft_ray.records.rows import PHASES, Phase, Row, table
from saeft_ray.records.selected import Selection, selected, selection_of
from saeft_ray.records.stops import Stops
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.records.versions import changes, versions
from saeft_ray.storage.checksum import KEY as SEAL
from saeft_ray.storage.checksum import from_json, mark, to_json
from saeft_ray.storage.files import Files, is_name
from saeft_ray.storage.fingerprint import canonical, fingerprint

_log = logging.getLogger(__name__)
_METHOD: TypeAdapter[Method] = TypeAdapter(AnyMethod)


class Ledger:
    """The folder of one sweep."""

    def __init__(self, store: Files, name: str, lease: int = 0):
        """`lease` is the token of the driver that writes (lease.py); readers need none."""
        self._folder = SweepFolder(store, f"sweeps/{name}", lease)
        self.files, self.name = store, name

    def __reduce__(self) -> tuple[object, ...]:
        return Ledger, (self.files, self.name, self._folder.lease)

    @property
    def url(self) -> str:
        return self._folder.url

    @cached_property
    def stops(self) -> Stops:
        """Which of its trials somebody asked to stop."""
        return Stops(self.files, f"sweeps/{self.name}")

    def begin(self, commit: str | None, ray: Mapping[str, Any] | None = None) -> list[str]:
        """The first thing that a driver does: sets aside what is damaged, notes what it found, with which code it
        continues and on which Ray. Returns what was set aside, in words. Raises Damaged if the sweep's record is."""
        told = self._folder.begin({"commit": commit, "versions": versions(), "ray": ray})
        if told:  # rows can say what their lost spec was
            paths = set(self._folder.paths("trials"))
            for path in paths:
                if path.endswith(f"/{ROWS}") and path.replace(ROWS, SPEC) not in paths:
                    with suppress(Damaged):
                        self.begin_trial(self._spec(path, self._folder.get(path)))
        return told

    def register(self, record: dict[str, Any], extend: bool = False) -> dict[str, Any]:
        """Returns the sweep's record: `record` (`orchestration.reopen.record_of`), written now if this is its first
        run, else what its first run wrote, with what this one adds to it if `extend`. A sweep of which no trial was
        dealt may still change its settings; its record of before is set aside.

        Raises UserError if the name is taken by a sweep with other settings, and says which, and which of them could
        be added; and if another sweep of the storage had other images under the same names.
        """
        refuse_other_images(self.files, record)
        if self._folder.put_json(RECORD, record):
            return record
        known = self.record()
        grown, mended = self.growth(record), self._has_mended_tests(known, record)
        if (grown.added or grown.refused) and not self.has_trials():
            aside = self._folder.set_aside(RECORD)
            _log.warning("%s: has no trial yet and takes the changed file; its record of before is %s", self.url, aside)
            return self.register(record)
        if grown.refused:
            raise UserError(
                f"{self.url}: a sweep of this name exists with other settings:\n  " + "\n  ".join(grown.refused) + "\n"
                f"To resume it, undo these changes; to run the changed sweep, give it another name, such as "
                f"{self.name}-2: what both compute alike is found here and not computed again"
            )
        if grown.added and not extend:
            raise UserError(
                f"{self.url}: the file adds to this sweep:\n  " + "\n  ".join(grown.added) + "\n"
                "Give --extend to add this; what has ended is kept. --plan says what it costs"
            )
        for what, old, new in changes(known, record):
            _log.warning("%s: was %s when this sweep began and is %s now; both are recorded", what, old, new)
        if grown.added:
            known = amended(known, record, grown)
            self._folder.replace(RECORD, to_json(known, self._folder.lease))
        elif mended:
            _log.warning(
                "data: test images have changed since this sweep began; none was scored before, both are recorded"
            )
            known = known | {"data": record["data"], "data_before": [*known.get("data_before", []), known["data"]]}
            self._folder.replace(RECORD, to_json(known, self._folder.lease))
        return known

    def growth(self, record: Mapping[str, Any]) -> Growth:
        """What `record` adds to that of this sweep, and what of it is refused. Raises FileNotFoundError if there is no
        such sweep, UserError if it is a merge of others."""
        known = self.record()
        if made := made_of(known):
            raise UserError(f"{self.url}: is {made}, and does not run; give the sweep another name")
        grown = growth(known, record, today(known["config"]), self.seen())
        more = list[str]()
        if not self._has_mended_tests(known, record):
            same = not any(place.startswith("data") for place, _, _ in grown.changes)
            if same and known["data"]["fingerprint"] != record["data"]["fingerprint"]:
                more.append("data: the files have changed since")
            if others := replaced(known["data"], record["data"]):
                more.append(
                    f"data: the files have changed since: images of {', '.join(others)} have the names and sizes that "
                    "they had, and hold something else; restore them"
                )
        if known["model"] != record["model"]:
            more.append(f"model: was {known['model']}, is now {record['model']}")
        return grown._replace(refused=[*grown.refused, *more])

    def has_trials(self) -> bool:
        """Whether a trial was dealt: a sweep without one takes any changed file."""
        return bool(self._folder.paths("trials"))

    def seen(self) -> Seen:
        """What is known of this sweep by now."""
        ended, registered = ended_by_phase(self.finished(), PHASES), True
        with suppress(Damaged):  # then there is one
            registered = self.registration() is not None
        return Seen(ended, len(self._folder.paths("looks")), registered)

    def _has_mended_tests(self, known: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Whether nothing but test images changed, and no trial has been scored on them."""
        old, new = known["data"], record["data"]
        others = replaced(old, new)
        same = bool(old.get("search")) and old["search"] == new["search"] and not {"train", "selection"} & {*others}
        changed = old["fingerprint"] != new["fingerprint"] or bool(others)
        return same and changed and not any(trial.startswith("confirm-") for trial in self.finished())

    def record(self) -> dict[str, Any]:
        """The registered record. Raises FileNotFoundError if there is no such sweep."""
        return self._folder.get_json(RECORD)

    def choose(
        self, chosen: Mapping[str, Method], others: Mapping[str, Sequence[Method]] | None = None
    ) -> dict[str, Method]:
        """Notes the configurations that go into the confirm phase, before its first trial, and returns them; `others`
        share the seeds of a method with the chosen one. Of methods that were noted before the sweep grew, those of
        then: a larger search changes nothing that was confirmed.

        Raises UserError if the search chooses otherwise than it did and has not grown.
        """
        choice = {label: json.loads(method.model_dump_json()) for label, method in chosen.items()}
        before = self.chosen() or {}
        for label, each in (others or {}).items():
            if each and label not in before:
                self._folder.put_json(_others(label), {"others": [json.loads(m.model_dump_json()) for m in each]})
        if self._folder.put_json("chosen.json", choice):
            return dict(chosen)
        noted = self._folder.get_json("chosen.json")
        for label in choice.keys() - noted.keys():
            path = f"chosen/{label}.json"
            self._folder.put_json(path, choice[label])
            noted[label] = self._folder.get_json(path)
        if noted != choice and not self.record().get(GREW):
            raise UserError(
                f"{self.url}/chosen.json: the search now chooses otherwise than before its confirm phase; "
                "trials were removed or changed by hand. Run the sweep under another name"
            )
        return {label: _METHOD.validate_python(noted[label]) for label in chosen}

    def chosen(self) -> dict[str, Method] | None:
        """What `choose` noted; None before that."""
        with suppress(FileNotFoundError):
            noted = self._folder.get_json("chosen.json")
            for label in self.record()["config"]["methods"].keys() - noted.keys():
                with suppress(FileNotFoundError):
                    noted[label] = self._folder.get_json(f"chosen/{label}.json")
            return {label: _METHOD.validate_python(raw) for label, raw in noted.items()}
        return None

    def others(self, labels: Iterable[str]) -> dict[str, list[Method]]:
        """What shares the confirm seeds of each method with its chosen configuration, as `choose` noted it."""
        found, there = dict[str, list[Method]](), self._folder.paths("chosen")
        for label in labels:
            if _others(label) in there:
                noted = self._folder.get_json(_others(label))["others"]
                found[label] = [_METHOD.validate_python(raw) for raw in noted]
        return found

    def preregister(self, registered: Mapping[str, Any]) -> dict[str, Any]:
        """Notes what the confirm phase will test and how, before its first trial, and which sweeps opened its test sets
        before; what was noted first stays, and is returned. A report compares it with the sweep's own and calls itself
        exploratory where they differ."""
        if (noted := self.registration()) is not None:
            return noted
        earlier = opened_before(self.files, self.record())
        self._folder.put_json("registration.json", {**registered, **({KEY: earlier} if earlier else {})})
        return self._folder.get_json("registration.json")

    def registration(self) -> dict[str, Any] | None:
        """What `preregister` noted first; None before that."""
        with suppress(FileNotFoundError):
            return self._folder.get_json("registration.json")
        return None

    def note_cue(self, cue: Mapping[str, Any]) -> None:
        """Notes what was found of a cue in the training images (`records.cue.Cue`); what was noted first stays."""
        self._folder.put_json(FILE, cue)

    def cue(self) -> Cue | None:
        """What `note_cue` noted; None before that."""
        with suppress(FileNotFoundError):
            return Cue(**self._folder.get_json(FILE))
        return None

    def look(self, look: Mapping[str, Any]) -> None:
        """Notes a look once. Raises UserError if it was taken before with another outcome."""
        path = f"looks/{look['family']}-{look['n']}.json"
        if not self._folder.put_json(path, look) and not same_look(self._folder.get_json(path), look):
            raise UserError(
                f"{self.url}: the look of {look['family']} at {look['n']} seeds comes out otherwise than when it "
                "was taken; rows were removed or changed by hand. Run the sweep under another name"
            )

    def asked(self, phase: Phase) -> list[TrialSpec]:
        """Every trial of `phase` that was ever dealt, by number."""
        paths = [path for path in self._folder.paths("trials") if path.startswith(f"trials/{phase}-")]
        dealt = {path.split("/")[1]: path for path in paths if path.endswith(f"/{SPEC}")}
        lost = [path for path in paths if path.endswith(f"/{ROWS}") and path.split("/")[1] not in dealt]
        files = self._folder.get_many([*dealt.values(), *lost])
        specs = [self._spec(path, data) for path, data in files.items()]
        return sorted(specs, key=lambda spec: (spec.number, spec.id))

    def spec(self, trial: str) -> TrialSpec:
        """The spec of one trial. Raises FileNotFoundError, also for what cannot be a trial's name."""
        for path in (f"trials/{trial}/{SPEC}", f"trials/{trial}/{ROWS}") if is_name(trial) else ():
            with suppress(FileNotFoundError):
                return self._spec(path, self._folder.get(path))
        raise FileNotFoundError(f"{self.url}/trials/{trial}: no such trial")

    def no_trial(self, name: str) -> str:
        """Why `name` is no trial here, and which trials it may have meant: those of the method of that name."""
        of_method = [spec.id for spec in self.asked("confirm") if spec.method == name]
        if of_method:
            return f"{self.url}: {name!r} is a method; its confirm trials are {', '.join(of_method)}"
        return f"{self.url}: no trial {name!r} there; see the trial column of its results"

    def begin_trial(self, spec: TrialSpec) -> None:
        """Notes that `spec` is about to run; what was dealt before a restart stays."""
        self._folder.put_json(f"trials/{spec.id}/{SPEC}", spec.model_dump(mode="json"))

    def finish(self, spec: TrialSpec, rows: Iterable[Row], course: Course | None = None) -> None:
        """Writes the rows of a trial that has ended, with how it went; the first result of a trial is kept."""
        self._folder.put(f"trials/{spec.id}/{ROWS}", self._parquet(spec, rows, course))

    def add(self, spec: TrialSpec, rows: Sequence[Row]) -> None:
        """Writes rows of test sets that were added after the trial had ended; what was scored first is kept."""
        if rows:
            key = fingerprint(sorted({row.dataset for row in rows}), 10)
            self._folder.put(f"trials/{spec.id}/{MORE}{key}.parquet", self._parquet(spec, rows))

    def give_up(self, spec: TrialSpec, error: str) -> None:
        """Writes that a trial could not be run and why. It does not count as finished: the next start tries again."""
        row = spec.row(self.name, "selection", "selection", "accuracy", None, status="error", error=error)
        self._folder.replace(f"trials/{spec.id}/{ERROR}", self._parquet(spec, [row]))

    def finished(self) -> set[str]:
        """The trials that have rows."""
        return {path.split("/")[1] for path in self._folder.paths("trials") if path.endswith(f"/{ROWS}")}

    def rows(self, trial: str) -> list[Row]:
        """The rows that a finished trial ended with. Raises FileNotFoundError."""
        path = f"trials/{trial}/{ROWS}"
        return _rows(self._folder.get(path), f"{self.url}/{path}")

    def all_rows(self, trial: str) -> list[Row]:
        """The same, and those of test sets that were added later."""
        found = self.rows(trial)
        more = [path for path in self._folder.paths(f"trials/{trial}") if path.rpartition("/")[2].startswith(MORE)]
        for path, data in self._folder.get_many(sorted(more)).items():
            found += _rows(data, f"{self.url}/{path}")
        return found

    def lacking(self, sets: Iterable[str]) -> list[TrialSpec]:
        """The confirm trials that have ended and were not scored on all test sets of `sets`, by number."""
        wanted, scored = set(sets), defaultdict[str, set[str]](set)
        paths = [path for path in self._folder.paths("trials") if path.startswith("trials/confirm-")]
        names = {path: path.rpartition("/")[2] for path in paths}
        kept = [path for path, name in names.items() if name == ROWS or name.startswith(MORE)]
        for path, data in self._folder.get_many(kept).items():
            scored[path.split("/")[1]] |= {row.dataset for row in _rows(data, f"{self.url}/{path}")}
        return [spec for spec in self.asked("confirm") if spec.id in scored and wanted - scored[spec.id]]

    def course(self, trial: str) -> Course | None:
        """How a finished trial went; None if it ended before that was kept. Raises FileNotFoundError."""
        path = f"trials/{trial}/{ROWS}"
        shown = f"{self.url}/{path}"
        return course_of(read_parquet(self._folder.get(path), shown), shown)

    def statuses(self, phase: Phase) -> dict[str, str]:
        """How every trial of `phase` has ended that has rows."""
        return {trial: rows[0].status for trial, rows in self._ended(phase).items()}

    def results(self, phase: Phase) -> dict[str, float | None]:
        """Selection accuracy of every finished trial of `phase`; None for those that failed or were stopped on
        purpose."""
        return {trial: numbers["accuracy"] for trial, numbers in self.selection(phase).numbers.items()}

    def stopped(self, phase: Phase) -> set[str]:
        """The finished trials of `phase` that somebody stopped on purpose."""
        return self.selection(phase).stopped

    def selection(self, phase: Phase) -> Selection:
        """What the finished trials of `phase` came to on the selection split."""
        return selection_of(self._ended(phase))

    def selection_row(self, trial: str) -> Row:
        """The row of the selection accuracy of a finished trial. Raises FileNotFoundError."""
        return selected(self.rows(trial))

    def courses(self, phase: Phase) -> dict[str, Course]:
        """How the finished trials of `phase` went; without those that ended before that was kept."""
        found = {path.split("/")[1]: course_of(read_parquet(data, path), path) for path, data in self._files(phase)}
        return {trial: course for trial, course in found.items() if course is not None}

    def _ended(self, phase: Phase) -> dict[str, list[Row]]:
        """The rows of the finished trials of `phase`."""
        return {path.split("/")[1]: _rows(data, path) for path, data in self._files(phase)}

    def _files(self, phase: Phase) -> Iterable[tuple[str, bytes]]:
        paths = [f"trials/{trial}/{ROWS}" for trial in sorted(self.finished()) if trial.startswith(f"{phase}-")]
        return self._folder.get_many(paths).items()

    def show_life(self, trial: str, sign: Mapping[str, Any]) -> None:
        """Replaces the last sign of life of a running trial: node, device, since, at, epoch, epochs,
        and as `history` the epochs of its course."""
        self._folder.replace(f"signs/{trial}.json", to_json(sign, self._folder.lease))

    def signs(self, trials: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The last signs of `trials`, of those that gave one under the newest lease."""
        files = self._folder.get_many(f"signs/{trial}.json" for trial in trials)
        return {path[len("signs/") : -len(".json")]: from_json(data, path) for path, data in files.items()}

    def show_progress(self, progress: Mapping[str, Any]) -> None:
        """Replaces what the driver last said of how far it is."""
        self._folder.replace("progress.json", to_json(progress, self._folder.lease))

    def _parquet(self, spec: TrialSpec, rows: Iterable[Row], course: Course | None = None) -> bytes:
        """Rows that carry the spec too, so that they alone can say what was run."""
        about = {SPEC: spec.model_dump_json(), SEAL: mark(self._folder.lease)}
        if course is not None:
            about[COURSE] = course.json()
        return sealed_parquet(table(rows), about)

    def _spec(self, path: str, data: bytes) -> TrialSpec:
        shown = f"{self.url}/{path}"
        if path.endswith(SPEC):
            return _valid(json.dumps(from_json(data, shown)), shown)
        text = (read_parquet(data, shown).schema.metadata or {}).get(SPEC.encode())
        if text is None:
            raise Damaged(f"{shown}: holds no {SPEC}, and there is none next to it")
        return _valid(text, shown)


def _others(label: str) -> str:
    return f"chosen/{label}-others.json"


def _valid(text: str | bytes, shown: str) -> TrialSpec:
    try:
        return TrialSpec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(
            f"{shown}: does not fit this version of saeft_ray ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
            "use the version that sweep.json names"
        ) from error


def _rows(data: bytes, shown: str) -> list[Row]:
    return [Row(**row) for row in read_parquet(data, shown).to_pylist()]


def today(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a sweep with the defaults of those that could not be set when it began."""
    try:
        known = SweepConfig.model_validate_json(json.dumps({**config, "storage": {"url": "."}}))
    except ValueError:  # a setting is gone: it stays a difference, and is reported
        return config
    today: dict[str, Any] = json.loads(canonical(known.determining_settings()))
    return today
