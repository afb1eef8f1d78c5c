"""How each trial went, and what a person sees of a sweep while it runs and afterwards."""

import io
import json
import threading

import pytest
from rich.console import Console

from saeft_ray import results
from saeft_ray.methods.baselines import FineTuning
from saeft_ray.orchestration import trial
from saeft_ray.orchestration.progress import Progress, Quiet
from saeft_ray.orchestration.pulse import Pulse
from saeft_ray.records.course import Course, epochs_table, trials_table
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.query import course_tables, query
from saeft_ray.records.read import read_rows, read_trials
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.training.worker import Worker

import report_rows
import sweeps

EPOCH = {"terms": {"cross_entropy": 0.5, "mse": 0.1}, "clipped": 0.25, "seconds": 3.0, "monitors": {}}


def course(epochs):
    made = [{**EPOCH, "epoch": n + 1, "lr": 0.1 / (n + 1), "selection": 0.9 if n else None} for n in range(epochs)]
    return Course("node-1", "cpu", 1_800_000_000.0, 1_800_000_012.0, made)


def spec(label, number=0, **settings):
    return TrialSpec(phase="search", method=label, settings={"type": label, **settings}, seed=7, number=number)


@pytest.fixture
def ended(tmp_path):
    """A ledger with a trial that ended, one that the search stopped, one that failed, and one from before."""
    ledger = Ledger(Store(str(tmp_path)), "small", 3)
    mse, stopped = spec("mse", lambda_mse=300.0), spec("mse", 1, lambda_mse=30.0)
    failed, old = spec("ft"), spec("ft", 1)
    ledger.finish(mse, [mse.row("small", "selection", "selection", "accuracy", 0.9)], course(2))
    ledger.finish(
        stopped, [stopped.row("small", "selection", "selection", "accuracy", 0.4, status="stopped")], course(1)
    )
    why = {"status": "failed", "error": "cross_entropy not finite"}
    ledger.finish(failed, [failed.row("small", "selection", "selection", "accuracy", None, **why)], course(0))
    ledger.finish(old, [old.row("small", "selection", "selection", "accuracy", 0.8)])
    report_rows.put_json(tmp_path / "sweeps" / "small" / "sweep.json", report_rows.record())
    return ledger, [mse, stopped, failed, old]


def test_every_epoch_is_kept_of_stopped_trials_too(ended):
    ledger, (mse, stopped, *_) = ended
    epochs = epochs_table(read_trials(ledger.url)).to_pylist()
    found = {(row["trial"], row["epoch"], row["metric"]): row["value"] for row in epochs}
    assert len(found) == len(epochs)
    assert {(name, number) for name, number, _ in found} == {(mse.id, 1), (mse.id, 2), (stopped.id, 1)}
    assert {metric for *_, metric in found} == {
        *("loss.cross_entropy", "loss.mse", "clipped", "seconds", "lr", "selection"),
    }
    assert (mse.id, 1, "selection") not in found
    assert found[mse.id, 2, "selection"] == 0.9
    assert ledger.course(mse.id) == course(2)


def test_a_trial_is_one_wide_line(ended):
    ledger, specs = ended
    lines = {row["trial"]: row for row in trials_table(read_trials(ledger.url)).to_pylist()}
    mse, stopped, failed, old = (lines[spec.id] for spec in specs)
    assert (mse["lambda_mse"], mse["selection"], mse["seconds"], mse["node"]) == (300.0, 0.9, 12.0, "node-1")
    assert (mse["seed"], mse["number"], mse["ended"].timestamp()) == (7, 0, 1_800_000_012)
    assert (stopped["status"], stopped["number"], stopped["epochs"], stopped["lambda_mse"]) == ("stopped", 1, 1, 30.0)
    assert (failed["status"], failed["selection"], failed["lambda_mse"]) == ("failed", None, None)
    assert (old["selection"], old["began"], old["epochs"]) == (0.8, None, None)  # read, as far as it says anything


