"""A search that its file determines: no order of finishing, number of workers or kill changes a suggestion."""

import random
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan import FACTS
from test_plan_words import told

from saeft_ray.errors import Unfinished
from saeft_ray.orchestration import local
from saeft_ray.orchestration.failures import ATTEMPTS
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.plan_words import searched_at_once
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.search import SearchQueue
from saeft_ray.orchestration.trial import Outcome, run
from saeft_ray.records.course import Course
from saeft_ray.training.worker import Worker

import sweeps

TWO = {"ft": {}, "mse": {"lambda_mse": {"low": 1, "high": 1e4}}, "l1": {"lambda_l1": {"low": 1, "high": 1e4}}}
OPEN = {"low": 1, "high": 1e4}
WIDE = {"ft": {}, "mse": TWO["mse"], "sae_ft": {"lambda_resid": OPEN, "lambda_add": OPEN, "lambda_remove": OPEN}}
EPOCHS = 6


def plan(methods=TWO, **search):
    train = {**sweeps.SMALL["train"], "epochs": EPOCHS}
    return Plan(sweeps.config("runs", methods=methods, train=train, search={"trials": 9, **search}), FACTS)


def drawn(spec, what=""):
    """A number from 0 to 1 that follows from the trial."""
    return random.Random(f"{spec.id} {what}").random()


def outcome(spec):
    """What a trial comes to, a function of its spec: its accuracy, None for one in six, and its epochs."""
    epochs = [{"epoch": n, "selection": drawn(spec, n)} for n in range(1, EPOCHS + 1)]
    cutoffs = dict(spec.cutoffs)
    ended = next((n for n, e in enumerate(epochs, 1) if e["selection"] < cutoffs.get(n, 0)), EPOCHS)
    course = Course("node", "cpu", 0.0, 1.0, epochs[:ended])
    return (None if drawn(spec) < 1 / 6 else epochs[ended - 1]["selection"]), course


def play(made):
    """The whole search, one trial after the other."""
    queue, specs = SearchQueue(made), []
    while queue.remaining:
        specs.append(queue.ask())
        queue.tell(specs[-1], *outcome(specs[-1]))
    return specs


@lru_cache
def undisturbed(lag, early_stopping):
    return sorted(play(plan(WIDE, lag=lag, early_stopping=early_stopping)), key=str)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(1, "none"), (2, "none"), (2, "asha"), (3, "asha")]), st.integers(1, 8), st.integers(0, 2**32))
def test_suggestions_follow_from_the_file_whoever_ends_first_and_whatever_is_killed(rule, workers, seed):
    (lag, early_stopping), chance = rule, random.Random(seed)
    made = plan(WIDE, lag=lag, early_stopping=early_stopping)
    queue, asked, running, results, courses = SearchQueue(made), {}, {}, {}, {}
    while queue.remaining or running:
        spec = queue.ask() if queue.remaining and len(running) < workers else None
        if spec is not None:
            assert spec.id not in running
            assert asked.setdefault(spec.id, spec) == spec
            running[spec.id] = spec
            continue
        # A worker is free only where each method has as many trials running as it may, or none left.
        methods = [other.method for other in running.values()]
        left = {label: 9 - sum(s.method == label for s in asked.values()) for label in ("mse", "sae_ft")}
        assert len(running) == workers or all(not n or label in methods for label, n in left.items())
        assert max(methods.count(label) for label in methods) <= lag
        if chance.random() < 0.1:  # a kill; some of the specs that ran were not written
            asked = {name: one for name, one in asked.items() if name not in running or chance.random() < 0.7}
            queue, running = SearchQueue(made, asked.values(), results, courses), {}
            continue
        ended = running.pop(chance.choice(sorted(running)))
        results[ended.id], courses[ended.id] = outcome(ended)
        queue.tell(ended, *outcome(ended))
    assert sorted(asked.values(), key=str) == undisturbed(lag, early_stopping)


def test_as_many_trials_run_at_once_as_the_plan_says():
    for lag in (1, 2, 4):
        made = plan(WIDE, lag=lag)
        queue, running = SearchQueue(made), []
        while (spec := queue.ask()) is not None:
            running.append(spec)
        assert len(running) == made.searched_at_once == 2 * lag
        last = [spec for spec in running if spec.method == "mse"][-1]
        queue.tell(last, 0.5)
        assert (queue.ask() is None) == (lag > 1)  # it is not the first that is waited for
    assert plan(WIDE, lag=20).searched_at_once == 2 * 9


