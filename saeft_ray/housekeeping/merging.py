"""Two sweeps made into one that holds the trials of both: for more methods, or more seeds, in one report.

It is a new sweep beside them, which does not run. Its trials are copies of theirs, byte for byte, so that their rows
say which sweep they are of. Nobody registered what it tests, so its report calls itself exploratory
(docs/statistics.md 2.1).
"""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saeft_ray.errors import UserError
from saeft_ray.housekeeping.inventory import Name
from saeft_ray.housekeeping.ownership import look
from saeft_ray.methods import Method
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.orchestration.signals import interrupt
from saeft_ray.orchestration.tally import Tally
from saeft_ray.records.amendments import KEY as GREW
from saeft_ray.records.course import SPEC
from saeft_ray.records.differing import ABSENT, differing
from saeft_ray.records.folder import RECORD, SweepFolder
from saeft_ray.records.held import holders
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger, today
from saeft_ray.records.merged import KEY
from saeft_ray.records.read import MORE, ROWS
from saeft_ray.records.rows import PHASES, Row
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.records.versions import commit
from saeft_ray.storage.files import is_name
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.store import Store

_FREE = {"name", "methods", "confirm"}  # sections of the settings that two sweeps may have of their own
_OWN = {"model", "data"}  # what these came to counts, wherever the files lie
_FOUND = ("fingerprint", "train", "search", "sizes", "roles", "classes", "image_size", "width", "tests", "class_names")
_LISTED = 10


@dataclass(frozen=True)
class Part:
    """One of the two: `trials` are those that have ended."""

    url: str
    store: Store
    ledger: Ledger
    record: Mapping[str, Any]
    chosen: Mapping[str, Method]
    trials: Mapping[str, TrialSpec]

    @property
    def name(self) -> str:
        return str(self.record["name"])


@dataclass(frozen=True)
class Merge:
    """What `merged` made: the folder of the new sweep, its trials, how many of them both sweeps had, and the artifacts
    that were copied from another storage."""

    url: str
    trials: int
    shared: int
    copied: int


