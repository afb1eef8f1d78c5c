"""The protocol of a sweep: search → rerank → choice → confirm. It decides what runs; a runner decides where."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from saeft_ray.config.choose import arm_of
from saeft_ray.errors import Unfinished
from saeft_ray.methods import Method
from saeft_ray.orchestration.choosing import Configuration, References, chosen_of, configurations, ranked
from saeft_ray.orchestration.confirm import SequentialQueue
from saeft_ray.orchestration.elsewhere import Elsewhere, TakingOver
from saeft_ray.orchestration.plan import Artifact, Plan
from saeft_ray.orchestration.search import FixedQueue, SearchQueue, TrialQueue
from saeft_ray.records.amendments import added_sets, as_registered
from saeft_ray.records.course import Course
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.preregistration import added, extended, preregistration
from saeft_ray.records.rows import Phase
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.fingerprint import canonical


class Watcher(Protocol):
    """Hears what happens; shows it or does not."""

    def building(self, artifacts: Sequence[Artifact]) -> None: ...

    def built(self, artifact: Artifact) -> None: ...

    def phase(self, phase: Phase, total: int, done: int) -> None: ...

    def started(self, spec: TrialSpec) -> None: ...

    def failed(self, spec: TrialSpec, why: str) -> None: ...

    def ended(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None: ...

    def stopped(self, spec: TrialSpec, why: str) -> None: ...

    def beat(self, signs: Mapping[str, Mapping[str, Any]]) -> None: ...


class Runner(Protocol):
    """Where work runs: in this process, or on a Ray cluster."""

    def build(self, artifacts: Sequence[Artifact], watcher: Watcher) -> None:
        """Makes sure that every artifact is in the store."""
        ...

    def run(self, queue: TrialQueue, watcher: Watcher) -> None:
        """Runs all trials of `queue`; their rows are in the ledger when it returns."""
        ...


def run_phases(plan: Plan, ledger: Ledger, runner: Runner, watcher: Watcher) -> dict[str, Method]:
    """Runs what is left of the sweep; returns the chosen configuration of every method."""
    runner.build(plan.artifacts(), watcher)
    elsewhere = Elsewhere(plan, ledger.files)
    if plan.tunable():
        early = plan.config.search.early_stopping != "none"
        courses = ledger.courses("search") if early else None
        queue = SearchQueue(plan, ledger.asked("search"), ledger.results("search"), courses)
        # A trial of elsewhere may have gone on beyond a cutoff of here: the table would depend on what else is stored.
        _run(queue, ledger, runner, watcher, None if early else elsewhere)
    chosen, others = _chosen(plan, ledger, runner, watcher, elsewhere)
    record = ledger.record()
    registered = ledger.preregister(preregistration(record))
    trials = plan.confirm(chosen, others)
    if added_sets(record):
        _score_further(plan, ledger, runner, watcher)
    if plan.config.confirm.until:
        trials = _until_decided(trials, record, registered, ledger, runner, watcher)
    else:
        _run(FixedQueue("confirm", trials, ledger.finished()), ledger, runner, watcher)
    _all_ended(trials, ledger)
    if points := plan.curves(chosen):
        _run(FixedQueue("curves", points, ledger.finished()), ledger, runner, watcher)
        _all_ended(points, ledger)
    return chosen


def _chosen(
    plan: Plan, ledger: Ledger, runner: Runner, watcher: Watcher, elsewhere: Elsewhere
) -> tuple[dict[str, Method], dict[str, list[Method]]]:
    """The configuration of every method that the confirm phase runs, and those that share its seeds, from what a rerank
    of the search's best says. The last are more where the sweep asks for the error bars of tuning: those that are tied
    with the chosen one, or what each repeat of the search chose."""
    config = plan.config
    found = {label: [method] for label, method in config.methods.items() if not method.open_values()}
    first, *repeats = candidates(plan, ledger)
    references = _references(plan, ledger, runner, watcher, elsewhere)
    # A derived method can be ranked as soon as the settings of its base are known.
    derived = {label: plan.alternatives(label) for label in plan.derived()}
    later = {label: each for label, each in derived.items() if config.methods[label].base in first}
    soon = {label: each for label, each in derived.items() if label not in later}
    for repeat, wave in [(0, first | soon), *enumerate(repeats, 1), (0, later)]:
        if not wave:
            continue
        trials = plan.rerank(wave, {label: each[0] for label, each in found.items()}, repeat)
        _run(FixedQueue("rerank", trials, ledger.finished()), ledger, runner, watcher, elsewhere)
        _all_ended(trials, ledger)
        for label, given in _choosable(trials, ledger).items():
            for number, rule in enumerate(config.choose):
                arm = arm_of(label, rule) if number else label
                taken = chosen_of(rule, given, plan.selected, references, config.confirm.choices == "tied")
                found.setdefault(arm, []).extend(taken)
    chosen = ledger.choose({label: found[label][0] for label in plan.labels}, {m: found[m][1:] for m in plan.labels})
    return chosen, ledger.others(chosen)


def _score_further(plan: Plan, ledger: Ledger, runner: Runner, watcher: Watcher) -> None:
    """Scores the stored end points of confirm trials that ended before test sets were added to the sweep."""
    if lacking := ledger.lacking(plan.config.data.test_sets()):
        _run(FixedQueue("confirm", lacking), ledger, runner, watcher)
        if left := ledger.lacking(plan.config.data.test_sets()):
            raise Unfinished(f"{left[0].id}: could not be scored on the added test sets. The same command tries again")


def _until_decided(
    trials: Sequence[TrialSpec],
    record: Mapping[str, Any],
    registered: Mapping[str, Any],
    ledger: Ledger,
    runner: Runner,
    watcher: Watcher,
) -> list[TrialSpec]:
    """Runs what the registration asks for, then what was added to it, each by its own rule; returns what was run."""
    handed_out = list[TrialSpec]()

    def run(rule: Mapping[str, Any], methods: Collection[str] = ()) -> SequentialQueue:
        methods = methods or {method for pairs in rule["families"].values() for pair in pairs for method in pair}
        most = rule["looks"][-1]
        queue = SequentialQueue([t for t in trials if t.method in methods and t.number < most], rule, ledger)
        _run(queue, ledger, runner, watcher)
        handed_out.extend(queue.handed_out)
        return queue

    left = run(registered, as_registered(record)["methods"]).undecided
    if rule := extended(record, registered):
        families = {name: left[name.removesuffix("-extended")] for name in rule["families"]}
        families = {name: pairs for name, pairs in families.items() if pairs}
        if families:
            run({**rule, "families": families})
    for rule in added(record, registered):
        if any(rule["families"].values()):
            run(rule)
    return handed_out


def candidates(plan: Plan, ledger: Ledger) -> list[dict[str, list[Method]]]:
    """The configurations of every searched method that are tried again, once its search has ended: the first few of
    each rule, for each repeat of the search. What a gain is measured with comes after the search, so that `keep_gain`
    sends on the best."""
    if not plan.tunable():
        return [{}]
    asked, repeats = ledger.asked("search"), plan.config.search.repeats
    return [_best(plan, [t for t in asked if t.number % repeats == repeat], ledger) for repeat in range(repeats)]


def _best(plan: Plan, asked: Sequence[TrialSpec], ledger: Ledger) -> dict[str, list[Method]]:
    found = dict[str, list[Method]]()
    for label, each in _choosable(asked, ledger).items():
        firsts = [ranked(rule, each, plan.selected)[: plan.config.rerank.top] for rule in plan.config.choose]
        found[label] = list({canonical(m.model_dump(mode="json")): m for first in firsts for m in first}.values())
    return found


def _references(plan: Plan, ledger: Ledger, runner: Runner, watcher: Watcher, elsewhere: Elsewhere) -> References:
    """The selection accuracies of plain fine-tuning and zero-shot, where a rule asks for them."""
    trials = plan.references()
    if not trials:
        return References()
    _run(FixedQueue("rerank", trials, ledger.finished()), ledger, runner, watcher, elsewhere)
    _all_ended(trials, ledger)
    found = configurations(trials, ledger.selection("rerank").numbers)
    plain, zero_shot = (found[label][0].score for label in plan.reference_labels())
    return References(plain, zero_shot)


def _choosable(trials: Sequence[TrialSpec], ledger: Ledger) -> dict[str, list[Configuration]]:
    """The configurations of every method that may be chosen: none of which somebody stopped a trial. Raises Unfinished
    for a method that has no other."""
    phase = trials[0].phase
    measured, stopped = ledger.selection(phase)
    out = {trial.configuration for trial in trials if trial.id in stopped}
    left = [trial for trial in trials if trial.configuration not in out]
    if none := sorted({trial.method for trial in trials} - {trial.method for trial in left}):
        raise Unfinished(
            f"{', '.join(none)}: trials of every configuration were stopped on purpose in the {phase} phase, so that "
            "none can be chosen. What was stopped is not run again: run the sweep under another name, without this "
            "method or with other values for it"
        )
    return configurations(left, measured)


def _all_ended(trials: Sequence[TrialSpec], ledger: Ledger) -> None:
    """Raises Unfinished, which names them, for trials without rows after their phase."""
    finished = ledger.finished()
    if lost := [trial.id for trial in trials if trial.id not in finished]:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise Unfinished(
            f"the {trials[0].phase} phase ended without the rows of {', '.join(lost[:3])}{more}: they are not in "
            f"{ledger.url}. All machines must see one storage. The same command runs them again"
        )


def _run(
    queue: TrialQueue, ledger: Ledger, runner: Runner, watcher: Watcher, elsewhere: Elsewhere | None = None
) -> None:
    watcher.phase(queue.phase, queue.total, queue.total - queue.remaining)
    if elsewhere is not None and queue.remaining:
        queue = TakingOver(queue, elsewhere, ledger, watcher.ended)
    if queue.remaining:
        runner.run(queue, watcher)
