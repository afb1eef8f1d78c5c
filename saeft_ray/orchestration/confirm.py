"""Run until decided: the queue of the confirm phase that gives no more seeds to a method that has its verdict.

Looks are taken when the registered number of seeds has ended for every hypothesis that is still open, so the verdicts
are a function of the rows and not of who finished first. They are taken again from the rows after a restart.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

from saeft_ray.records.course import Course
from saeft_ray.records.preregistration import designs, name_of
from saeft_ray.records.rows import Phase, Row
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.stats import Design, Look, replay

_AHEAD = 1  # seeds beyond the next look, so that free workers need not wait for it


class Log(Protocol):
    """What the queue asks of the ledger."""

    def finished(self) -> set[str]: ...

    def rows(self, trial: str) -> list[Row]: ...

    def look(self, look: Mapping[str, Any]) -> None: ...


class _Score(NamedTuple):
    """One ended trial: the mean over the endpoint's sets, None if it failed, and the variance of its resolution."""

    value: float | None
    floor: float


class _Family:
    """Hypotheses with common looks."""

    def __init__(self, name: str, pairs: Sequence[tuple[str, str]], design: Design):
        self.name, self.pairs, self.design = name, pairs, design
        self.looks: tuple[Look, ...] = ()

    @property
    def decided(self) -> dict[str, int]:
        """The seeds at which each decided hypothesis was."""
        return {step.name: look.n for look in self.looks for step in look.steps if step.decision != "undecided"}

    @property
    def next(self) -> int | None:
        """The seeds that the next look needs; None after the last."""
        n = self.looks[-1].n + 1 if self.looks else self.design.first
        open_ = len(self.decided) < len(self.pairs) and n <= self.design.last
        return n if open_ else None

    def wanted(self, pair: tuple[str, str], overrun: int) -> tuple[int, int]:
        """Seeds that `pair` needs now, and the most that it may still come to need."""
        last = self.design.last
        at = self.decided.get(name_of(*pair))
        if at is not None:
            return min(at + overrun, last), min(at + overrun, last)
        return (last if self.next is None else self.next), last


class SequentialQueue:
    """The confirm trials of a sweep that runs until decided."""

    phase: Phase = "confirm"

    def __init__(self, specs: Sequence[TrialSpec], registered: Mapping[str, Any], log: Log):
        """`specs` are all trials that could be needed, by seed; `registered` is the registration."""
        self._log, self._datasets = log, registered["datasets"]
        self._overrun = registered["overrun"]
        self._specs = {(spec.method, spec.number): (spec.id, spec) for spec in specs}
        self.total = len(specs)
        self._seeded = {spec.method: spec.seed is not None for spec in specs}
        self._families = [
            _Family(family, self._testable(registered["families"][family]), design)
            for family, design in designs(registered).items()
        ]
        self._first = registered["looks"][0]
        self._scores: dict[tuple[str, int], _Score] = {}
        self._handed: set[tuple[str, int]] = set()
        self._running: list[TrialSpec] = []
        self._lost = False
        known = log.finished()
        for key, (name, _) in self._specs.items():
            if name in known:
                self._end(key, log.rows(name))
        self._take_looks()

    @property
    def remaining(self) -> int:
        """Trials that may still be handed out: fewer than this as methods are decided."""
        if self._lost:
            return 0
        most = {method: self._wanted(method)[1] for method in self._seeded}
        return sum(key not in self._handed and key[1] < most[key[0]] for key in self._specs)

    @property
    def undecided(self) -> dict[str, list[tuple[str, str]]]:
        """The pairs of each family that have no verdict yet."""
        return {f.name: [pair for pair in f.pairs if name_of(*pair) not in f.decided] for f in self._families}

    @property
    def handed_out(self) -> list[TrialSpec]:
        """The trials that must have rows once none runs any more."""
        return [spec for key, (_, spec) in self._specs.items() if key in self._handed]

    def ask(self) -> TrialSpec | None:
        wanted = {}
        for method in self._seeded:
            now, most = self._wanted(method)
            wanted[method] = min(now + _AHEAD, most)
        for key, (_, spec) in self._specs.items():
            if key in self._handed or key[1] >= wanted[key[0]]:
                continue
            # A derived method starts from the end point of its base, which another trial may be about to write.
            if spec.base and any(other.trained == spec.base and other.seed == spec.seed for other in self._running):
                continue
            self._handed.add(key)
            self._running.append(spec)
            return spec
        return None

    def tell(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None:
        self._running = [other for other in self._running if other.id != spec.id]
        try:
            rows = self._log.rows(spec.id)
        except FileNotFoundError:
            self.give_up(spec)
            return
        self._end((spec.method, spec.number), rows)
        self._take_looks()

    def give_up(self, spec: TrialSpec) -> None:
        # A look without it would treat a broken machine as a failed method.
        self._lost = True

    def _testable(self, pairs: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
        return [(a, b) for a, b in pairs if self._seeded.get(a) or self._seeded.get(b)]

    def _wanted(self, method: str) -> tuple[int, int]:
        if not self._seeded[method]:
            return 1, 1
        found = [
            family.wanted(pair, self._overrun) for family in self._families for pair in family.pairs if method in pair
        ]
        # A method that is compared with nothing is only described.
        return (max(now for now, _ in found), max(most for _, most in found)) if found else (self._first, self._first)

    def _end(self, key: tuple[str, int], rows: Iterable[Row]) -> None:
        self._handed.add(key)
        self._scores[key] = _score(rows, self._datasets)

    def _take_looks(self) -> None:
        for family in self._families:
            differences = {name_of(*pair): self._differences(*pair) for pair in family.pairs}
            waiting = [values for name, values in differences.items() if name not in family.decided]
            if family.next is None or any(len(values) < family.next for values in waiting):
                continue
            floors = {name_of(*pair): self._floor(*pair) for pair in family.pairs}
            known = len(family.looks)
            family.looks = replay(family.design, differences, floors)
            for look in family.looks[known:]:
                self._log.look({"family": family.name, "n": look.n, "steps": [asdict(step) for step in look.steps]})

    def _differences(self, method: str, against: str) -> list[float | None]:
        """Differences for the first seeds, as far as both have ended; None where either failed."""
        out: list[float | None] = []
        for number in range(self._families[0].design.last):
            pair = [self._scores.get((m, number if self._seeded[m] else 0)) for m in (method, against)]
            if pair[0] is None or pair[1] is None:
                break
            a, b = pair[0].value, pair[1].value
            out.append(None if a is None or b is None else a - b)
        return out

    def _floor(self, method: str, against: str) -> float:
        floors = [
            score.floor for (m, _), score in self._scores.items() if m in (method, against) and score.value is not None
        ]
        return floors[0] if floors and min(floors) > 0 else 0.0


def _score(rows: Iterable[Row], datasets: Sequence[str]) -> _Score:
    """The endpoint of one trial. Its floor is a difference's: Σ w²·tick²/6 (docs/statistics.md 5.2), 0 if unknown."""
    found = {
        row.dataset: row
        for row in rows
        if row.metric == "accuracy" and row.role in ("id", "ood") and row.status == "ok" and row.dataset in datasets
    }
    values = [found[d].value for d in datasets if d in found]
    good = [v for v in values if v is not None and math.isfinite(v) and 0 <= v <= 1]
    sizes = [found[d].n for d in datasets if d in found]
    ticks = [1 / n for n in sizes if n]
    k = len(datasets)
    floor = sum(tick**2 for tick in ticks) / (6 * k**2) if len(ticks) == k else 0.0
    return _Score(math.fsum(good) / k if len(good) == k else None, floor)
