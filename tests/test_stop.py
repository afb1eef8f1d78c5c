"""One trial ended for good by whoever sees the storage: how it ends, what is chosen without it, what a report says."""

import random
import re
from dataclasses import replace

import pytest

from saeft_ray import status
from saeft_ray.config.choose import Rule
from saeft_ray.errors import Stopped, Unfinished, UserError
from saeft_ray.features.summary import _unrecorded
from saeft_ray.orchestration import trial
from saeft_ray.orchestration.choosing import ranked
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import _choosable, candidates, run_phases
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.stopping import ask_to_stop
from saeft_ray.records import stops
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.records.stops import Asking, Request
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.report.build import findings
from saeft_ray.report.render.markdown import render
from saeft_ray.storage.store import Store
from saeft_ray.training import loop
from saeft_ray.training.worker import Worker

import sweeps

SAID = re.compile(r"stopped on purpose: asked by \S+ on \S+ at 20\d\d-\d\d-\d\d \d\d:\d\d UTC")
PLAIN = {"zero_shot": {}, "ft": {}, "wise_ft": {"of": "ft", "alpha": 0.5}}
SEARCHED = {"ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}}


class Hearing(Quiet):
    """Asks for the end of each trial that `wanted` accepts as soon as it begins, and notes what it hears."""

    def __init__(self, ledger, wanted):
        self.ledger, self.wanted, self.heard, self.begun = ledger, wanted, [], []

    def started(self, spec):
        self.begun.append(spec.id)
        if self.wanted(spec):
            ask_to_stop(self.ledger.url, spec.id)

    def stopped(self, spec, why):
        self.heard.append((spec.id, why))


@pytest.fixture
def often(monkeypatch):
    """A training that looks up after every step, and asks each time."""
    monkeypatch.setattr(loop, "STEPS_BETWEEN_PAUSES", 1)
    monkeypatch.setattr(stops, "EVERY", 0.0)


def drive(tmp_path, wanted, **sections):
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path, **sections))
    heard = Hearing(ledger, wanted)
    run_phases(plan, ledger, LocalRunner(plan, store, ledger), heard)
    return plan, ledger, heard


def spec(number=0, **more):
    return TrialSpec(
        **{"phase": "confirm", "method": "ft", "settings": {"type": "ft"}, "seed": 7, "number": number, **more}
    )


def test_a_running_trial_ends_at_its_next_step_with_rows_that_say_who_asked(tmp_path, often, monkeypatch):
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path, methods={"ft": {}}, confirm={"seeds": 1}))
    (one,) = plan.confirm(plan.config.methods)
    steps, batch = [], loop._batch

    def counted(*arguments):
        steps.append(arguments)
        if len(steps) == 3:
            ask_to_stop(ledger.url, one.id)
        return batch(*arguments)

    monkeypatch.setattr(loop, "_batch", counted)
    ledger.begin_trial(one)
    *_, outcome = trial.recorded(plan, one, store, Worker(), ledger)
    assert (outcome.selection, outcome.status) == (None, "stopped")
    assert len(steps) < 8  # of 12; some are rendered ahead
    rows = ledger.rows(one.id)
    assert {row.dataset for row in rows} == {"selection", *plan.config.data.test_sets()}
    assert all(row.status == "stopped" and row.value is None and SAID.fullmatch(row.error) for row in rows)
    assert ledger.stopped("confirm") == {one.id}
    assert not store.keys("endpoint")
    assert _unrecorded(plan, ledger, None) == [f"{one.id} was stopped on purpose and has no record."]


@pytest.mark.slow
def test_what_was_stopped_in_confirm_is_missing_from_its_pairs_and_disclosed(tmp_path):
    sections = {"methods": {"ft": {}, "mse": {"lambda_mse": 300}}, "confirm": {"seeds": 4}}
    plan, ledger, heard = drive(tmp_path, lambda spec: spec.method == "mse" and spec.number == 1, **sections)
    ((name, why),) = heard.heard
    assert SAID.fullmatch(why)
    assert len(ledger.finished()) == 8  # every other trial, and no seed in the place of that one
    seed = plan.seeds("confirm")[1]
    report = findings(read_rows(ledger.url), read_record(ledger.url))
    (mse,) = (c for c in report.primary if c.method == "mse")
    assert mse.paired.n == 3
    assert mse.dropped_seeds == (seed,)
    assert "among runs that finish" in mse.sentence
    assert not report.open, "a stopped run is not waited for"
    (stopped,) = (f for f in report.failures if f.stopped)
    assert (stopped.method, stopped.failed, stopped.attempts, stopped.stopped) == ("mse", 0, 3, ((seed, why),))
    assert [c.paired.n for c in report.sensitivity] == [4]
    (warning,) = (w.text for w in report.warnings if w.rule == "stopped on purpose")
    assert f"mse seed {seed}" in warning
    page = render(report, {})
    assert why in page
    assert "every failed or stopped run is scored as a guess" in page
    begun = Hearing(ledger, lambda spec: False)
    store = Store(str(tmp_path))
    run_phases(plan, ledger, LocalRunner(plan, store, ledger), begun)
    assert begun.begun == [], "never tried again"
    assert name in ledger.finished()


