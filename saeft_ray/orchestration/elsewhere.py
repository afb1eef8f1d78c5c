"""Search and rerank trials that another sweep of the storage ran already: found by what they compute, whatever their
sweep and their method are called, and taken over instead of run.

Confirm trials need none of this: their end points are in the store by what determines them (`Plan.final_weights`).
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from saeft_ray.errors import Damaged, UserError
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import record_of, reopen
from saeft_ray.orchestration.search import TrialQueue
from saeft_ray.records.course import Course
from saeft_ray.records.earlier import others
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import Phase, Row
from saeft_ray.records.stops import Asking
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.records.versions import versions
from saeft_ray.storage.files import Files
from saeft_ray.storage.fingerprint import canonical, fingerprint

Heard = Callable[[TrialSpec, float | None, Course | None], None]
_PHASES: tuple[Phase, ...] = ("search", "rerank")


class Ended(NamedTuple):
    """What a trial of another sweep came to."""

    rows: list[Row]
    selection: float | None
    course: Course | None


class Elsewhere:
    """The other sweeps of a storage that trained the same model on the same images, with the same version of the code
    and of PyTorch; searched once, when a trial is first asked for."""

    def __init__(self, plan: Plan, files: Files):
        self._plan, self._files = plan, files

    def of(self, spec: TrialSpec) -> Ended | None:
        """What a trial that computes what `spec` does came to, with its rows as rows of `spec`."""
        found = self._known.get(_computes(self._plan, spec)) if spec.trained is not None else None
        if found is None:
            return None
        ledger, name = found
        try:
            rows, course = ledger.rows(name), ledger.course(name)
        except (FileNotFoundError, Damaged):  # then it is run here
            return None
        ours: dict[str, Any] = {
            "sweep": self._plan.config.name,
            "method": spec.method,
            "trial": spec.id,
            "configuration": spec.configuration,
            "settings": canonical(spec.values),
        }
        selection = next(row.value for row in rows if row.role == "selection" and row.metric == "accuracy")
        course = course and course._replace(taken_from=f"{ledger.name}/{name}")
        return Ended([replace(row, **ours) for row in rows], selection, course)

    @cached_property
    def _known(self) -> dict[str, tuple[Ledger, str]]:
        found: dict[str, tuple[Ledger, str]] = {}
        for plan, ledger in self._sweeps():
            with suppress(Damaged, UserError, OSError):
                for phase in _PHASES:
                    statuses = ledger.statuses(phase)
                    for spec in ledger.asked(phase):
                        if spec.trained is not None and statuses.get(spec.id) in ("ok", "failed"):
                            found.setdefault(_computes(plan, spec), (ledger, spec.id))
        return found

    def _sweeps(self) -> Iterator[tuple[Plan, Ledger]]:
        facts, ours = self._plan.facts, versions()
        for name, record in others(self._files, record_of(self._plan, None, look=False)):
            same_code = all(record.get("versions", {}).get(each) == ours.get(each) for each in ("saeft_ray", "torch"))
            data = record["data"]
            if same_code and record.get("model") == facts.model and data.get("search") == facts.search:
                with suppress(UserError, Damaged, OSError):
                    plan, ledger, _ = reopen(f"{self._files.url}/sweeps/{name}", self._files.endpoint)
                    yield plan, ledger


class TakingOver:
    """A queue whose trials are taken from elsewhere where they are known there."""

    def __init__(self, queue: TrialQueue, elsewhere: Elsewhere, ledger: Ledger, ended: Heard):
        """`ended` hears of every trial that is taken over, as of one that has ended (`phases.Watcher`)."""
        self.phase, self.total = queue.phase, queue.total
        self._queue, self._elsewhere, self._ledger, self._heard = queue, elsewhere, ledger, ended
        self._next: TrialSpec | None = None
        self._take()

    @property
    def remaining(self) -> int:
        return self._queue.remaining + (self._next is not None)

    def ask(self) -> TrialSpec | None:
        if self._next is None:
            self._take()
        spec, self._next = self._next, None
        return spec

    def tell(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None:
        self._queue.tell(spec, selection, course)
        self._take()

    def give_up(self, spec: TrialSpec) -> None:
        self._queue.give_up(spec)
        self._take()

    def _take(self) -> None:
        """Goes on to the next trial that is to be run."""
        while self._next is None and self._queue.remaining and (spec := self._queue.ask()) is not None:
            if (ended := self._elsewhere.of(spec)) is None or Asking(self._ledger.stops, spec.id)():
                self._next = spec
                return
            self._ledger.begin_trial(spec)
            self._ledger.finish(spec, ended.rows, ended.course)
            self._queue.tell(spec, ended.selection, ended.course)
            self._heard(spec, ended.selection, ended.course)


def _computes(plan: Plan, spec: TrialSpec) -> str:
    """What determines the rows of a trial that chooses values: its weights, and what is done to them; its images are
    those of the sweeps that are looked at."""
    return fingerprint([spec.phase, plan.final_weights(spec).key, spec.values])