def test_a_suggestion_is_made_from_the_results_up_to_its_lag_and_no_other():
    def suggested(better, lag=2):
        """Suggestion 8 of `mse`, where trial `better` was the best by far."""
        queue = SearchQueue(plan({"ft": {}, "mse": TWO["mse"]}, lag=lag))
        for number in range(8):
            spec = queue.ask()
            queue.tell(spec, 0.99 if number == better else 0.5 + drawn(spec) / 10)
        return queue.ask().settings

    assert len({suggested(better) for better in range(7)}) > 1
    assert suggested(6) != suggested(0)
    assert suggested(7) == suggested(None)
    assert suggested(7, lag=1) != suggested(None, lag=1)


def test_a_larger_budget_keeps_every_suggestion_of_a_smaller_one():
    few, many = (play(plan(trials=trials)) for trials in (3, 12))
    assert few == [spec for spec in many if spec.number < 3]
    assert play(plan(trials=9)) == [spec for spec in many if spec.number < 9]


def test_what_was_asked_under_another_rule_is_kept_as_it_was_asked():
    made = plan({"ft": {}, "mse": TWO["mse"]})
    method = made.config.methods["mse"]
    first = SearchQueue(made).ask()
    old = [
        first.model_copy(update={"number": n, "settings": method.with_values({"lambda_mse": 7.0 + n})})
        for n in range(6)
    ]
    queue = SearchQueue(made, old, {old[1].id: 0.9, old[4].id: None})
    assert queue.remaining == 7
    handed = []
    while queue.remaining:
        handed.append(queue.ask())
        queue.tell(handed[-1], 0.5)
    assert handed[:4] == [old[0], old[2], old[3], old[5]]
    assert [spec.number for spec in handed[4:]] == [6, 7, 8]


def test_a_trial_that_could_not_be_run_is_no_result_and_its_method_waits():
    queue = SearchQueue(plan())
    specs = [queue.ask() for _ in range(4)]
    lost = next(spec for spec in specs if (spec.method, spec.number) == ("mse", 1))
    queue.give_up(lost)
    handed = []
    for spec in specs:
        if spec != lost:
            queue.tell(spec, 0.5)
    while queue.remaining:
        handed.append(queue.ask())
        queue.tell(handed[-1], 0.5)
    assert {(spec.method, spec.number) for spec in handed} == {("mse", 2), *(("l1", n) for n in range(2, 9))}


def test_who_is_below_the_median_of_those_before_it_ends_at_the_rungs():
    made = plan({"ft": {}, "mse": TWO["mse"]}, early_stopping="asha")
    queue, accuracies = SearchQueue(made), [[0.5, 0.6, 0.6, 0.9], [0.7], [0.6, 0.8]]
    for number, values in enumerate(accuracies):
        spec = queue.ask()
        assert spec.cutoffs == [(), (), ((1, 0.5), (2, 0.6), (4, 0.9))][number]
        epochs = [{"epoch": n, "selection": value} for n, value in enumerate(values, start=1)]
        queue.tell(spec, values[-1], Course("node", "cpu", 0.0, 1.0, epochs))
    assert queue.ask().cutoffs == ((1, pytest.approx(0.6)), (2, 0.6), (4, 0.9))
    assert queue.ask().cutoffs == ((1, 0.6), (2, pytest.approx(0.7)), (4, 0.9))
    assert queue.ask() is None


def test_the_plan_tells_how_many_trials_of_the_search_run_at_once():
    made = plan()
    words = "At most 4 trials of the search run at once: 2 methods × search.lag 2."
    assert searched_at_once(made) == words
    assert words in told(made)
    compute = made.config.compute.model_copy(update={"concurrent": 9})
    said = searched_at_once(Plan(made.config.model_copy(update={"compute": compute}), FACTS))
    assert "of the 9 that compute.concurrent allows: 2 methods × search.lag 2. With search.lag 5 fewer workers" in said
    assert searched_at_once(plan({"ft": {}})) == ""


class Crowd(LocalRunner):
    """Four workers whose trials end in a shuffled order; everything stops after `left` of them."""

    workers, left, shuffled = 4, None, random.Random(0)

    def run(self, queue, watcher):
        running = []
        attempts = local.Attempts()
        while queue.remaining or running:
            if len(running) < self.workers and queue.remaining and (spec := queue.ask()) is not None:
                self._ledger.begin_trial(spec)
                running.append(spec)
                continue
            spec = running.pop(self.shuffled.randrange(len(running)))
            ended = self._attempt(spec, attempts, watcher)
            queue.tell(spec, ended.selection, ended.course)
            if self.left is not None:
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt


