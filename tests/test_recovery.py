"""What a sweep does after its driver was stopped, succeeded by another, or started again with something changed."""

import pytest

from saeft_ray import driver, sweep
from saeft_ray.config.schema import SweepConfig
from saeft_ray.errors import UserError
from saeft_ray.methods.embeddings import MSE
from saeft_ray.orchestration import reopen
from saeft_ray.orchestration.search import SearchQueue
from saeft_ray.records import ledger as ledgers
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import read_rows
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store

import sweeps


def spec(number, lam=1.0, phase="search"):
    return TrialSpec(phase=phase, method="mse", settings=MSE(lambda_mse=lam), seed=5, number=number)


def row(spec, value):
    return spec.row("small", "selection", "selection", "accuracy", value)


def values(url):
    return {r["trial"]: r["value"] for r in read_rows(url).to_pylist()}


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    return Store(str(tmp_path)) if request.param == "local" else Store(request.getfixturevalue("s3_url"))


def test_what_a_zombie_writes_after_it_was_succeeded_does_not_count(store):
    early, late, both, again = (spec(0, 1.0), spec(1, 2.0), spec(1, 3.0), spec(2, 4.0))
    zombie = Ledger(store, "small", lease=1)
    zombie.begin(None)
    zombie.begin_trial(early)
    zombie.finish(early, [row(early, 0.1)])
    driver = Ledger(store, "small", lease=2)
    driver.begin(None)
    assert driver.finished() == {early.id}
    zombie.begin_trial(late)  # a suggestion that knew less
    zombie.finish(late, [row(late, 0.2)])
    zombie.finish(again, [row(again, 0.3)])
    driver.begin_trial(both)
    driver.finish(both, [row(both, 0.4)])
    driver.finish(again, [row(again, 0.5)])
    counted = {early.id: 0.1, both.id: 0.4, again.id: 0.5}
    assert values(driver.url) == counted
    assert driver.results("search") == counted
    assert [s.id for s in driver.asked("search")] == [early.id, both.id, again.id]
    third = Ledger(store, "small", lease=3)  # and so it stays
    third.begin(None)
    zombie.finish(spec(9), [row(spec(9), 0.9)])
    assert values(third.url) == counted
    assert third.results("search") == counted
    zombie.finish(both, [row(both, 0.6)])  # the first result of a trial is kept
    assert values(third.url) == counted


@pytest.mark.parametrize("hurt", [{1}, {2}, {3}, {1, 2}, {2, 3}, {1, 2, 3}])
def test_damaged_notes_of_what_drivers_found_are_named_where_they_matter_and_lose_no_rows(store, hurt, caplog):
    made = {}
    for lease in (1, 2, 3):
        driver = Ledger(store, "small", lease)
        driver.begin(None)
        one = spec(lease, float(lease))
        driver.begin_trial(one)
        driver.finish(one, [row(one, lease / 10)])
        made[one.id] = lease / 10
    late = spec(7, 7.0)
    Ledger(store, "small", lease=1).finish(late, [row(late, 0.7)])
    for lease in hurt:
        note = f"sweeps/small/leases/{lease:06d}.found.json"
        store.write(note, store.read_bytes(note).replace(b'"files"', b'"fules"'))
    found = values(driver.url)
    assert {trial: found[trial] for trial in made} == made
    last = max({1, 2, 3} - hurt, default=0)
    assert set(found) - set(made) <= ({late.id} if last < 2 else set()), "late files may count once two notes are gone"
    named = {lease for lease in hurt if f"leases/{lease:06d}.found.json: content differs" in caplog.text}
    assert named == {lease for lease in hurt if lease > last}
    after = Ledger(store, "small", lease=4)
    assert after.begin(None) == []
    assert values(after.url) == found
    caplog.clear()
    assert values(Ledger(store, "small").url) == found
    assert caplog.text == "", "a new note tells all; what was damaged matters no more"


def test_a_lost_suggestion_is_made_again_and_the_numbers_stay_whole(tmp_path):
    methods = {"ft": {}, "mse": {"lambda_mse": {"low": 1, "high": 100}}}
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, methods=methods, search={"trials": 3, "lag": 3}))
    first = SearchQueue(plan)
    asked = [first.ask() for _ in range(3)]
    for dealt in asked:
        ledger.begin_trial(dealt)
    (tmp_path / f"sweeps/small/trials/{asked[1].id}/spec.json").unlink()
    again = SearchQueue(plan, ledger.asked("search"), {})
    assert again.remaining == 3
    assert {again.ask().number for _ in range(3)} == {0, 1, 2}
    assert again.remaining == 0


def test_a_changed_sweep_is_told_what_changed_and_other_code_is_recorded(tmp_path, capsys, monkeypatch, caplog):
    methods = {"zero_shot": {}}
    file = sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", methods=methods, report={"baseline": "zero_shot"})
    monkeypatch.setattr(driver, "commit", lambda: "1111111")
    assert sweep.main([file, "--local", "--quiet"]) == 0
    monkeypatch.setattr(driver, "commit", lambda: "2222222")
    versions = reopen.versions()
    for writer in (reopen, ledgers):
        monkeypatch.setattr(writer, "versions", lambda: {**versions, "torch": "9.9"})
    assert sweep.main([file, "--local", "--quiet"]) == 0
    assert f"torch: was {versions['torch']} when this sweep began and is 9.9 now" in caplog.text
    assert "the commit of this package: was 1111111" in caplog.text
    found = Store(str(tmp_path / "runs")).read_bytes("sweeps/small/leases/000002.found.json").decode()
    assert '"commit": "2222222"' in found
    assert '"torch": "9.9"' in found
    sweeps.file(tmp_path / "a.yaml", tmp_path / "runs", methods=methods, seed=3, report={"baseline": "zero_shot"})
    capsys.readouterr()
    assert sweep.main([file, "--local"]) == 2
    said = capsys.readouterr().err
    assert "seed: was 0, is now 3" in said
    assert "another name, such as small-2" in said


def test_a_sweep_without_a_trial_may_change_its_file(tmp_path, caplog):
    sweeps.opened(sweeps.config(tmp_path, seed=1))
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, seed=2))
    assert ledger.record()["config"]["seed"] == 2
    assert "has no trial yet and takes the changed file; its record of before is set-aside-" in caplog.text
    ledger.begin_trial(SearchQueue(plan).ask())
    with pytest.raises(UserError, match="seed: was 2, is now 3"):
        sweeps.opened(sweeps.config(tmp_path, seed=3))


def test_a_sweep_from_before_a_setting_existed_goes_on_and_has_its_default(tmp_path, monkeypatch):
    settings = SweepConfig.determining_settings

    def then(config):
        known = settings(config)
        del known["report"]["variance"]
        return known

    with monkeypatch.context() as before:
        before.setattr(SweepConfig, "determining_settings", then)
        plan, _, ledger = sweeps.opened(sweeps.config(tmp_path))
    ledger.begin_trial(SearchQueue(plan).ask())
    sweeps.opened(sweeps.config(tmp_path))
    with pytest.raises(ValueError, match=r"report\.variance: was 'own', is now 'pooled'"):
        sweeps.opened(sweeps.config(tmp_path, report={"variance": "pooled"}))
