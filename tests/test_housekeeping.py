"""What lies in a storage and whose it is; nothing that is needed may go, and nothing while it may be under way."""

import errno
import os
import time
from functools import cache
from pathlib import Path

import pytest

from saeft_ray.housekeeping.garbage import AGE, garbage, remove
from saeft_ray.housekeeping.ownership import look
from saeft_ray.housekeeping.states import states
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.reopen import record_of, reopen
from saeft_ray.orchestration.replay import replay
from saeft_ray.orchestration.tuned import identity_of_embeddings, tuned_classifier
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.preregistration import preregistration
from saeft_ray.storage.__main__ import main
from saeft_ray.storage.checksum import to_json
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.store import Store

import sweeps

QUICK = {
    "methods": {"zero_shot": {}, "ft": {}, "wise_ft": {"of": "ft", "alpha": {"choices": [0.3, 0.6]}}},
    "rerank": {"top": 1, "seeds": 1},
    "confirm": {"seeds": 1},
}
LATER = 2 * AGE


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path, monkeypatch):
    """A storage with the sweep `small`, which has ended, on a folder or on S3."""
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    found = Store(str(tmp_path / "runs") if request.param == "local" else request.getfixturevalue("s3_url") + "/runs")
    plant(found)
    return found


@pytest.fixture
def folder(tmp_path):
    found = Store(str(tmp_path / "runs"))
    plant(found)
    return found


@cache
def facts():
    return find_facts(sweeps.config(".", **QUICK))


def plant(store, **sections):
    """A sweep that looks as if it had run: record, trials with rows, and files of the right names as its artifacts."""
    config = sweeps.config(store.url, **{**QUICK, **sections})
    plan, ledger = Plan(config, facts()), Ledger(store, config.name)
    ledger.register(record_of(plan, None))
    chosen = {
        label: m.with_values({"alpha": 0.3}) if m.open_values() else m for label, m in plan.config.methods.items()
    }
    reranked = plan.rerank({"wise_ft": plan.alternatives("wise_ft")}, chosen)
    ledger.choose(chosen)
    ledger.preregister(preregistration(ledger.record()))
    for artifact in plan.artifacts():
        put(store, artifact.kind, artifact.key, artifact.identity)
    for spec in [*reranked, *plan.confirm(chosen)]:
        ledger.begin_trial(spec)
        ledger.finish(spec, [spec.row(plan.config.name, "selection", "selection", "accuracy", 0.5)])
        if spec.trained:
            put(store, "endpoint", plan.final_weights(spec).key, plan.final_weights(spec).identity)
            seen = identity_of_embeddings(plan, spec, "ID")
            put(store, "embeddings", fingerprint(seen, 24), seen)
    return plan, ledger


def put(store, kind, key, describe=None):
    store.ensure(kind, key, lambda folder: (folder / "a.bin").write_bytes(b"x" * 1000), describe or {"of": "another"})


def paths(found):
    return {item.path for item in found.items}


def test_nothing_of_a_sweep_goes_and_what_nobody_names_does(store):
    put(store, "endpoint", "0" * 24)
    put(store, "embeddings", "1" * 24, {"model": {}, "data": "other", "set": "A", "weights": None})
    put(store, "checkpoint", f"{'0' * 24}-00001-0000000")
    found = garbage(store)
    assert paths(found) == {
        f"artifacts/endpoint/{'0' * 24}",
        f"artifacts/embeddings/{'1' * 24}",
        f"artifacts/checkpoint/{'0' * 24}-00001-0000000",
    }
    assert not found.kept
    for item in found.items:
        remove(store, item)
    assert not garbage(store).items
    assert not store.has("endpoint", "0" * 24)


def test_what_may_be_under_way_stays_for_a_day(store):
    lost = f"artifacts/endpoint/{'2' * 24}/abcdef012345/model.safetensors"
    store.write(lost, b"half")
    store.write("sweeps/small/trials/set-aside-0123-rows.parquet", b"damaged")
    young = garbage(store)
    assert not young.items
    assert any("younger than a day" in sentence for sentence in young.kept)
    old = garbage(store, time.time() + LATER)
    assert paths(old) == {lost.rpartition("/")[0], "sweeps/small/trials/set-aside-0123-rows.parquet"}
    for item in old.items:
        remove(store, item)
    assert not store.exists(lost)


