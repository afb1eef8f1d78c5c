"""What to run next: the queues of the three phases. A queue hands out trials and receives their results.

A queue knows nothing of Ray: the serial runner and Ray Tune ask it the same questions. What was asked and what was
answered is in the ledger (`records/ledger.py`), so a queue begun again after a crash continues where the first one was.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from saeft_ray.draws import seed_of
from saeft_ray.orchestration.early_stopping import cutoffs
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.course import Course
from saeft_ray.records.rows import Phase
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.settings import Choices, Range

_RANDOM = 4  # results that a study needs before its sampler goes by them; it does not follow `trials`, which may grow


class TrialQueue(Protocol):
    """The trials of one phase."""

    phase: Phase
    total: int

    def ask(self) -> TrialSpec | None:
        """The next trial to run; None while all others wait for a result. Ask no more once `remaining` is 0."""
        ...

    def tell(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None:
        """A trial has ended with this selection accuracy, None if it failed, and went as `course` says."""
        ...

    def give_up(self, spec: TrialSpec) -> None:
        """A trial could not be run, so there is no result of it; the next start of the sweep tries it again."""
        ...

    @property
    def remaining(self) -> int:
        """Trials not handed out yet."""
        ...


class FixedQueue:
    """Trials known beforehand, in order; one that starts from another's end point waits for it."""

    def __init__(self, phase: Phase, specs: Sequence[TrialSpec], done: Iterable[str] = ()):
        self.phase, self.total = phase, len(specs)
        known = set(done)
        self._todo = [spec for spec in specs if spec.id not in known]
        self._open = {(spec.trained, spec.seed) for spec in self._todo if spec.base is None and spec.trained}

    @property
    def remaining(self) -> int:
        return len(self._todo)

    def ask(self) -> TrialSpec | None:
        for position, spec in enumerate(self._todo):
            if spec.base is None or (spec.base, spec.seed) not in self._open:
                if spec.base is not None:
                    self._open.add((spec.base, spec.seed))
                return self._todo.pop(position)
        return None

    def tell(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None:
        self._open.discard((spec.trained, spec.seed))

    def give_up(self, spec: TrialSpec) -> None:
        self.tell(spec, None)


class SearchQueue:
    """Optuna's suggestions for every method with open values: one study per method and repeat, equal budgets.

    `search.lag` trials of each study can run at once. The next trial is one of the study that is furthest behind.
    Trials are numbered over the repeats in turn, so that trial n of a method is one of repeat n mod their number.
    """

    phase: Phase = "search"

    def __init__(
        self,
        plan: Plan,
        asked: Iterable[TrialSpec] = (),
        results: Mapping[str, float | None] | None = None,
        courses: Mapping[str, Course] | None = None,
    ):
        """`asked` are the suggestions of an earlier run of this sweep, `results` what the finished ones came to, and
        `courses` how those went."""
        results, courses = results or {}, courses or {}
        self._repeats = plan.config.search.repeats
        self._studies = {
            (label, repeat): _Study(plan, label, repeat) for repeat in range(self._repeats) for label in plan.tunable()
        }
        for spec in sorted(asked, key=lambda spec: spec.id in results):  # of two with one number, the one that ended
            study, number = self._of(spec)
            study.specs[number] = spec
            if spec.id in results:
                self.tell(spec, results[spec.id], courses.get(spec.id))
        self.total = plan.config.search.trials * len(self._studies)

    @property
    def remaining(self) -> int:
        return sum(len(study.remaining) for study in self._studies.values())

    def ask(self) -> TrialSpec | None:
        free = [(study.free[0], study) for study in self._studies.values() if study.free]
        if not free:
            return None
        number, study = min(free, key=lambda item: item[0])
        return study.hand_out(number)

    def tell(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None:
        study, number = self._of(spec)
        study.results[number] = selection
        study.epochs[number] = course.epochs if course else []

    def give_up(self, spec: TrialSpec) -> None:
        study, number = self._of(spec)
        study.given_up.add(number)

    def _of(self, spec: TrialSpec) -> tuple["_Study", int]:
        """The study of a trial, and its number there."""
        number, repeat = divmod(spec.number, self._repeats)
        return self._studies[spec.method, repeat], number


class _Study:
    """One method's search: suggestion n is a function of the sweep file and of the results of 0 … n − lag alone.

    It waits for these results, of which some may be that a trial failed. Of the suggestions between, the sampler knows
    the values and counts them as running, even those that have ended. It is made anew for every suggestion. So neither
    machines, their number, who finishes first, nor a restart change a suggestion, and a larger budget only adds some.
    """

    def __init__(self, plan: Plan, label: str, repeat: int):
        self.specs: dict[int, TrialSpec] = {}
        self.results: dict[int, float | None] = {}
        self.epochs: dict[int, Sequence[Mapping[str, Any]]] = {}
        self.given_up: set[int] = set()
        self._handed_out: set[int] = set()
        self._plan, self._label, self._method = plan, label, plan.config.methods[label]
        self._repeat, self._repeats = repeat, plan.config.search.repeats
        self._space = {name: distribution(value) for name, value in self._method.open_values().items()}

    @property
    def free(self) -> list[int]:
        """The numbers that can be handed out now."""
        return self._waiting_for(next(number for number in count() if number not in self.results))

    @property
    def remaining(self) -> list[int]:
        """The numbers that are still to be handed out, without those that wait for one that was given up."""
        return self._waiting_for(min(self.given_up, default=self._plan.config.search.trials))

    def hand_out(self, number: int) -> TrialSpec:
        self._handed_out.add(number)
        if number not in self.specs:
            self.specs[number] = self._suggestion(number)
        return self.specs[number]

    def _waiting_for(self, missing: int) -> list[int]:
        """The numbers not handed out that need no result of `missing` or any after it."""
        search = self._plan.config.search
        end = min(missing + search.lag, search.trials)
        return [number for number in range(end) if number not in self.results and number not in self._handed_out]

    def _suggestion(self, number: int) -> TrialSpec:
        known = range(number - self._plan.config.search.lag + 1)
        overall = number * self._repeats + self._repeat
        study = _study(seed_of("suggestion", self._label, self._plan.config.seed, overall))
        study.add_trials([self._entry(earlier, earlier in known) for earlier in range(number)])
        return TrialSpec(
            phase="search",
            method=self._label,
            settings=self._method.with_values(study.ask(self._space).params),
            seed=self._plan.seeds("search")[self._repeat],
            number=overall,
            cutoffs=cutoffs(self._plan.config, [self.epochs[earlier] for earlier in known]),
        )

    def _entry(self, number: int, known: bool) -> FrozenTrial:
        """Suggestion `number` as the sampler sees it."""
        settings, result = self.specs[number].settings, self.results[number] if known else None
        ended = TrialState.FAIL if result is None else TrialState.COMPLETE
        return create_trial(
            params={name: getattr(settings, name) for name in self._space},
            distributions=self._space,
            value=result,
            state=ended if known else TrialState.RUNNING,
        )


def _study(seed: int) -> optuna.Study:
    """A new study, about which Optuna says nothing on stderr."""
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM, multivariate=True, constant_liar=True)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(before)


def distribution(value: Range | Choices) -> BaseDistribution:
    """What Optuna calls an open value."""
    if isinstance(value, Range):
        return FloatDistribution(value.low, value.high, log=value.log)
    return CategoricalDistribution(value.choices)
