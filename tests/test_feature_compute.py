"""Records of a real, tiny sweep: made once, kept, and equal to what its models say."""

import pickle
import shutil

import numpy as np
import pytest
import torch

from saeft_ray.errors import UserError
from saeft_ray.features import compute, files, naming
from saeft_ray.features import summary as summary_of
from saeft_ray.features.change import effect, total
from saeft_ray.features.comparisons import to_method
from saeft_ray.features.found import with_settings
from saeft_ray.features.frozen import Frozen
from saeft_ray.features.readers import KINDS
from saeft_ray.features.similarities import Blocks
from saeft_ray.features.summary import what_changed
from saeft_ray.model import encoder
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.storage.store import Store

from sweeps import config, run_here

MORE = ["orange", "pink", "cyan", "striped", "noisy"]
PAIRS = {("ft", "frozen"), ("wise_ft", "frozen"), ("wise_ft", "ft")}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    storage = tmp_path_factory.mktemp("features")
    methods = {"zero_shot": {}, "ft": {}, "wise_ft": {"of": "ft", "alpha": 0.5}}
    run_here(
        config(storage, methods=methods, confirm={"seeds": 3}, features={"words": MORE, "sets": ["ID", "A", "Sketch"]})
    )
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
    def elsewhere(act, things):
        for thing in things:
            act, thing = pickle.loads(pickle.dumps((act, thing)))
            yield pickle.loads(pickle.dumps(act(thing)))

    return what_changed(*sweep, each=elsewhere)


def records(sweep, method, kind="trained"):
    plan, ledger, store = sweep
    found = [spec for spec in compute.trials(plan, ledger) if spec.method == method]
    return [compute.record_of_trial(plan, store, spec, kind, CPU) for spec in found]


def only(plan, **settings):
    return with_settings(plan, settings)


def test_every_part_of_the_content_is_filled(summary, sweep):
    images = Frozen(*sweep[::2], CPU).count
    assert tuple(reading.kind for reading in summary.readings) == KINDS
    assert all(reading.named is not None for reading in summary.readings)
    assert summary.baseline == "ft"
    assert {(c.method, c.against) for f in summary.features for c in f.changes} == PAIRS
    assert {(s.method, s.against) for s in summary.similarities} == PAIRS
    assert {s.method for s in summary.shortcuts} == {"ft", "wise_ft"}
    assert {s.kind for s in summary.specimens} == set(KINDS)
    assert summary.missing == ("zero_shot trains no weights: its embeddings are those of the frozen model.",)
    assert len(summary.features) == summary.readings[0].live
    assert all(len(f.strongest) == min(8, round(f.live * images)) for f in summary.features)
    assert {f.of for f in summary.features} == {3}
    assert sum(f.name is not None for f in summary.features) == summary.readings[0].named


def test_it_says_first_how_much_the_dictionary_sees_of_each_method_in_the_order_of_the_file(sweep, summary):
    methods = [m.method for m in summary.readings[0].movements]
    assert methods == [label for label in sweep[0].config.methods if label in methods]
    for m, sentence in zip(summary.readings[0].movements, summary.sentences, strict=False):
        assert f" {m.method} changed" in sentence or f"{m.method} changed no" in sentence
        assert ("cannot tell" in sentence) == (m.seen is not None and m.seen < 0.3)


def test_numbers_of_features_are_those_of_the_records(summary, sweep):
    totals = [total(list(record.changes.values())) for record in records(sweep, "ft")]
    alive = totals[0].on0 >= 0.002 * Frozen(*sweep[::2], CPU).count
    effects = np.mean([effect(each.mass0, each.mass, alive) for each in totals], axis=0)
    changes = {f.index: f.changes[0] for f in summary.features}
    for index, change in changes.items():
        assert change.effect.mean == pytest.approx(effects[index], abs=1e-9)
        assert change.born == pytest.approx(np.mean([each.born[index] for each in totals]))
        assert change.died == pytest.approx(np.mean([each.died[index] for each in totals]))
    moved = summary.readings[0].movements[0]
    assert moved.grew == sum(change.effect.verdict == "grew" for change in changes.values())


def test_firings_are_those_of_the_records_by_set_and_class(summary, sweep):
    plan = sweep[0]
    known, classes = records(sweep, "ft"), set(plan.config.data.class_names())
    table = summary.firings.to_pandas()
    whole = table.groupby(["method", "against", "feature"])[["newly_active", "no_longer_active"]].sum()
    for feature in summary.features:
        for c in feature.changes:
            found = whole.loc[(c.method, c.against, feature.index)]
            assert found.tolist() == pytest.approx([c.born, c.died])
            assert sum(share.new for share in c.new_sets) <= 1 + 1e-9
    by_set = table[(table.method == "ft") & (table.against == "frozen")].groupby(["feature", "set"])["mass"].sum()
    assert (set(table["class"]), set(table["set"])) == (classes, set(compute.sets_of(plan)))
    for name in compute.sets_of(plan):
        mass = np.mean([record.changes[name].mass for record in known], axis=0)
        for feature in (f for f in summary.features if (f.index, name) in by_set.index):
            assert by_set[feature.index, name] == pytest.approx(mass[feature.index])


