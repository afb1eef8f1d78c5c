"""Records of a real, tiny sweep: made once, kept, and equal to what its models say."""

import numpy as np
import pytest
import torch

from saeft_ray.features import compute
from saeft_ray.features.readers import KINDS
from saeft_ray.features.summary import what_changed
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.storage.store import Store

from sweeps import config, run_here

MORE = ["red", "green", "blue", "dark", "paper", "noise"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    storage = tmp_path_factory.mktemp("features")
    methods = {"zero_shot": {}, "ft": {}, "wise_ft": {"of": "ft", "alpha": 0.5}}
    run_here(config(storage, methods=methods, confirm={"seeds": 3}, features={"words": MORE}))
    return reopen(f"{storage}/sweeps/small")


def test_every_trial_with_weights_has_a_record_through_every_reader(sweep):
    plan, ledger, store = sweep
    found = compute.trials(plan, ledger)
    assert sorted((spec.method, spec.number) for spec in found) == [
        (m, n) for m in ("ft", "wise_ft") for n in (0, 1, 2)
    ]
    for kind in KINDS:
        record = compute.record_of_trial(plan, store, found[0], kind, CPU)
        assert tuple(record.changes) == compute.sets_of(plan)
        for each in record.changes.values():
            left = each.added + each.strengthened - each.weakened - each.removed
            assert each.mass - each.mass0 == pytest.approx(left, abs=1e-9)
        assert bool(record.born) == (kind == "trained")
        assert record.seen.moved > 0


def test_a_record_is_made_once(sweep, monkeypatch):
    plan, ledger, store = sweep
    spec = compute.trials(plan, ledger)[0]
    first = compute.record_of_trial(plan, store, spec, "trained", CPU)
    monkeypatch.setattr(compute, "embeddings", None)
    again = compute.record_of_trial(plan, Store(store.url), spec, "trained", CPU)
    assert again.seen == first.seen
    assert again.similarity == first.similarity
    assert np.array_equal(again.changes["ID"].mass, first.changes["ID"].mass)


def test_interpolated_weights_move_less_than_those_they_are_made_of(sweep):
    plan, ledger, store = sweep
    moved = {
        spec.method: compute.record_of_trial(plan, store, spec, "trained", CPU).seen.moved
        for spec in compute.trials(plan, ledger)
        if spec.number == 0
    }
    assert 0 < moved["wise_ft"] < moved["ft"]


@pytest.fixture(scope="module")
def summary(sweep):
    return what_changed(*sweep)


def test_the_summary_reads_every_method_and_says_what_it_sees(summary):
    assert tuple(reading.kind for reading in summary.readings) == KINDS
    assert {m.method for m in summary.readings[0].movements} == {"ft", "wise_ft"}
    assert summary.missing == ()