def test_left_over_temporary_files_go(tmp_path):
    store = Store(str(tmp_path))
    left = tmp_path / "sweeps/x/.tmp-0123"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"1234")
    found = garbage(store, time.time() + LATER)
    assert paths(found) == {"sweeps/x/.tmp-0123"}
    remove(store, found.items[0])
    assert not left.exists()


def test_a_lost_build_beside_a_whole_one_goes_alone(folder):
    store = folder
    key = store.keys("head")[0]
    build = store.manifest("head", key).build
    store.write(f"artifacts/head/{key}/fedcba543210/head.safetensors", b"half")
    found = garbage(store, time.time() + LATER)
    assert paths(found) == {f"artifacts/head/{key}/fedcba543210"}
    remove(store, found.items[0])
    assert Path(store.url, f"artifacts/head/{key}/{build}").is_dir()
    assert store.get("head", key)


@pytest.mark.parametrize("fault", ["damaged", "missing", "unknown"])
def test_a_sweep_that_cannot_be_accounted_for_protects_everything(store, fault, capsys):
    put(store, "endpoint", "0" * 24)
    record = Ledger(store, "small").record()
    store.write("sweeps/other/trials/confirm-ft-1/spec.json", b"{}")
    if fault == "damaged":
        store.write("sweeps/other/sweep.json", to_json(record)[:-40])
    elif fault == "unknown":
        record["config"]["methods"]["ft"]["type"] = "of_a_plugin"
        store.write("sweeps/other/sweep.json", to_json(record))
    assert main([store.url, "gc"]) == 0
    said = capsys.readouterr().out
    assert "1 artifact (" in said
    assert "that no other sweep names stay" in said
    assert "sweep other cannot be accounted for" in said
    assert store.has("endpoint", "0" * 24)


def test_weights_that_this_version_would_name_otherwise_are_protected(store):
    """As after a change of what is in a hash: the weights are there, under another name."""
    for key in store.keys("endpoint"):
        store.remove("endpoint", key)
        put(store, "endpoint", key[::-1])
    found = garbage(store)
    assert not found.items
    assert any("are not there under the names" in sentence for sentence in found.kept)


def test_beside_a_running_sweep_what_is_of_its_data_stays(store):
    plan, _, _ = reopen(f"{store.url}/sweeps/small")
    put(store, "endpoint", "3" * 24, {"model": plan.facts.model, "data": plan.facts.train})
    put(store, "endpoint", "4" * 24, {"model": "another", "data": "another"})
    with Lease(store, "sweeps/small", beat=0.05):
        found = garbage(store)
        assert paths(found) == {f"artifacts/endpoint/{'4' * 24}"}
        assert any("stay while small runs" in sentence for sentence in found.kept)
        (state,) = states(look(store))
        assert state.state.startswith("running on ")
    assert f"artifacts/endpoint/{'3' * 24}" in paths(garbage(store))


@pytest.mark.slow
def test_collecting_while_trials_run_changes_no_row(tmp_path):
    """Collects at the start and the end of every trial; then the sweep is replayed, exported and resumed."""
    quiet, busy = tmp_path / "quiet", tmp_path / "busy"
    sweeps.run_here(sweeps.config(quiet, **QUICK))
    plan, store, _ = sweeps.opened(sweeps.config(busy, **QUICK))

    class Collecting(Quiet):
        def started(self, spec):
            for item in garbage(store).items:
                remove(store, item)

        def ended(self, spec, selection, course=None):
            self.started(spec)

    with Lease(store, "sweeps/small", beat=0.05) as lease:
        ledger = Ledger(store, "small", lease.token)
        run_phases(plan, ledger, LocalRunner(plan, store, ledger), Collecting())
    assert main([str(busy), "gc"]) == 0
    assert sweeps.comparable(busy / "sweeps/small") == sweeps.comparable(quiet / "sweeps/small")
    plan, ledger, store = reopen(str(busy / "sweeps/small"))
    spec = next(spec for spec in ledger.asked("confirm") if spec.method == "ft")
    assert replay(plan, ledger, store, spec.id).equal
    assert tuned_classifier(plan, spec, store)
    run_phases(plan, ledger, LocalRunner(plan, store, ledger), sweeps.Begun(pytest.fail))


