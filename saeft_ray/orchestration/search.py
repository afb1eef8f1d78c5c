"""What to run next: the queues of the three phases. A queue hands out trials and receives their results.

A queue knows nothing of Ray: the serial runner and Ray Tune ask it the same questions. What was asked and what was
answered is in the ledger (`records/ledger.py`), so a queue begun again after a crash
continues where the first one was.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from saeft_ray.draws import seed_of
from saeft_ray.errors import Unfinished
from saeft_ray.methods import Method
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.rows import Phase
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.settings import Choices, Range


class TrialQueue(Protocol):
    """The trials of one phase."""

    phase: Phase
    total: int

    def ask(self) -> TrialSpec | None:
        """The next trial to run; None while all others wait for a result. Ask no more once `remaining` is 0."""
        ...

    def tell(self, spec: TrialSpec, selection: float | None) -> None:
        """A trial has ended with this selection accuracy; None if it failed."""
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

    def tell(self, spec: TrialSpec, selection: float | None) -> None:
        self._open.discard((spec.trained, spec.seed))


class SearchQueue:
    """Optuna's suggestions for every method with open values: one study per method, asked in turn, equal budgets."""

    phase: Phase = "search"

    def __init__(self, plan: Plan, asked: Iterable[TrialSpec] = (), results: Mapping[str, float | None] | None = None):
        """`asked` are the suggestions of an earlier run of this sweep, `results` what the finished ones came to."""
        trials, results = plan.config.search.trials, results or {}
        known: dict[str, dict[int, TrialSpec]] = {label: {} for label in plan.tunable()}
        for spec in sorted(asked, key=lambda spec: spec.id in results):  # of two with one number, the one that ended
            known[spec.method][spec.number] = spec
        self._studies = {
            label: _Study(label, method, plan.config.seed, trials, known[label], results)
            for label, method in plan.tunable().items()
        }
        self._seed = plan.seeds("search")[0]
        self.total = trials * len(self._studies)

    @property
    def remaining(self) -> int:
        return sum(len(study.remaining) for study in self._studies.values())

    def ask(self) -> TrialSpec | None:
        behind = [item for item in self._studies.items() if item[1].behind]
        if behind:  # what an earlier run had begun comes first
            label, study = min(behind, key=lambda item: item[1].remaining[0])
        else:
            label, study = max(self._studies.items(), key=lambda item: len(item[1].remaining))
        return self._spec(label, *study.suggest())

    def _spec(self, label: str, number: int, settings: Method) -> TrialSpec:
        return TrialSpec(phase="search", method=label, settings=settings, seed=self._seed, number=number)

    def tell(self, spec: TrialSpec, selection: float | None) -> None:
        self._studies[spec.method].tell(spec.number, selection)


class _Study:
    """One method's search. The sampler is seeded anew for every suggestion, so a suggestion is a function of its number
    and of the results known at that time, and of nothing that a restart could lose. What is known of an earlier run is
    entered in the order of numbers, so that a suggestion that was lost is made from the results that it was made from.
    """

    def __init__(
        self,
        label: str,
        method: Method,
        seed: int,
        trials: int,
        known: Mapping[int, TrialSpec],
        results: Mapping[str, float | None],
    ):
        self._label, self._method, self._seed, self._trials = label, method, seed, trials
        self._known = {number: spec.settings for number, spec in known.items()}
        self._results = {number: results[spec.id] for number, spec in known.items() if spec.id in results}
        self._space = {name: _distribution(value) for name, value in method.open_values().items()}
        self._study = _study(self._sampler(0))
        self._told: set[int] = set()

    @property
    def remaining(self) -> list[int]:
        """The numbers of all that is still to be handed out."""
        return [number for number in range(self._next, self._trials) if number not in self._results]

    @property
    def behind(self) -> bool:
        """Whether an earlier run had come further."""
        remaining = self.remaining
        return bool(remaining) and remaining[0] <= max(self._known, default=-1)

    def suggest(self) -> tuple[int, Method]:
        """The next number that has no result yet, and its settings."""
        while (number := self._next) in self._known:
            self._recall(number, self._known[number])
            if number not in self._results:
                return number, self._known[number]
            self.tell(number, self._results[number])
        self._study.sampler = self._sampler(number)
        trial = self._study.ask(self._space)
        return trial.number, self._method.with_values(trial.params)

    @property
    def _next(self) -> int:
        """The first number that the study has not heard of."""
        return len(self._study.get_trials(deepcopy=False))

    def _recall(self, number: int, settings: Method) -> None:
        """Enters a suggestion of an earlier run, as running."""
        values = {name: getattr(settings, name) for name in self._space}
        self._study.enqueue_trial(values)
        trial = self._study.ask(self._space)
        assert trial.number == number, f"suggestion {number} of {self._label} came as number {trial.number}"

    def tell(self, number: int, selection: float | None) -> None:
        if number in self._told:
            return
        self._told.add(number)
        state = TrialState.FAIL if selection is None else TrialState.COMPLETE
        self._study.tell(number, selection, state=state)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        startup = max(4, self._trials // 3)
        return optuna.samplers.TPESampler(
            seed=seed_of("suggestion", self._label, self._seed, number),
            n_startup_trials=startup,
            multivariate=True,
            constant_liar=True,
        )


def _study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """A new study, about which Optuna says nothing on stderr."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(before)


def ranking(specs: Iterable[TrialSpec], results: Mapping[str, float | None]) -> dict[str, list[tuple[Method, float]]]:
    """Configurations of every method, best mean selection accuracy first; one that failed with any seed comes last and
    counts as 0. Ties go to the one that was asked first. One of which a trial has no result at all cannot be ranked.

    Raises Unfinished for a method without any that can.
    """
    scores: dict[str, dict[str, list[TrialSpec]]] = defaultdict(lambda: defaultdict(list))
    for spec in specs:
        scores[spec.method][spec.configuration].append(spec)
    ranked = {}
    for label, configurations in scores.items():
        known = [trials for trials in configurations.values() if all(trial.id in results for trial in trials)]
        if not known:
            raise Unfinished(f"{label}: none of its {len(configurations)} configurations has results in the storage")
        means = [(trials[0].settings, _mean([results[trial.id] for trial in trials])) for trials in known]
        ranked[label] = sorted(means, key=lambda found: -found[1])
    return ranked


def _mean(values: Sequence[float | None]) -> float:
    """0 if one failed."""
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if len(known) == len(values) else 0.0


def _distribution(value: Range | Choices) -> BaseDistribution:
    if isinstance(value, Range):
        return FloatDistribution(value.low, value.high, log=value.log)
    return CategoricalDistribution(value.choices)
