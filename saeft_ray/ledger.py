"""A sweep's folder in the store: what was registered, what was asked, what came of it. The truth after any crash.

<storage>/sweeps/<name>/sweep.json                 registered once, never changed
<storage>/sweeps/<name>/chosen.json                written once, before the confirm phase
<storage>/sweeps/<name>/registration.json          written once, before the first confirm trial
<storage>/sweeps/<name>/looks/<family>-<n>.json    written once, when a look is taken
<storage>/sweeps/<name>/trials/<trial>/spec.json   written when a trial is dealt
<storage>/sweeps/<name>/trials/<trial>/rows.parquet  written once, when it has ended
"""

import io
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import pyarrow.parquet as pq

from saeft_ray.config import SweepConfig
from saeft_ray.identity import canonical, fingerprint
from saeft_ray.methods import Method
from saeft_ray.plan import Facts, Plan, TrialSpec, row_of
from saeft_ray.registration import same_look
from saeft_ray.rows import Phase, Row, table
from saeft_ray.store import Store

PACKAGES = ("saeft_ray", "torch", "open_clip_torch", "ray", "optuna", "numpy", "scipy")


class Ledger:
    """The folder of one sweep."""

    def __init__(self, store: Store, name: str):
        self._store, self._folder = store, f"sweeps/{name}"

    @property
    def url(self) -> str:
        return f"{self._store.url}/{self._folder}"

    def register(self, plan: Plan, commit: str | None) -> dict[str, Any]:
        """The sweep's record, written now if this is its first run.

        Raises ValueError if the name is taken by a sweep with other settings, and says which.
        """
        record = _record(plan, commit)
        try:
            self._store.write_once(f"{self._folder}/sweep.json", json.dumps(record, indent=1).encode())
            return record
        except FileExistsError:
            known = self.record()
        changes = list(_differences(known["config"], record["config"]))
        if known["data"]["fingerprint"] != record["data"]["fingerprint"]:
            changes.append("data: the files have changed since")
        if known["model"] != record["model"]:
            changes.append(f"model: was {known['model']}, is now {record['model']}")
        if changes:
            raise ValueError(
                f"{self.url}: a sweep of this name exists with other settings:\n  " + "\n  ".join(changes) + "\n"
                "To resume it, undo these changes; to run the changed sweep, give it another name"
            )
        return known

    def record(self) -> dict[str, Any]:
        """The registered record. Raises FileNotFoundError if there is no such sweep."""
        return json.loads(self._store.read_bytes(f"{self._folder}/sweep.json"))  # type: ignore[no-any-return]

    def choose(self, chosen: Mapping[str, Method]) -> None:
        """Notes the configurations that go into the confirm phase, before its first trial."""
        choice = {label: method.model_dump(mode="json") for label, method in chosen.items()}
        try:
            self._store.write_once(f"{self._folder}/chosen.json", json.dumps(choice, indent=1).encode())
        except FileExistsError:
            known = json.loads(self._store.read_bytes(f"{self._folder}/chosen.json"))
            if known != json.loads(json.dumps(choice)):
                raise ValueError(
                    f"{self.url}/chosen.json: the search now chooses otherwise than before its confirm phase; "
                    "trials were removed or changed by hand. Run the sweep under another name"
                ) from None

    def preregister(self, registered: Mapping[str, Any]) -> None:
        """Notes what the confirm phase will test and how, before its first trial; what was noted first stays. A report
        compares it with the sweep's own and calls itself exploratory where they differ."""
        with suppress(FileExistsError):
            text = json.dumps(registered, indent=1).encode()
            self._store.write_once(f"{self._folder}/registration.json", text)

    def look(self, look: Mapping[str, Any]) -> None:
        """Notes a look once. Raises ValueError if it was taken before with another outcome."""
        path = f"{self._folder}/looks/{look['family']}-{look['n']}.json"
        try:
            self._store.write_once(path, json.dumps(look, indent=1).encode())
        except FileExistsError:
            if not same_look(json.loads(self._store.read_bytes(path)), look):
                raise ValueError(
                    f"{self.url}: the look of {look['family']} at {look['n']} seeds comes out otherwise than when it "
                    "was taken; rows were removed or changed by hand. Run the sweep under another name"
                ) from None

    def asked(self, phase: Phase) -> list[TrialSpec]:
        """Every trial of `phase` that was ever dealt, by number."""
        names = [name for name in self._trials("spec.json") if name.startswith(f"{phase}-")]
        return sorted((self.spec(name) for name in names), key=lambda spec: (spec.number, spec.id))

    def spec(self, trial: str) -> TrialSpec:
        """The spec of one trial. Raises FileNotFoundError."""
        return TrialSpec.model_validate_json(self._store.read_bytes(f"{self._folder}/trials/{trial}/spec.json"))

    def deal(self, spec: TrialSpec) -> None:
        """Notes that `spec` is about to run."""
        with suppress(FileExistsError):  # dealt before a restart
            self._store.write_once(f"{self._folder}/trials/{spec.id}/spec.json", spec.model_dump_json().encode())

    def finish(self, spec: TrialSpec, rows: Iterable[Row]) -> None:
        """Writes the rows of a trial that has ended; the first result of a trial is kept."""
        buffer = io.BytesIO()
        pq.write_table(table(rows), buffer, compression="zstd")
        with suppress(FileExistsError):
            self._store.write_once(f"{self._folder}/trials/{spec.id}/rows.parquet", buffer.getvalue())

    def stop(self, spec: TrialSpec, selection: float | None) -> None:
        """Writes the one row of a trial that the search stopped early: what its last epoch was worth."""
        row = row_of(self._folder.rpartition("/")[2], spec, "selection", "selection", "accuracy", selection)
        self.finish(spec, [replace(row, status="stopped")])

    def finished(self) -> set[str]:
        """The trials that have rows."""
        return set(self._trials("rows.parquet"))

    def rows(self, trial: str) -> list[Row]:
        """The rows of one finished trial. Raises FileNotFoundError."""
        data = self._store.read_bytes(f"{self._folder}/trials/{trial}/rows.parquet")
        return [Row(**row) for row in pq.read_table(io.BytesIO(data)).to_pylist()]

    def results(self, phase: Phase) -> dict[str, float | None]:
        """Selection accuracy of every finished trial of `phase`; None for those that failed."""
        found = {}
        for trial in self.finished():
            if trial.startswith(f"{phase}-"):
                (found[trial],) = (row.value for row in self.rows(trial) if row.role == "selection")
        return found

    def _trials(self, file: str) -> list[str]:
        paths = self._store.list(f"{self._folder}/trials")
        return [path.split("/")[-2] for path in paths if path.endswith(f"/{file}")]