class MadeUp:
    """A runner whose trials end at once with made-up scores, but for the one that is stopped."""

    def __init__(self, plan, ledger, stopped):
        self.plan, self.ledger, self.stopped = plan, ledger, stopped

    def build(self, artifacts, watcher):
        pass

    def run(self, queue, watcher):
        while queue.remaining and (spec := queue.ask()):
            self.ledger.begin_trial(spec)
            draw = random.Random(spec.id)
            rows = [
                spec.row("small", dataset, role, "accuracy", draw.uniform(0.5, 0.6), n=100, examples="same")
                for dataset, role in {"selection": "selection", **self.plan.config.data.test_sets()}.items()
            ]
            if self.stopped(spec):
                rows = [replace(row, value=None, status="stopped", error="stopped on purpose: asked") for row in rows]
            self.ledger.finish(spec, rows)
            queue.tell(spec, rows[0].value)


def test_a_rule_that_runs_until_decided_takes_its_looks_without_the_pair(tmp_path):
    sections = {"methods": {"ft": {}, "mse": {"lambda_mse": 300}}, "confirm": {"seeds": {"min": 3, "max": 4}}}
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, **sections, report={"alpha": 0.001}))
    run_phases(plan, ledger, MadeUp(plan, ledger, lambda spec: (spec.method, spec.number) == ("mse", 1)), Quiet())
    assert len(ledger.finished()) == 8
    looks = read_record(ledger.url)["looks"]
    assert [(look["n"], look["steps"][0]["pairs"]) for look in looks] == [(3, 2), (4, 3)]
    report = findings(read_rows(ledger.url), read_record(ledger.url))
    assert not report.exploratory
    assert not report.open
    assert "among runs that finish" in report.primary[0].sentence


def test_a_derived_trial_ends_with_the_training_that_it_starts_from(tmp_path):
    plan, ledger, heard = drive(tmp_path, lambda spec: spec.method == "ft" and spec.number == 0, methods=PLAIN)
    base, derived = heard.heard
    assert base[0].startswith("confirm-ft-")
    assert derived[0].startswith("confirm-wise_ft-")
    assert derived[1] == f"it starts from {base[0]}, which was {base[1]}"
    assert len(Store(str(tmp_path)).keys("endpoint")) == 1  # of the other seed
    assert ledger.spec(derived[0]).base_trial == base[0]
    assert plan.confirm(plan.config.methods)[1].base_trial is None


def test_a_stopped_configuration_is_never_chosen(tmp_path):
    sections = {"methods": SEARCHED, "search": {"trials": 2}, "rerank": {"top": 2, "seeds": 1}}
    sections["confirm"] = {"seeds": 1}
    plan, ledger, heard = drive(tmp_path, lambda spec: spec.phase == "search" and spec.number == 1, **sections)
    ((name, _),) = heard.heard
    reranked = {spec.configuration for spec in ledger.asked("rerank")}
    assert len(reranked) == 1
    assert ledger.spec(name).configuration not in reranked
    report = findings(read_rows(ledger.url), read_record(ledger.url))
    (mse,) = (s for s in report.searches if s.method == "mse")
    assert (mse.search.on_purpose, mse.search.stopped, mse.search.failed) == (1, 0, 0)
    assert "1 stopped on purpose" in render(report, {})
    assert {label: best[0] for label, best in candidates(plan, ledger)[0].items()} == {"mse": ledger.chosen()["mse"]}


def test_a_method_all_of_whose_trials_were_stopped_has_nothing_to_choose(tmp_path):
    sections = {"methods": SEARCHED, "search": {"trials": 2}}
    with pytest.raises(Unfinished, match="mse: trials of every configuration were stopped on purpose in the search"):
        drive(tmp_path, lambda spec: spec.phase == "search", **sections)


def test_trials_that_wait_can_be_stopped_and_a_stop_is_kept_for_a_sweep_that_does_not_run(tmp_path, capsys):
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path, methods={"ft": {}}))
    first, second = plan.confirm(plan.config.methods)
    ledger.choose(plan.config.methods)
    assert status.main([ledger.url, "--stop", second.id]) == 0
    said = capsys.readouterr().out
    assert f"{second.id} is stopped on purpose: asked by " in said
    assert "The sweep does not run: this holds when it goes on, and is not tried again" in said
    assert status.main([ledger.url]) == 0
    assert f"{second.id} is to be stopped on purpose" in capsys.readouterr().out
    heard = Hearing(ledger, lambda spec: False)
    run_phases(plan, ledger, LocalRunner(plan, store, ledger), heard)
    assert [name for name, _ in heard.heard] == [second.id]
    assert ledger.rows(first.id)[0].status == "ok"
    assert status.main([ledger.url]) == 0
    assert "is to be" not in capsys.readouterr().out