def in_a_crowd(config, *kills):
    """The rows of a sweep that a crowd runs, killed after so many trials of a start."""
    plan_, store, ledger = sweeps.opened(config)
    for turn, left in enumerate([*kills, None]):
        crowd = Crowd(plan_, store, ledger)
        crowd.left, crowd.shuffled = left, random.Random(turn)
        try:
            run_phases(plan_, ledger, crowd, Quiet())
        except KeyboardInterrupt:
            assert left is not None
    return sweeps.comparable(ledger.url)


@pytest.fixture
def instant(monkeypatch):
    """Trials that end at once, with rows that follow from their specs."""

    def ended(plan, spec, store, worker):
        datasets = {"selection": "selection", **(plan.config.data.test_sets() if spec.phase == "confirm" else {})}
        value, course = outcome(spec)
        status = "failed" if value is None else "stopped" if len(course.epochs) < EPOCHS else "ok"
        yield Outcome(
            [spec.row("small", d, r, "accuracy", value, status=status) for d, r in datasets.items()],
            value,
            status,
            course,
        )

    monkeypatch.setattr(local.trial, "run", ended)
    monkeypatch.setattr(LocalRunner, "build", lambda self, wanted, watcher: None)
    monkeypatch.setattr(local.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("early_stopping", ["none", "asha"])
def test_one_worker_four_and_a_kill_in_the_middle_give_one_table(tmp_path, instant, early_stopping):
    train = {**sweeps.SMALL["train"], "epochs": EPOCHS}
    sections = {"methods": WIDE, "train": train, "search": {"trials": 9, "early_stopping": early_stopping}}
    _, ledger, chosen = sweeps.run_here(sweeps.config(tmp_path / "one", **sections))
    table = sweeps.comparable(ledger.url)
    assert ("stopped" in {row["status"] for row in table}) == (early_stopping == "asha")
    assert in_a_crowd(sweeps.config(tmp_path / "four", **sections)) == table
    assert in_a_crowd(sweeps.config(tmp_path / "killed", **sections), 5, 11) == table
    assert chosen == sweeps.opened(sweeps.config(tmp_path / "killed", **sections))[2].chosen()


def test_a_bug_of_one_trial_stops_the_search_of_its_method_and_the_next_start_goes_on(tmp_path, instant, monkeypatch):
    config = sweeps.config(tmp_path / "whole", methods=TWO, search={"trials": 6})
    table = in_a_crowd(config)
    plan_, store, ledger = sweeps.opened(sweeps.config(tmp_path / "hurt", methods=TWO, search={"trials": 6}))
    right = local.trial.run

    def hurt(plan, spec, store, worker):
        if (spec.phase, spec.method, spec.number) == ("search", "mse", 1):
            raise KeyError("a bug")
        yield from right(plan, spec, store, worker)

    with monkeypatch.context() as broken:
        broken.setattr(local.trial, "run", hurt)
        with pytest.raises(Unfinished, match=f"(?s)1 search trials could not be run.*bug, {ATTEMPTS['bug']} times"):
            run_phases(plan_, ledger, LocalRunner(plan_, store, ledger), Quiet())
    assert sorted(name.split("-")[1] for name in ledger.finished()) == ["l1"] * 6 + ["mse"] * 2
    run_phases(plan_, ledger, LocalRunner(plan_, store, ledger), Quiet())
    assert sweeps.comparable(ledger.url) == table


def test_a_trial_below_its_cutoff_ends_with_a_row_that_says_so(tmp_path):
    train = {**sweeps.SMALL["train"], "epochs": 3}
    config = sweeps.config(
        tmp_path,
        methods={"ft": {}, "mse": TWO["mse"]},
        train=train,
        search={"trials": 3, "early_stopping": "asha"},
        compute={"checkpoint_minutes": 0},
    )
    plan_, store, _ = sweeps.opened(config)
    spec = SearchQueue(plan_).ask()
    going_on = run(plan_, spec.model_copy(update={"cutoffs": ((1, 0.0), (2, 0.0))}), store, Worker())
    assert [next(going_on).epoch.epoch for _ in range(2)] == [1, 2]
    going_on.close()  # and its checkpoint stays
    for cutoffs, epochs in (((1, 1.0),), 1), (((1, 0.0), (2, 1.0)), 2):
        below = spec.model_copy(update={"cutoffs": cutoffs})
        for replay in (False, True):  # from the checkpoint, which is beyond, and from the beginning
            *reports, ended = run(plan_, below, store, Worker(), replay)
            assert len(reports) == (epochs if replay else 0)
            (row,) = ended.rows
            assert (row.status, row.role, row.value) == ("stopped", "selection", ended.selection)
            assert [epoch["epoch"] for epoch in ended.course.epochs] == [*range(1, epochs + 1)]
            assert ended.course.epochs[-1]["selection"] == ended.selection
