"""A sweep that grows: what its file may add to the record of before, what it may not, and what had been seen by then.

The record (`sweep.json`) always says what the sweep is now. Its list `amendments` says when it grew, in what, what had
been seen, and what its settings were before; so what was registered can be told from what came later.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from saeft_ray.config.choose import is_dealt
from saeft_ray.records.differing import ABSENT, differing

KEY = "amendments"
_COUNTS = {"search.trials", "rerank.top", "rerank.seeds", "confirm.seeds", "confirm.seeds.max"}
_REGISTERED = {"confirm.engine", "confirm.overrun", "confirm.seeds", "confirm.draw", "confirm.choices"}
_REGISTERED |= {"choose", "curves"}
_KEPT = ("config", "data", "confirm_seeds", "methods", "arms")
_DEALT = "seeds were dealt over several configurations, and no test with more of them would hold after a look"
_COMPARABLE = "what has been trained would not be comparable with what comes"


class Seen(NamedTuple):
    """What is known of a sweep when it grows: ended trials by phase, looks that were taken, and whether its confirm
    phase is registered."""

    ended: dict[str, int]
    looks: int
    registered: bool

    @property
    def tests(self) -> bool:
        """Whether test sets have been opened."""
        return self.ended.get("confirm", 0) > 0

    def in_words(self) -> str:
        trials = ", ".join(f"{count} of the {phase} phase" for phase, count in self.ended.items())
        looks = f"; {self.looks} look{'s' if self.looks > 1 else ''} taken" if self.looks else ""
        opened = "test sets were open" if self.tests else "no test set was open"
        return f"ended trials: {trials or 'none'}{looks}; {opened}"


class Growth(NamedTuple):
    """How a sweep file differs from the record of its sweep, of which so much had been `seen`: `added` in words, and
    `refused`, each with its reason. `changes` are the places with both values."""

    added: list[str]
    refused: list[str]
    changes: list[tuple[str, Any, Any]]
    seen: Seen


def growth(known: Mapping[str, Any], record: Mapping[str, Any], settings: Mapping[str, Any], seen: Seen) -> Growth:
    """What `record` adds to the `known` one, whose settings, with today's defaults, are `settings`."""
    added, refused = list[str](), list[str]()
    changes = list(differing(settings, record["config"]))
    dealt = seen.registered and is_dealt(settings)
    in_data = [place for place, _, _ in changes if place.partition(".")[0] == "data"]
    for place, old, new in changes:
        if place not in in_data:
            why = _why_not(place, old, new, seen) or (_DEALT if dealt and place == "confirm.seeds" else "")
            (refused if why else added).append(f"{place}: {_from_to(place, old, new)}{f'; {why}' if why else ''}")
    if in_data:
        sets, why = _test_sets(known["data"], record["data"])
        if why:
            refused += [
                f"{place}: was {old!r}, is now {new!r}; {why}" for place, old, new in changes if place in in_data
            ]
        else:
            added.append(f"test sets: {', '.join(sets)}" if sets else f"{', '.join(in_data)}: another way to the same")
    return Growth(added, refused, [(place, _plain(old), _plain(new)) for place, old, new in changes], seen)


def amended(known: Mapping[str, Any], record: Mapping[str, Any], grown: Growth) -> dict[str, Any]:
    """The record of a sweep from now on: what it is by `record`, and when and how it came to be."""
    amendment = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": record["commit"],
        "versions": record["versions"],
        "added": grown.added,
        "changes": [list(change) for change in grown.changes],
        "seen": grown.seen._asdict(),
        "before": {name: known[name] for name in _KEPT if name in known},
    }
    kept = {name: known[name] for name in ("created", "commit", "versions", "ray") if name in known}
    return {**known, **record, **kept, KEY: [*known.get(KEY, []), amendment]}


def later(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The amendments that were made when the confirm phase had been registered, in order of time."""
    return [each for each in record.get(KEY, []) if each["seen"]["registered"]]


def as_registered(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it was when the confirm phase was registered."""
    after = later(record)
    return {**record, **after[0]["before"]} if after else dict(record)


def added_sets(record: Mapping[str, Any]) -> list[str]:
    """The test sets that were added after the registration."""
    before = as_registered(record)["data"]["roles"] if "data" in record else {}
    return [name for name in (record.get("data") or {}).get("roles", {}) if name not in before]


def _why_not(place: str, old: Any, new: Any, seen: Seen) -> str:
    """Why the setting at `place` cannot become `new`; "" if it can."""
    section, _, rest = place.partition(".")
    if section == "methods":
        if old is ABSENT and "." not in rest:
            return ""
        label = rest.partition(".")[0]
        if new is ABSENT and "." not in rest:
            return "a method is never taken away: its results would be hidden"
        return f"give the method with other settings another label beside {label}"
    if place in _COUNTS and isinstance(old, int) and isinstance(new, int):
        return "" if new > old else "it can only grow: what has been done stays"
    if place == "report.compare":
        gone = [pair for pair in map(list, old) if pair not in [list(each) for each in new]]
        return f"the pairs {gone} are never taken away; add to them" if gone else ""
    if section == "report" or place in _REGISTERED:
        if not seen.registered:
            return ""
        return "it was registered before the confirm phase; changed after a look it could be chosen by what was seen"
    return _COMPARABLE


def _test_sets(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], str]:
    """The sets that are new in `data` of a record; and why the data cannot change that way, "" if they can."""
    if not old.get("search") or old["search"] != new["search"]:
        return [], _COMPARABLE
    before, now = old.get("tests", {}), new["tests"]
    if gone := [name for name in old["roles"] if name not in new["roles"]]:
        return [], f"the test sets {', '.join(gone)} are never taken away"
    changed = [n for n in before if before[n] != now[n] or old["roles"][n] != new["roles"][n]]
    if changed:
        return [], f"{', '.join(changed)} would have other images or another role under one name; give a new name"
    return [name for name in new["roles"] if name not in old["roles"]], ""


def _from_to(place: str, old: Any, new: Any) -> str:
    if old is ABSENT:
        return "new"
    if place == "report.compare":
        return ", ".join("-".join(pair) for pair in new if list(pair) not in [list(each) for each in old]) or "changed"
    return f"was {old!r}, is now {new!r}"


def _plain(value: Any) -> Any:
    """JSON, where an absent value is null."""
    return None if value is ABSENT else json.loads(json.dumps(value))


def ended_by_phase(finished: Iterable[str], phases: Iterable[str]) -> dict[str, int]:
    """How many of the trials `finished` are of each phase; without those that have none."""
    names = list(finished)
    counts = {phase: sum(name.startswith(f"{phase}-") for name in names) for phase in phases}
    return {phase: count for phase, count in counts.items() if count}