def test_the_door_says_why_a_trial_cannot_be_stopped(tmp_path, capsys):
    plan, ledger, _ = sweeps.run_here(sweeps.config(tmp_path, methods={"ft": {}}, confirm={"seeds": 1}))
    (one,) = plan.confirm(plan.config.methods)
    assert status.main([ledger.url, "--stop", one.id]) == 2
    said = capsys.readouterr().err
    assert re.search(
        rf"{one.id} has ended, with a selection accuracy of \d\d\.\d%; what has ended cannot be stopped", said
    )
    assert len(said.splitlines()) == 1
    assert status.main([str(tmp_path), "--stop", one.id]) == 2
    assert "it is a storage with the sweeps small" in capsys.readouterr().err
    assert not list((tmp_path / "sweeps/small").glob("stops/*"))
    with pytest.raises(SystemExit):
        status.main([ledger.url, "--watch", "--stop", one.id])


def test_an_unknown_name_lists_near_ones(tmp_path):
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, methods={"zero_shot": {}, "ft": {}}))
    begun, *waiting = [spec for spec in plan.confirm(plan.config.methods) if spec.method == "ft"]
    ledger.begin_trial(begun)
    ledger.choose(plan.config.methods)
    for asked in ("ft", begun.id[:-1] + "_"):
        with pytest.raises(UserError) as error:
            ask_to_stop(ledger.url, asked)
        assert f"has no trial {asked!r}; near to it are" in str(error.value)
        assert all(spec.id in str(error.value) for spec in (begun, *waiting))
    with pytest.raises(UserError, match="no name of a trial that has not ended is near to it"):
        ask_to_stop(ledger.url, "../../x")


def test_in_rerank_those_that_wait_are_known_by_what_has_ended(tmp_path):
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, methods=SEARCHED, search={"trials": 2}))
    found = [spec(n, phase="search", method="mse", settings={"type": "mse", "lambda_mse": 30.0 + n}) for n in (0, 1)]
    waits = plan.rerank({"mse": [found[0].settings]}, {})[0]
    for one in found:
        with pytest.raises(UserError, match="has no trial"):
            ask_to_stop(ledger.url, waits.id)
        ledger.begin_trial(one)
        ledger.finish(one, [one.row("small", "selection", "selection", "accuracy", 0.5)])
    assert ask_to_stop(ledger.url, waits.id).by


def test_the_first_request_stands_and_a_damaged_one_too(tmp_path):
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, methods={"ft": {}}))
    one = plan.confirm(plan.config.methods)[0]
    ledger.begin_trial(one)
    first = Request("sam on laptop", "2026-01-02T03:04:05+00:00")
    path = tmp_path / f"sweeps/small/stops/{one.id}.json"
    path.parent.mkdir()
    path.write_bytes(stops.to_json(first._asdict()))
    assert ask_to_stop(ledger.url, one.id) == first
    assert str(first) == "stopped on purpose: asked by sam on laptop at 2026-01-02 03:04 UTC"
    path.write_bytes(path.read_bytes().replace(b"sam", b"tom"))
    assert "whose name is damaged" in str(ledger.stops.of(one.id))


def test_storage_that_is_away_asks_for_nothing(tmp_path, monkeypatch):
    _, _, ledger = sweeps.opened(sweeps.config(tmp_path, methods={"ft": {}}))
    asked = []

    def away(files, path):
        asked.append(path)
        raise OSError("no answer")

    monkeypatch.setattr(stops.Files, "read_bytes", away)
    asking = Asking(ledger.stops, "confirm-ft-1")
    assert [asking(), asking()] == ["", ""]
    assert len(asked) == 1, "not asked again at once"


def test_of_two_workers_both_stop_when_the_first_is_asked():
    """The mean over two workers of what one of them says is a half."""
    for why in ("stopped on purpose: asked by one", ""):
        worker = Worker(world_size=2, stopped=lambda why=why: why, mean=lambda mine: mine * 0 + 0.5)
        with pytest.raises(Stopped) as ended:
            worker.heed(False)
        assert str(ended.value) == why


def test_ranking_counts_one_that_failed_and_leaves_out_one_that_was_stopped(tmp_path):
    _, _, ledger = sweeps.opened(sweeps.config(tmp_path, methods=SEARCHED))
    found = [spec(n, phase="search", settings={"type": "mse", "lambda_mse": 30.0 + n}, method="mse") for n in range(3)]
    for one, (state, value, error) in zip(
        found, [("ok", 0.5, None), ("failed", None, "nan"), ("stopped", None, "x")], strict=True
    ):
        ledger.begin_trial(one)
        ledger.finish(one, [one.row("small", "selection", "selection", "accuracy", value, status=state, error=error)])
    (given,) = _choosable(found, ledger).values()
    assert [method.lambda_mse for method in ranked(Rule(), given, 100)] == [30.0, 31.0]