def test_pictures_of_newly_active_images_are_new_in_most_seeds(summary, sweep):
    born = [record.born for record in records(sweep, "ft")]
    for feature in summary.features[:40]:
        for image in feature.changes[0].born_images:
            new = sum(
                ((b[image.set].image == image.index) & (b[image.set].feature == feature.index)).any() for b in born
            )
            assert 2 * new >= len(born)


def test_against_the_baseline_counts_are_differences_of_those_against_the_frozen_model(summary):
    for feature in summary.features:
        by = {(c.method, c.against): c for c in feature.changes}
        of, base, compared = (by[pair] for pair in (("wise_ft", "frozen"), ("ft", "frozen"), ("wise_ft", "ft")))
        net = (of.born - of.died) - (base.born - base.died)
        assert compared.born - compared.died == pytest.approx(net, abs=1e-6)
        assert compared.effect.mean == pytest.approx(of.effect.mean - base.effect.mean, abs=1e-9)


def test_it_comes_back_from_json(summary):
    assert files.from_json(files.as_json(summary).encode(), "here") == summary


def test_without_a_text_tower_features_have_numbers_and_no_names(sweep, monkeypatch):
    def broken(plan):
        raise UserError("no text tower")

    monkeypatch.setattr(naming, "clip_of", broken)
    found = what_changed(only(sweep[0], sets=["A"], stability=0), *sweep[1:])
    assert {f.name for f in found.features} == {None}
    assert [reading.named for reading in found.readings] == [None] * 4
    assert any("no text tower" in line for line in found.missing)
    assert found.shortcuts == found.specimens == ()


def test_one_seed_tests_nothing_and_says_so(sweep, monkeypatch):
    monkeypatch.setattr("saeft_ray.features.summary.KINDS", ("trained",))
    monkeypatch.setattr(summary_of, "trials", lambda *of: [spec for spec in compute.trials(*of) if spec.number == 0])
    found = what_changed(*sweep)
    assert {c.effect.verdict for f in found.features for c in f.changes} == {"not tested"}
    assert any("Nothing can be tested for ft and wise_ft" in line for line in found.sentences)


def test_a_method_differs_in_nothing_from_itself(sweep):
    plan, _, store = sweep
    frozen, same = Frozen(plan, store, CPU), records(sweep, "ft")
    active = frozen.active("trained")
    alive = np.diff(active.indptr) > 10
    found = to_method("ft", "again", {"ft": same, "again": same}, frozen, active, alive, 0.1, 0.05)
    assert not found.born().any()
    assert not found.died().any()
    assert not found.tested.mean.any()
    assert found.tested.test is None


def test_a_trial_without_its_weights_is_missing_and_the_others_are_there(sweep, tmp_path, monkeypatch):
    plan, _, store = sweep
    shutil.copytree(store.url, tmp_path / "copy")
    plan, ledger, store = reopen(str(tmp_path / "copy/sweeps/small"))
    gone = next(spec for spec in compute.trials(plan, ledger) if spec.method == "ft")
    store.remove("endpoint", plan.final_weights(gone).key)
    monkeypatch.setattr("saeft_ray.features.summary.KINDS", ("trained",))
    monkeypatch.setitem(compute.VERSIONS, "record", 99)
    shutil.rmtree(tmp_path / "copy/artifacts/embeddings")
    found = what_changed(only(plan, sets=["A"], stability=0), ledger, store)
    assert {m.method: m.seeds for m in found.readings[0].movements} == {"ft": 2, "wise_ft": 2}
    assert any(line.startswith(f"{gone.id}: its weights are not in") for line in found.missing)


def test_users_labels_name_what_no_word_does(sweep, summary, tmp_path):
    feature = next(f for f in summary.features if not f.name and f.live > 0.02)
    places = Frozen(*sweep[::2], CPU).active("trained")[:, [feature.index]].nonzero()[0]
    images = Frozen(*sweep[::2], CPU).images(places)
    lines = "".join(f"{image.index},planted,{image.set}\n" for image in images)
    (tmp_path / "labels.csv").write_text("image,attribute,set\n" + lines)
    plan, missing = only(sweep[0], labels=str(tmp_path / "labels.csv")), []
    frozen = Frozen(plan, sweep[2], CPU)
    given = naming.labels_of(plan, frozen, missing)
    name = naming.named(plan, frozen, "trained", naming.bank_of(plan, missing), given).name(feature.index)
    assert (name.word, name.score) == ("planted", 1.0)
    assert missing == []


def test_blocks_of_a_tuned_tower_are_compared_one_by_one(sweep):
    plan, ledger, store = sweep
    found = Blocks(only(plan, sets=["A"]), store)(compute.trials(plan, ledger)[0])
    depth = encoder.blocks(plan.config.model)
    assert [site for _, site in found] == [f"block {i}{t}" for i in range(1, depth + 1) for t in ("", ", mean token")]
    assert all(0.5 < cka.unbiased < 1 for cka in found.values())
