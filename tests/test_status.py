"""The door `status`: how a sweep stands, from storage alone, by few reads."""

import pytest

from saeft_ray import status
from saeft_ray.errors import UserError
from saeft_ray.orchestration.tally import Tally
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.state import read_state
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.files import Files
from saeft_ray.storage.store import Store

import report_rows

NOW = 1_800_000_100.0


def spec(number, phase="search"):
    return TrialSpec(phase=phase, method="ft", settings={"type": "ft"}, seed=7, number=number)


@pytest.fixture
def sweep(tmp_path):
    """A sweep that runs under lease 3: two trials ended, two run, one could not be run, one waits from before."""
    ledger = Ledger(Store(str(tmp_path)), "small", 3)
    ledger.begin(None)
    report_rows.put_json(tmp_path / "sweeps" / "small" / "sweep.json", report_rows.record())
    specs = [spec(number) for number in range(6)]
    for one in specs:
        ledger.begin_trial(one)
    for one in specs[:2]:
        ledger.finish(one, [one.row("small", "selection", "selection", "accuracy", 0.9)])
    sign = {"node": "node-2", "device": "cpu", "since": NOW - 90, "at": NOW - 10, "epoch": 1, "epochs": 4}
    for one in specs[2:4]:
        ledger.show_life(one.id, sign)
    ledger.give_up(specs[4], "Traceback\n  somewhere\nRuntimeError: no luck")
    tally = Tally()
    tally.begin("search", 6, 0)
    for one in specs[:2]:
        tally.started(one)
        tally.ended(one, 0.9)
    tally.failures = 2
    said = {**tally.json(), "left": 100.0, "rate": 120.0, "at": NOW - 40, "ended": None}
    ledger.show_progress(said)
    return ledger, specs, said


def test_a_sweep_that_runs(sweep):
    ledger, specs, _ = sweep
    lines = status.shown(read_state(ledger.url), NOW).splitlines()
    far = "2 of 6 done, 120 trials an hour, about 1 min 0 s left, best selection accuracy 90.0% (ft)"
    assert lines[0] == f"{ledger.url}: running, last sign of life 40 s ago"
    assert lines[1] == f"search: {far}"
    assert lines[2] == "search: 2 trials have ended, 4 have not"
    running = "on node-2: 1 of 4 epochs done, began 1 min 30 s ago, last sign of life 10 s ago"
    assert sorted(lines[3:5]) == sorted(f"  {one.id} {running}" for one in specs[2:4])
    assert lines[5] == "attempts that failed in this run: 2"
    assert lines[6] == "trials that could not be run: 1; the same command tries them again"
    assert lines[7] == f"  {specs[4].id}: RuntimeError: no luck"
    assert lines[8].startswith("stored: ")


def test_a_driver_that_is_silent_and_one_that_has_ended(sweep):
    ledger, _, said = sweep
    assert "no sign of life for 1 h 0 min" in status.shown(read_state(ledger.url), NOW + 3560)
    ledger.show_progress({**said, "ended": "stopped by a signal"})
    words = status.shown(read_state(ledger.url), NOW)
    assert "not running; it ended 40 s ago: stopped by a signal" in words
    assert "node-2" not in words
    ledger.show_progress({**said, "ended": "done"})
    assert f"{ledger.url}: done, 40 s ago" in status.shown(read_state(ledger.url), NOW)


def test_what_an_earlier_driver_said_does_not_count(sweep, tmp_path):
    ledger, *_ = sweep
    Ledger(Store(str(tmp_path)), "small", 4).begin(None)
    state = read_state(ledger.url)
    assert (state.progress, state.signs) == (None, {})
    assert "has not said yet" in status.shown(state, NOW)


def test_a_torn_file_is_no_error(sweep, tmp_path):
    ledger, specs, _ = sweep
    (tmp_path / "sweeps" / "small" / "progress.json").write_bytes(b"{")
    state = read_state(ledger.url)
    assert state.progress is None
    assert state.signs.keys() == {one.id for one in specs[2:4]}


def test_a_thousand_trials_are_counted_and_not_read(sweep, tmp_path, monkeypatch):
    ledger, *_ = sweep
    for number in range(1000):
        folder = tmp_path / "sweeps" / "small" / "trials" / f"confirm-ft-{number:010x}"
        folder.mkdir()
        for name in ("spec.json", "rows.parquet"):
            (folder / name).write_bytes(b"")
    read, before = [], Files.read_bytes

    def counted(files, path):
        read.append(path)
        return before(files, path)

    monkeypatch.setattr(Files, "read_bytes", counted)
    state = read_state(ledger.url)
    assert state.ended["confirm"] == 1000
    assert len(read) <= 8


def test_the_door(sweep, tmp_path, capsys):
    ledger, _, said = sweep
    ledger.show_progress({**said, "ended": "done"})
    assert status.main([ledger.url, "--watch"]) == 0  # ends, since the sweep has ended
    assert "done, " in capsys.readouterr().out
    assert status.main([str(tmp_path)]) == 2
    assert "it is a storage with the sweeps small" in capsys.readouterr().err
    with pytest.raises(UserError, match="no sweep at"):
        read_state(str(tmp_path / "nowhere"))