def test_rm_takes_what_no_other_sweep_names(store, capsys):
    plan, ledger = plant(store, name="second", seed=1)
    (head,) = store.keys("head")
    mine = plan.final_weights(next(spec for spec in ledger.asked("confirm") if spec.method == "ft"))
    assert look(store).owners["head", head] == ("second", "small")
    with Lease(store, "sweeps/second", beat=0.05):
        assert main([store.url, "rm", "second", "--yes"]) == 2
        assert "runs this sweep since" in capsys.readouterr().err
    assert main([store.url, "rm", "second"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert store.exists("sweeps/second/sweep.json")
    assert main([store.url, "rm", "second", "--yes"]) == 0
    assert "artifacts stay: other sweeps name them too" in capsys.readouterr().out
    assert not store.list("sweeps/second")
    assert not store.has(mine.kind, mine.key)
    assert not garbage(store).items
    plan, ledger, _ = reopen(f"{store.url}/sweeps/small")
    assert all(store.has("endpoint", plan.final_weights(s).key) for s in ledger.asked("confirm") if s.trained)
    assert main([store.url, "rm", "second", "--yes"]) == 2
    assert "has no sweep 'second'; it has small" in capsys.readouterr().err


def test_ls_and_du_tell_state_and_bytes(store, capsys):
    assert main([store.url, "ls"]) == 0
    said = capsys.readouterr().out
    assert "ended" in said
    assert "confirm 3 of 3 trials" in said
    assert main([store.url, "du"]) == 0
    said = capsys.readouterr().out
    for word in ("small", "endpoint", "head", "all together"):
        assert word in said
    for path in store.list("sweeps/small/trials"):
        if path.startswith("sweeps/small/trials/confirm-wise_ft") and path.endswith("rows.parquet"):
            store.delete(path)
    assert main([store.url, "ls"]) == 0
    said = capsys.readouterr().out
    assert "unfinished" in said
    assert "confirm 2 of 3 trials" in said


@pytest.mark.parametrize("command", [["ls"], ["du"], ["rm", "a", "--yes"], ["gc"]])
def test_a_storage_that_is_not_there_is_told(command, folder, tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), *command]) == 2
    assert "no storage at" in capsys.readouterr().err
    assert main([f"{folder.url}/sweeps/small", *command]) == 2
    assert f"give the storage that it lies in: {folder.url}" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_dry_run_removes_nothing(store, capsys):
    put(store, "endpoint", "0" * 24)
    assert main([store.url, "gc", "--dry-run"]) == 0
    assert "would remove artifacts/endpoint/000" in capsys.readouterr().out
    assert store.has("endpoint", "0" * 24)
    assert main([store.url, "gc"]) == 0
    assert not store.has("endpoint", "0" * 24)


def test_a_folder_that_a_driver_left_before_it_began_names_nothing(store):
    with Lease(store, "sweeps/begun", beat=0.05):
        put(store, "endpoint", "0" * 24)
        assert not garbage(store).items  # whatever it is, it has not said yet
    assert paths(garbage(store)) == {f"artifacts/endpoint/{'0' * 24}"}


def test_a_local_folder_that_may_not_be_listed_does_not_look_empty(folder, monkeypatch, capsys):
    listed = os.scandir

    def refusing(path):
        if str(path).endswith("trials"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    put(folder, "endpoint", "0" * 24)
    monkeypatch.setattr(os, "scandir", refusing)
    assert main([folder.url, "gc"]) == 2
    assert "trials: cannot be listed (Permission denied)" in capsys.readouterr().err
    monkeypatch.undo()
    assert folder.has("endpoint", "0" * 24)