def merged(store: Store, first: str, second: str, into: str) -> Merge:
    """Makes the sweep `into` of the sweeps `first` and `second`, which stay as they are.

    `first` and `second` are names in `store`, or folders or URLs of sweeps elsewhere, whose artifacts are copied.

    Raises UserError where the two may not be one: every difference is named; also where one of them runs, where a trial
    has different rows in both, where a method has other values in each, and where there is a sweep `into`.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", into):
        raise UserError(f"{into!r} cannot be the name of a sweep: use A-Z a-z 0-9 _ - and begin with a letter or digit")
    target = Ledger(store, into)
    _check_free(store, target, into)
    parts = [_opened(store, asked) for asked in (first, second)]
    if parts[0].url == parts[1].url:
        raise UserError(f"{first}: was given twice; give two sweeps")
    _check_alike(*parts)
    shared = _check_trials(*parts)
    with Lease(store, f"sweeps/{into}", on_lost=interrupt):
        _check_free(store, target, into)
        copied = sum(_copy_artifacts(part, store) for part in parts if part.store.url != store.url)
        files = dict[str, bytes]()
        for part in reversed(parts):  # of what both have, the first one's
            files |= _files(part)
        folder = SweepFolder(store, f"sweeps/{into}")
        for path, content in files.items():
            folder.put(path, content)
        target.choose({**parts[1].chosen, **parts[0].chosen})
        tally, trials = Tally(), {**parts[0].trials, **parts[1].trials}
        tally.begin("confirm", *[sum(spec.phase == "confirm" for spec in trials.values())] * 2)
        target.show_progress({**tally.json(), "ended": "done"})
        folder.put_json(RECORD, _record(into, *parts))  # last: before, there is no such sweep
    return Merge(target.url, len(trials), len(shared), copied)


def _check_free(store: Store, target: Ledger, into: str) -> None:
    there = [path for path in store.list(f"sweeps/{into}") if not path.startswith(f"sweeps/{into}/leases/")]
    if f"sweeps/{into}/{RECORD}" in there:
        raise UserError(f"{target.url}: exists already; give a name that no sweep has")
    if there:
        raise UserError(
            f"{target.url}: holds what a merge or a sweep left that did not get far; remove it first: python -m "
            f"saeft_ray.storage {store.url} rm {into}; or give another name"
        )


def _opened(store: Store, asked: str) -> Part:
    """The sweep of that name in `store`, or at that place. Raises UserError if there is none, or if it runs."""
    url = f"{store.url}/sweeps/{asked}" if is_name(asked) else asked
    _, ledger, at = reopen(url, store.endpoint)
    sweep = ledger.url.rpartition("/")[2]
    if owner := holders(at, at.list(f"sweeps/{sweep}")).get(sweep):
        raise UserError(
            f"{ledger.url}: process {owner.process} on {owner.host} runs this sweep since {owner.since}; wait for it"
        )
    ended = ledger.finished()
    trials = {spec.id: spec for phase in PHASES for spec in ledger.asked(phase) if spec.id in ended}
    if not any(spec.phase == "confirm" for spec in trials.values()):
        raise UserError(f"{ledger.url}: no trial of its confirm phase has ended; there is nothing to merge yet")
    return Part(ledger.url, at, ledger, ledger.record(), ledger.chosen() or {}, trials)


def _check_alike(first: Part, second: Part) -> None:
    """Raises UserError, which names each difference, unless seeds and methods of the two mean the same."""
    for part in (first, second):
        if shared := part.ledger.others(part.chosen):
            raise UserError(
                f"{part.name}: {', '.join(shared)} has several configurations in confirm, dealt over its seeds; with "
                "the seeds of another sweep none of them would have its share. `python -m saeft_ray.compare` shows "
                "sweeps side by side"
            )
    differences = [*differing(_fixed(first.record, second.record), _fixed(second.record, first.record))]
    asked = [part.record["config"]["methods"] for part in (first, second)]
    for label in sorted(asked[0].keys() & asked[1].keys()):
        differences += differing(asked[0][label], asked[1][label], f"methods.{label}")
        if asked[0][label] == asked[1][label] and label in first.chosen.keys() & second.chosen.keys():
            chosen = [part.chosen[label].model_dump(mode="json") for part in (first, second)]
            differences += differing(chosen[0], chosen[1], f"methods.{label}, as its search chose it")
    found = [f"{place}: {_shown(a)} in {first.name}, {_shown(b)} in {second.name}" for place, a, b in differences]
    if found:
        raise UserError(
            f"{first.name} and {second.name} cannot be one sweep, for they differ:\n  " + "\n  ".join(found) + "\n"
            "`python -m saeft_ray.compare` shows such sweeps side by side"
        )


def _fixed(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same in `record` as in `other`: the settings but for methods and seeds, and what model and data
    came to, as far as records of their age say it."""
    settings = {name: value for name, value in today(record["config"]).items() if name not in _FREE | _OWN}
    rules = {name: value for name, value in settings["report"].items() if name != "compare"}
    data = {name: record["data"][name] for name in _FOUND if name in record["data"].keys() & other["data"].keys()}
    found: dict[str, Any] = {
        name: record[name] for name in ("model", "imported", "preprocessing") if name in record.keys() & other.keys()
    }
    return {**settings, "report": rules, "data": data, **found}


def _check_trials(first: Part, second: Part) -> list[str]:
    """The trials that both have. Raises UserError, which names them, if some came out differently."""
    shared = sorted(first.trials.keys() & second.trials.keys())
    if other := [trial for trial in shared if _compared(first, trial) != _compared(second, trial)]:
        more = f" and {len(other) - _LISTED} more" if len(other) > _LISTED else ""
        raise UserError(
            f"{first.name} and {second.name} cannot be one sweep: {', '.join(other[:_LISTED])}{more} came out "
            "differently in the two, and one trial has one result. They ran on other code or machines; "
            "`python -m saeft_ray.compare` shows them side by side"
        )
    return shared


def _compared(part: Part, trial: str) -> list[dict[str, Any]]:
    """The rows of a trial without what says where and how fast it ran."""
    rows: Iterable[Row] = part.ledger.all_rows(trial)
    kept = [{**asdict(row), "sweep": ""} for row in rows if row.metric != "seconds"]
    return sorted(kept, key=lambda row: (row["dataset"], row["metric"]))