def test_the_door_asks_for_trials_and_epochs(ended, capsys):
    ledger, specs = ended
    assert results.main([ledger.url, "--trials", "--format", "json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["trial"] for line in lines] == [specs[n].id for n in (2, 3, 0, 1)]
    sql = "SELECT method, max(epoch) AS last FROM epochs JOIN trials USING (trial, method) GROUP BY ALL"
    assert results.main([ledger.url, sql, "--format", "csv"]) == 0
    assert capsys.readouterr().out == "method,last\nmse,2\n"
    assert course_tables("SELECT 1 FROM results", {}) == {}
    assert query(read_rows(ledger.url), sql, course_tables(sql, {}))[1] == []
    with pytest.raises(SystemExit):
        results.main([ledger.url, "SELECT 1", "--trials"])


def test_a_trial_says_how_it_went(tmp_path):
    config = sweeps.config(tmp_path, methods={"ft": {}}, train={"epochs": 2, "batch_size": 512, "lr": 1e-3})
    plan, store, _ = sweeps.opened(config)
    asked = TrialSpec(phase="search", method="ft", settings=FineTuning(), seed=1, number=0)
    *reports, outcome = trial.run(plan, asked, store, Worker())
    assert [len(report.course.epochs) for report in reports] == [1, 2]
    first, last = outcome.course.epochs
    assert first["lr"] > last["lr"] > 0
    assert (first["selection"], last["selection"]) == (None, outcome.selection)
    assert outcome.course.began < outcome.course.ended
    assert outcome.course.node


def test_a_log_has_a_line_for_each_trial_and_for_each_beat():
    out = io.StringIO()
    progress = Progress(Console(file=out, width=40))
    first, second, third = spec("mse", lambda_mse=300.0), spec("mse", 1, lambda_mse=30.0), spec("ft")
    progress.phase("search", 3, 0)
    progress.started(first)
    progress.started(second)
    progress.ended(first, 0.912, course(2))
    progress.failed(second, "out of memory")
    progress.beat({second.id: {"node": "node-2", "epoch": 1, "epochs": 4}})
    progress.ended(second, None)
    progress.started(third)
    progress.ended(third, 0.5, course(1))
    begun, one, beat, two, three, end = out.getvalue().splitlines()
    assert begun == "search: 3 to do"
    assert one == "search mse lambda_mse=300 seed 7: selection accuracy 91.2%, 12 s on node-1 (1 of 3)"
    assert beat.startswith("search (phase 2 of 4): 1 of 3 done, best selection accuracy 91.2% (mse), about ")
    assert beat.endswith(f"1 failure so far; running: {second.id} (epoch 1 of 4 done, on node-2)")
    assert two == "search mse lambda_mse=30 seed 7: failed (2 of 3)"
    assert three.startswith("search ft seed 7: selection accuracy 50.0%")
    assert end.startswith("search: done in ")


def test_the_pulse_shows_and_writes_how_far_the_sweep_is(tmp_path):
    ledger, beaten, seen = Ledger(Store(str(tmp_path)), "small", 3), threading.Event(), []

    class Shown(Quiet):
        def beat(self, signs):
            seen.append(signs)
            beaten.set()

    def said():
        return json.loads((tmp_path / "sweeps" / "small" / "progress.json").read_text())

    running = spec("ft")
    sign = {"node": "node-2", "epoch": 1, "epochs": 4}
    ledger.show_life(running.id, sign)
    with Pulse(Shown(), ledger, every=0.01) as pulse:
        pulse.phase("search", 2, 1)
        pulse.started(running)
        beaten.clear()
        assert beaten.wait(60)
    assert seen[-1] == {running.id: sign}
    last = said()
    assert (last["phase"], last["done"], last["running"], last["ended"]) == ("search", 1, [running.id], "done")
    with pytest.raises(ValueError, match="bad"), Pulse(Shown(), ledger, every=60):
        raise ValueError("bad\nluck")
    assert said()["ended"] == "bad"


def test_a_pulse_does_not_stop_a_sweep_whose_storage_is_away(tmp_path, monkeypatch):
    ledger, tried = Ledger(Store(str(tmp_path)), "small", 3), threading.Event()

    def refuse(*_):
        tried.set()
        raise OSError("away")

    monkeypatch.setattr(ledger, "show_progress", refuse)
    with Pulse(Quiet(), ledger, every=0.01) as pulse:
        pulse.phase("search", 2, 1)
        assert tried.wait(60)


def test_a_running_trial_gives_signs_of_life(tmp_path, monkeypatch):
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path, methods={"ft": {}}))
    asked, seen = spec("ft"), []

    def run(*_):
        seen.append(ledger.signs([asked.id])[asked.id])
        yield trial.EpochReport(None, course(1))
        seen.append(ledger.signs([asked.id])[asked.id])
        rows = [asked.row("small", "selection", "selection", "accuracy", 0.9)]
        yield trial.Outcome(rows, 0.9, "ok", course(2))

    monkeypatch.setattr(trial, "run", run)
    monkeypatch.setattr(trial, "_QUIET", -1.0)
    list(trial.recorded(plan, asked, store, Worker(), ledger))
    assert [(sign["epoch"], sign["epochs"]) for sign in seen] == [(0, 1), (1, 1)]
    assert seen[1]["node"] == "node-1"
    assert ledger.course(asked.id) == course(2)
