"""The caps of a sweep: what ends early and how, what is said, and that whoever raises them goes on from there."""

import io
import os
import signal
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from saeft_ray import api, sweep
from saeft_ray.config.sweep_file import parse
from saeft_ray.errors import Unfinished, UserError
from saeft_ray.orchestration import cap
from saeft_ray.orchestration.cap import Cap
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.hours import Hours, seconds_driven
from saeft_ray.records.ledger import Ledger
from saeft_ray.settings import Compute
from saeft_ray.storage.checksum import to_json
from saeft_ray.storage.store import Store
from saeft_ray.training import loop

import sweeps

ONE = {"methods": {"ft": {}}, "confirm": {"seeds": 1}}
PAST = {"deadline": "2026-01-02T03:04+01:00"}


def soon(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def wait():
    with suppress(TimeoutError):
        threading.Event().wait(20)
    raise AssertionError("nothing came")


@pytest.fixture
def hours(tmp_path):
    return Hours(Store(str(tmp_path)), "small", 2)


def test_trials_are_asked_to_save_and_the_end_says_what_is_missing_and_how_to_go_on(hours, capfd):
    compute = Compute(deadline=soon(0.3))
    with (
        pytest.raises(Unfinished) as ended,
        StopSignals(0.05) as signals,
        Cap(
            compute,
            hours,
            signals,
            lambda: "in confirm with 2 of 5 done: the other 3 and what follows them are missing",
        ),
        signals.while_trials_run(),
    ):
        wait()  # until the end of the grace
    assert signals.stop_requested
    assert str(ended.value) == (
        f"compute.deadline: {compute.deadline} has passed. The sweep ends early, in confirm with 2 of 5 done: the "
        "other 3 and what follows them are missing. Nothing is lost: raise compute.deadline, on which no result "
        "depends, and run the same command to go on"
    )
    assert f"compute.deadline: {compute.deadline} has passed. Stopping. Trials have" in capfd.readouterr().err


def test_what_is_no_trial_ends_at_once(hours):
    with pytest.raises(Unfinished), StopSignals(60) as signals:  # noqa: SIM117
        with Cap(Compute(deadline=soon(0.2)), hours, signals, str):
            wait()
    assert not signals.stop_requested


def test_a_signal_that_came_first_stays_the_reason(hours):
    with pytest.raises(KeyboardInterrupt), StopSignals(60) as signals:  # noqa: PT012, SIM117
        with Cap(Compute(deadline=soon(0.5)), hours, signals, str), signals.while_trials_run():
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(1)
    assert signals.why == ""


def test_a_sweep_without_caps_has_no_watch(hours):
    before = threading.active_count()
    with StopSignals() as signals, Cap(Compute(), hours, signals, str) as none:
        assert not none.reached
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_hours_are_those_of_all_drivers(tmp_path):
    store = Store(str(tmp_path))
    store.write("sweeps/small/hours/000001.json", to_json({"seconds": 3600.0}))
    store.write("sweeps/small/hours/000003.json", b"torn")
    hours = Hours(store, "small", 4)
    assert 3600 <= hours.spent < 3660
    hours.write()
    assert 3600 <= seconds_driven(store, "small") <= hours.spent
    with StopSignals() as signals:
        reached = Cap(Compute(max_hours=1), hours, signals, lambda: "far")
        with pytest.raises(Unfinished, match=r"compute.max_hours: 1 is reached: 1.00 hours were driven, over all runs"):
            reached.check()
        Cap(Compute(max_hours=2), hours, signals, str).check()


def test_a_sweep_that_ends_in_mid_trial_goes_on_where_it_was(tmp_path, monkeypatch):
    batches, batch, left = [], loop._batch, Cap._left
    monkeypatch.setattr(loop, "STEPS_BETWEEN_PAUSES", 1)
    monkeypatch.setattr(cap, "_LOOK", 0.01)
    monkeypatch.setattr(Cap, "_left", lambda self: 0.0 if len(batches) > 2 else 1.0)

    def counted(task, epoch, index):
        batches.append((epoch, int(index[0])))
        if len(batches) > 3:
            threading.Event().wait(0.05)  # the watch has its turn
        return batch(task, epoch, index)

    monkeypatch.setattr(loop, "_batch", counted)
    sections = {**sweeps.SMALL, **ONE, "storage": str(tmp_path)}
    begun = api.load({**sections, "compute": {"max_hours": 100}})
    with pytest.raises(Unfinished, match=r"in confirm with 0 of 1 done: the other 1 and what follows"):
        begun.run(local=True, quiet=True)
    store = Store(str(tmp_path))
    assert len(store.keys("checkpoint")) == 1
    assert Ledger(store, "small").finished() == set()
    before, spent = len(batches), seconds_driven(store, "small")
    assert before < 12
    assert spent > 0
    monkeypatch.setattr(Cap, "_left", left)
    api.load({**sections, "compute": {"max_hours": 200, "deadline": soon(3600)}}).run(local=True, quiet=True)
    assert len(Ledger(store, "small").finished()) == 1
    assert len(batches) < 12 + 8, "what was saved was not trained again; a few batches are rendered ahead"
    assert seconds_driven(store, "small") > spent


def test_nothing_begins_after_a_cap_and_what_has_ended_is_reported(tmp_path, capsys):
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **ONE, compute=PAST)
    assert sweep.main([file, "--local", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "compute.deadline: 2026-01-02T03:04+01:00 has passed. The sweep ends early, after starting" in said
    store = Store(str(tmp_path / "runs"))
    assert not store.keys("head")
    sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **ONE)
    assert sweep.main([file, "--local", "--quiet"]) == 0
    sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", **ONE, compute=PAST)
    capsys.readouterr()
    assert sweep.main([file, "--local", "--quiet"]) == 0, "nothing was left to do"
    assert "report.html" in capsys.readouterr().out


def test_the_plan_says_the_caps(tmp_path):
    store = Store(str(tmp_path))
    store.write("sweeps/small/hours/000001.json", to_json({"seconds": 9000.0}))
    caps = {"max_hours": 5, **PAST}
    text = str(api.load({**sweeps.SMALL, "storage": str(tmp_path), "compute": caps}).plan())
    assert "compute.max_hours: the sweep ends early after 5 hours over all its runs, of which 2.50 are spent." in text
    assert (
        "compute.deadline: the sweep ends early at 2026-01-02T03:04+01:00. It has passed: nothing more begins" in text
    )
    caps["max_hours"] = 2
    config = parse(io.StringIO(str({**sweeps.SMALL, "storage": str(tmp_path), "compute": caps})).read())
    out = io.StringIO()
    api.Sweep(config).show_plan(Console(file=out, width=300))
    assert "of which 2.50 are spent. It is reached: nothing more begins before it is raised." in out.getvalue()
    plain = str(api.load({**sweeps.SMALL, "storage": str(tmp_path)}).plan())
    assert "ends early" not in plain


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        ({"deadline": "2026-01-02T03:04"}, "says no zone"),
        ({"deadline": "tomorrow"}, "which is no time"),
        ({"max_hours": 0}, "max_hours"),
    ],
)
def test_a_cap_that_cannot_be_read_is_told(tmp_path, compute, words):
    with pytest.raises(UserError, match=words):
        sweeps.config(tmp_path, compute=compute)


def test_caps_are_in_no_identity(tmp_path):
    plain, capped = sweeps.config(tmp_path), sweeps.config(tmp_path, compute={"max_hours": 3, **PAST})
    assert capped.determining_settings() == plain.determining_settings()