def _files(part: Part) -> dict[str, bytes]:
    """What a sweep keeps of its ended trials, by path in its folder: specs and rows, and scores on other images."""
    root = f"sweeps/{part.name}/"
    wanted = list(part.store.list(f"{root}evaluations"))
    for path in part.store.list(f"{root}trials"):
        trial, _, name = path.removeprefix(f"{root}trials/").partition("/")
        if trial in part.trials and (name in (SPEC, ROWS) or name.startswith(MORE)):
            wanted.append(path)
    return {path.removeprefix(root): data for path, data in part.store.read_many(wanted).items()}


def _copy_artifacts(part: Part, store: Store) -> int:
    """Copies the artifacts that a sweep of another storage names, and that are not there; returns their number."""
    found = look(part.store)
    if why := found.unaccounted.get(part.name):
        raise UserError(f"{part.url}: its artifacts cannot be told, so that they cannot be copied: {why}")
    named, _ = found.named(part.name)
    missing = [name for name in named if name.kind not in ("checkpoint", "shard") and not store.has(*name)]
    for name in missing:
        _copy(name, part.store, store)
    return len(missing)


def _copy(name: Name, source: Store, target: Store) -> None:
    manifest, files = source.manifest(*name), source.get(*name)
    assert manifest is not None, "what was got has a manifest"

    def write(folder: Path) -> None:
        for file in manifest.files:
            shutil.copyfile(files / file, folder / file)

    target.save(*name, write, manifest.describe)


def _record(into: str, first: Part, second: Part) -> dict[str, Any]:
    """The record of the merge: the first one's, with what the second adds, and what it was made of."""
    a, b = first.record, second.record
    ran = {spec.seed for part in (first, second) for spec in part.trials.values() if spec.phase == "confirm"}
    seeds = [seed for seed in dict.fromkeys([*a["confirm_seeds"], *b["confirm_seeds"]]) if seed in ran]
    config = {
        **a["config"],
        "name": into,
        "methods": {**b["config"]["methods"], **a["config"]["methods"]},
        "confirm": {**a["config"]["confirm"], "seeds": max(1, len(seeds)), "overrun": 0},
        "report": {**a["config"]["report"], "compare": _pairs(a, b)},
    }
    return {
        **{name: value for name, value in a.items() if name not in ("ray", "features", GREW)},
        "name": into,
        "identity": fingerprint(config),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _both(a["commit"], b["commit"]),
        "versions": {
            name: _both(a["versions"].get(name), b["versions"].get(name)) for name in {**a["versions"], **b["versions"]}
        },
        "config": config,
        "confirm_seeds": seeds,
        "methods": {**a["methods"], **b["methods"]},
        **({"arms": arms} if (arms := {**a.get("arms", {}), **b.get("arms", {})}) else {}),
        KEY: {"of": [_origin(part) for part in (first, second)], "commit": commit()},
    }


def _origin(part: Part) -> dict[str, Any]:
    """What the merge says of one of the two: enough to find it, and to know how its number of seeds came about."""
    record = part.record
    return {
        "sweep": part.name,
        "storage": part.store.url,
        "created": record["created"],
        "commit": record["commit"],
        "confirm": record["config"]["confirm"],
        "registered": part.ledger.registration() is not None,
        "trials": len(part.trials),
        **{name: record[name] for name in (KEY, GREW) if name in record},
    }


def _pairs(*records: Mapping[str, Any]) -> list[list[str]]:
    """The declared pairs of all, each once, as the first has it that declares it."""
    found: dict[frozenset[str], list[str]] = {}
    for record in records:
        for pair in record["config"]["report"].get("compare", ()):
            found.setdefault(frozenset(pair), list(pair))
    return list(found.values())


def _both(a: Any, b: Any) -> Any:
    return a if a == b else f"{a or 'unknown'} and {b or 'unknown'}"


def _shown(value: object) -> str:
    return "nothing" if value is ABSENT else repr(value)