def reopen(storage: str, endpoint: str | None = None) -> tuple[Plan, Ledger, Store]:
    """The plan, ledger and store of the sweep in folder `storage`. Raises ValueError if there is none."""
    root, _, name = storage.rstrip("/").rpartition("/sweeps/")
    store = Store(root or ".", endpoint=endpoint)
    ledger = Ledger(store, name)
    try:
        record = ledger.record()
    except FileNotFoundError as error:
        raise ValueError(
            f"no sweep at {storage}: it has no sweep.json; give the folder that `python -m saeft_ray.sweep` printed"
        ) from error
    config = SweepConfig.model_validate_json(
        json.dumps({**record["config"], "storage": {"url": store.url, "endpoint": endpoint}})
    )
    data = record["data"]
    facts = Facts(
        model=record["model"],
        image_size=data["image_size"],
        width=data["width"],
        data=data["fingerprint"],
        sizes=data["sizes"],
        classes=data["classes"],
        imported=record.get("imported"),
        train=data.get("train"),
    )
    return Plan(config, facts), ledger, store


def _record(plan: Plan, commit: str | None) -> dict[str, Any]:
    config, facts = plan.config, plan.facts
    return {
        "name": config.name,
        "identity": fingerprint(config.science()),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "versions": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
        "config": json.loads(canonical(config.science())),
        "model": facts.model,
        "imported": facts.imported,
        "data": {
            "fingerprint": facts.data,
            "train": facts.train,
            "classes": facts.classes,
            "sizes": facts.sizes,
            "roles": dict(config.data.test_sets()),
            "image_size": facts.image_size,
            "width": facts.width,
        },
        "confirm_seeds": plan.seeds("confirm"),
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _differences(old: Any, new: Any, place: str = "") -> Iterable[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            dotted = f"{place}.{key}" if place else key
            if key not in old:
                yield f"{dotted}: was absent, is now {new[key]!r}"
            elif key not in new:
                yield f"{dotted}: was {old[key]!r}, is now absent"
            else:
                yield from _differences(old[key], new[key], dotted)
    elif old != new:
        yield f"{place}: was {old!r}, is now {new!r}"
