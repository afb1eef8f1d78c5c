"""Run until decided: the real queue over made-up accuracies."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saeft_ray.config.schema import Until
from saeft_ray.methods.facts import Facts
from saeft_ray.orchestration.confirm import SequentialQueue
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.preregistration import preregistration, same_look
from saeft_ray.records.read import read_record
from saeft_ray.records.rows import Row
from saeft_ray.records.trial_spec import TrialSpec

from sweeps import config, run_here

SETS = {"A": "ood", "B": "ood", "ID": "id"}
Accuracy = Callable[[str, int], float | None]


class Memory:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.trials: dict[str, list[Row]] = {}
        self.looks: dict[tuple[str, int], Mapping[str, Any]] = {}
        self.written = 0

    def finished(self) -> set[str]:
        return set(self.trials)

    def rows(self, trial: str) -> list[Row]:
        if trial not in self.trials:
            raise FileNotFoundError(trial)
        return self.trials[trial]

    def look(self, look: Mapping[str, Any]) -> None:
        key = look["family"], look["n"]
        if key in self.looks:
            assert self.looks[key] == look
            return
        self.written += 1
        self.looks[key] = look

    def end(self, spec: TrialSpec, accuracy: float | None) -> None:
        if accuracy is None:
            row = spec.row("s", "train", "train", "accuracy", None, status="failed", error="diverged")
            self.trials[spec.id] = [row]
            return
        # Only their mean is the endpoint; the ID set is not in it.
        values = {"A": accuracy - 0.1, "B": accuracy + 0.1, "ID": 0.9}
        self.trials[spec.id] = [spec.row("s", d, SETS[d], "accuracy", v) for d, v in values.items()]


def sweep(
    methods: list[str], seeds: Any = None, margin: float | None = None, **confirm: Any
) -> tuple[Plan, dict[str, Any]]:
    arms: dict[str, Any] = {
        name: {} if name in ("ft", "zero_shot") else {"type": "mse", "lambda_mse": 1.0 + number}
        for number, name in enumerate(methods)
    }
    if "wise" in arms:
        arms["wise"] = {"type": "wise_ft", "of": "ft", "alpha": 0.5}
    made = config(
        "runs",
        methods=arms,
        confirm={"seeds": seeds or {"min": 5, "max": 20}, **confirm},
        report={"baseline": "ft", "margin": margin},
    )
    facts = Facts({"arch": "a"}, 28, 64, "data", "train", {"train": 1500, "A": 1000, "B": 1000, "ID": 1000}, 10)
    plan = Plan(made, facts)
    record = {"config": made.determining_settings(), "data": {"roles": SETS}, "confirm_seeds": plan.seeds("confirm")}
    return plan, preregistration(record)


def play(
    queue: SequentialQueue, memory: Memory, accuracy: Accuracy, workers: int = 1, stop: int | None = None
) -> list[TrialSpec]:
    """Runs a queue with so many trials in flight; `stop` kills the run after so many ended."""
    handed: list[TrialSpec] = []
    flight: list[TrialSpec] = []
    ended = 0
    while True:
        while queue.remaining and len(flight) < workers and (spec := queue.ask()) is not None:
            handed.append(spec)
            flight.append(spec)
        if not flight:
            assert not queue.remaining, "trials are left, but none is handed out"
            return handed
        # The one that began last ends first.
        spec = flight.pop()
        memory.end(spec, accuracy(spec.method, spec.number))
        queue.tell(spec, 0.5)
        ended += 1
        if stop is not None and ended >= stop:
            return handed


def drawn(seed: int, effects: Mapping[str, float], sd: float = 0.01) -> Accuracy:
    """Accuracies whose differences from ft have this standardised effect."""
    noise = np.random.default_rng(seed).normal(0, sd, size=(len(effects) + 1, 40))
    shared = noise[-1]
    table = {name: 0.5 + shared + d * sd + noise[i] for i, (name, d) in enumerate(effects.items())}
    table |= {"ft": 0.5 + shared, "zero_shot": np.full(40, 0.5)}
    return lambda method, number: float(table[method][number])


def seeds_of(handed: list[TrialSpec], method: str) -> int:
    return sum(spec.method == method for spec in handed)


def decisions(memory: Memory, family: str = "primary") -> dict[str, tuple[int, str]]:
    out = {}
    for (name, n), look in sorted(memory.looks.items(), key=lambda item: item[0][1]):
        for step in look["steps"]:
            if name == family and step["decision"] != "undecided":
                assert step["name"] not in out, "a decided hypothesis was looked at again"
                out[step["name"]] = (n, step["decision"])
    return out


PLAN, REGISTERED = sweep(["ft", "mse_like"])
SPECS = PLAN.confirm(PLAN.config.methods)


@pytest.mark.parametrize(("d", "low", "high"), [(1, 9.9, 11.7), (2, 5.7, 6.4), (3, 5.0, 5.3)])
def test_mean_seeds_and_power_of_whole_sweeps(d: int, low: float, high: float) -> None:
    used, right = [], 0
    for run in range(200):
        memory = Memory()
        handed = play(SequentialQueue(SPECS, REGISTERED, memory), memory, drawn(1000 * d + run, {"mse_like": d}))
        used.append(seeds_of(handed, "mse_like"))
        assert seeds_of(handed, "ft") == used[-1], "the baseline stays paired"
        right += [verdict for _, verdict in decisions(memory).values()] == ["better"]
    assert low <= np.mean(used) <= high
    assert right >= 180


def false_verdicts(runs: int) -> float:
    """The share of sweeps without any true difference that end with a verdict."""
    wrong = 0
    for run in range(runs):
        memory = Memory()
        play(SequentialQueue(SPECS, REGISTERED, memory), memory, drawn(90_000 + run, {"mse_like": 0}))
        wrong += bool(decisions(memory))
    return wrong / runs


def test_false_verdicts_of_whole_sweeps() -> None:
    rate = false_verdicts(400)
    assert rate <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert rate >= 0.01, "the harness can see a false verdict"


@pytest.mark.slow
def test_false_verdicts_of_many_whole_sweeps() -> None:
    # 4,000 sweeps know a rate of 5 % to 0.34 points.
    assert 0.04 <= false_verdicts(4_000) <= 0.055


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("engine", ["t", "exact", "anytime"])
def test_a_decided_method_gets_no_seed_and_others_go_on(workers: int, engine: str) -> None:
    plan, registered = sweep(["zero_shot", "ft", "far", "near", "same"], engine=engine)
    memory = Memory()
    accuracy = drawn(1, {"far": 6, "near": 1.2, "same": 0})
    queue = SequentialQueue(plan.confirm(plan.config.methods), registered, memory)
    handed = play(queue, memory, accuracy, workers)
    found = decisions(memory)
    at = found["far against ft"][0]
    assert at <= 9
    # With several workers one seed beyond the look may already have been in flight.
    assert at <= seeds_of(handed, "far") <= at + (workers > 1)
    assert seeds_of(handed, "same") == 20
    assert seeds_of(handed, "ft") == 20
    assert seeds_of(handed, "zero_shot") == 1
    assert len({spec.id for spec in handed}) == len(handed)
    assert memory.written == len(memory.looks)


def test_the_order_in_which_trials_end_changes_no_look() -> None:
    plan, registered = sweep(["ft", "far", "near"])
    looks = []
    for workers in (1, 3, 50):
        memory = Memory()
        queue = SequentialQueue(plan.confirm(plan.config.methods), registered, memory)
        play(queue, memory, drawn(2, {"far": 4, "near": 1}), workers)
        looks.append(memory.looks)
    assert looks[0] == looks[1] == looks[2]


@pytest.mark.parametrize("stop", [1, 7, 11, 16, 23])
def test_a_restart_equals_an_undisturbed_run(stop: int) -> None:
    plan, registered = sweep(["ft", "far", "near"])
    accuracy = drawn(3, {"far": 3, "near": 1})
    specs = plan.confirm(plan.config.methods)
    whole, broken = Memory(), Memory()
    play(SequentialQueue(specs, registered, whole), whole, accuracy)
    play(SequentialQueue(specs, registered, broken), broken, accuracy, stop=stop)
    before = dict(broken.looks)
    play(SequentialQueue(specs, registered, broken), broken, accuracy)
    assert broken.looks == whole.looks
    assert broken.trials == whole.trials
    assert broken.written == len(whole.looks)
    assert before.items() <= broken.looks.items()
    assert SequentialQueue(specs, registered, broken).remaining == 0


def test_no_method_runs_far_ahead_of_the_next_look() -> None:
    plan, registered = sweep(["ft", "one", "two"])
    memory = Memory()
    queue = SequentialQueue(plan.confirm(plan.config.methods), registered, memory)
    handed = []
    while (spec := queue.ask()) is not None:
        handed.append(spec)
    assert {m: seeds_of(handed, m) for m in ("ft", "one", "two")} == {"ft": 6, "one": 6, "two": 6}
    assert queue.remaining == 3 * 14


def test_equivalence_stops_a_method_and_overrun_adds_seeds() -> None:
    plan, registered = sweep(["ft", "same"], margin=0.02, overrun=3)
    memory = Memory()
    queue = SequentialQueue(plan.confirm(plan.config.methods), registered, memory)
    handed = play(queue, memory, drawn(4, {"same": 0}, sd=0.004))
    ((at, verdict),) = decisions(memory).values()
    assert verdict == "equivalent"
    assert seeds_of(handed, "same") == seeds_of(handed, "ft") == at + 3


def test_failures_are_not_replaced_and_a_failing_baseline_decides_nothing() -> None:
    good = drawn(5, {"mse_like": 3})
    memory = Memory()
    play(
        SequentialQueue(SPECS, REGISTERED, memory), memory,
        lambda method, number: None if (method, number) == ("ft", 1) else good(method, number),
    )  # fmt: skip
    first, second = memory.looks["primary", 5], memory.looks["primary", 6]
    assert (first["steps"][0]["pairs"], first["steps"][0]["decision"]) == (4, "undecided")
    assert (second["steps"][0]["pairs"], second["steps"][0]["decision"]) == (5, "better")
    memory = Memory()
    handed = play(SequentialQueue(SPECS, REGISTERED, memory), memory, lambda m, n: None if m == "ft" else good(m, n))
    assert decisions(memory) == {}
    assert len(handed) == 40
    assert {look["steps"][0]["pairs"] for look in memory.looks.values()} == {0}


def test_a_trial_that_could_not_be_run_stops_the_deal_and_counts_as_nothing() -> None:
    memory = Memory()
    queue = SequentialQueue(SPECS, REGISTERED, memory)
    spec = queue.ask()
    assert spec is not None
    queue.tell(spec, None)
    assert queue.remaining == 0
    assert SequentialQueue(SPECS, REGISTERED, memory).ask() == spec


def test_derived_methods_wait_for_the_end_point_of_their_base() -> None:
    plan, registered = sweep(["ft", "wise"])
    memory = Memory()
    queue = SequentialQueue(plan.confirm(plan.config.methods), registered, memory)
    handed = []
    while (spec := queue.ask()) is not None:
        handed.append(spec)
    assert {spec.method for spec in handed} == {"ft"}
    memory.end(handed[2], 0.5)
    queue.tell(handed[2], 0.5)
    waited = queue.ask()
    assert waited is not None
    assert (waited.method, waited.number) == ("wise", 2)


def test_the_section_of_the_sweep_file() -> None:
    made = config("runs", confirm={"seeds": {"min": 4, "max": 9}, "engine": "exact", "overrun": 2}).confirm
    assert made.until == Until(min=4, max=9)
    assert made.max_seeds == 9
    fixed = config("runs", confirm={"seeds": 7}).confirm
    assert (fixed.until, fixed.max_seeds) == (None, 7)
    for confirm, words in (
        ({"seeds": {"min": 2, "max": 9}}, "confirm.seeds.min"),
        ({"seeds": {"min": 6, "max": 6}}, "max = 6 is not beyond min = 6"),
        ({"seeds": 5, "overrun": 3}, "overrun = 3 with a fixed number of seeds"),
        ({"seeds": 0}, "confirm.seeds: found 0"),
        ({"seeds": {"min": 5, "most": 9}}, "confirm.seeds.most: unknown key"),
        ({"seeds": {}, "engine": "z"}, "confirm.engine"),
    ):
        with pytest.raises(ValueError, match=words):
            config("runs", confirm=confirm)


def test_registration_is_a_function_of_the_record() -> None:
    _, registered = sweep(["zero_shot", "ft", "one"], margin=0.01)
    assert registered["families"] == {"primary": [["one", "ft"], ["zero_shot", "ft"]]}
    assert registered["datasets"] == ["A", "B"]
    assert registered["looks"] == list(range(5, 21))
    assert (registered["engine"], registered["margin"], registered["alpha"]) == ("t", 0.01, 0.05)
    _, fixed = sweep(["ft", "one"], seeds=6)
    assert (fixed["engine"], fixed["looks"]) == ("fixed", [6])


@pytest.mark.slow
def test_a_sweep_in_a_store_registers_and_logs_its_looks_once(tmp_path: Path) -> None:
    made = config(
        tmp_path, methods={"zero_shot": {}, "ft": {}}, confirm={"seeds": {"min": 3, "max": 4}}, report={"alpha": 0.001}
    )
    _, ledger, _ = run_here(made)
    record = read_record(ledger.url)
    assert record["registration"] == preregistration(record)
    assert [(look["family"], look["n"]) for look in record["looks"]] == [("primary", 3), ("primary", 4)]
    # Again: nothing is left to do, and the looks come out the same.
    run_here(made)
    assert read_record(ledger.url) == record
    other = {**record["looks"][0], "steps": []}
    with pytest.raises(ValueError, match="comes out otherwise"):
        ledger.look(other)
    ledger.preregister({"changed": True})
    assert read_record(ledger.url)["registration"] == preregistration(record)


def test_the_order_of_hypotheses_makes_no_other_look():
    look = {
        "family": "primary",
        "n": 3,
        "steps": [{"name": "a against b", "t": 1.0}, {"name": "c against b", "t": 2.0}],
    }
    assert same_look(look, {**look, "steps": look["steps"][::-1]})
    assert not same_look(look, {**look, "steps": [{**step, "t": 1.0} for step in look["steps"]]})
