"""What changed where the truth is known: movement that the test plants is found and named, and nothing else is."""

import json

import numpy as np
import pytest
import torch

from saeft_ray.features import compute, files, testing
from saeft_ray.features import summary as summary_of
from saeft_ray.features.found import with_settings
from saeft_ray.features.frozen import Frozen
from saeft_ray.features.naming import bank_of, named
from saeft_ray.features.readers import dictionary_of, reader
from saeft_ray.orchestration.reopen import reopen

from sweeps import config, run_here

CPU = torch.device("cpu")
SETS = ("A", "Sketch")
CLASS = 3


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    storage = tmp_path_factory.mktemp("truth")
    methods = {"ft": {}, "wise_ft": {"of": "ft", "alpha": 0.5}}
    run_here(config(storage, methods=methods, confirm={"seeds": 3}, features={"sets": SETS, "stability": 0}))
    return reopen(f"{storage}/sweeps/small")


@pytest.fixture
def moved(sweep, monkeypatch):
    """What is found if the tuned embeddings are those that `move(spec, set)` (N, d) adds to the frozen ones."""
    plan, ledger, store = sweep

    def found(version, move):
        frozen, known = Frozen(plan, store, CPU), compute.embeddings_of

        def embeddings(plan, store, spec, name, device):
            if spec is None:
                return known(plan, store, spec, name, device)
            x = frozen.raw[frozen.names.index(name)]
            return (x + np.linalg.norm(x, axis=1, keepdims=True) * move(spec, name)).astype(np.float32)

        monkeypatch.setattr(summary_of, "KINDS", ("trained",))
        monkeypatch.setitem(compute.VERSIONS, "record", version)
        monkeypatch.setattr(compute, "embeddings_of", embeddings)
        return summary_of.what_changed(plan, ledger, store), frozen

    return found


def noise(spec, shape):
    return 0.01 * np.random.default_rng([spec.number, len(spec.method), shape[0]]).standard_normal(shape)


def test_a_planted_change_is_found_named_and_placed_and_noise_is_not(sweep, moved):
    plan, _, store = sweep
    atoms = dictionary_of(reader(plan, "trained"), plan, store, CPU).atoms.numpy()
    before = Frozen(plan, store, CPU)
    its = named(plan, before, "trained", bank_of(plan, []))
    alive = testing.live(its.on0.astype(float), before.count)
    feature = int(np.flatnonzero(alive)[np.argmax(its.found.named[alive] + its.found.f1[alive, 0])])
    labels = dict(zip(before.names, np.split(before.labels, before.starts[1:-1]), strict=True))

    def planted(spec, name):
        direction = 0.5 * (labels[name] == CLASS)[:, None] * atoms[feature] * (name == "A") * (spec.method == "ft")
        return direction + noise(spec, direction.shape)

    found, frozen = moved(91, planted)
    by = {(f.index, c.method): (f, c) for f in found.features for c in f.changes if c.against == "frozen"}
    grown, change = by[feature, "ft"]
    assert change.effect.verdict == "grew"
    assert change.effect.mean == max(c.effect.mean for (_, method), (_, c) in by.items() if method == "ft")
    assert grown.name == its.name(feature)
    assert grown.words
    assert change.new_classes[0].label == frozen.classes[CLASS]
    assert change.new_classes[0].new > 0.8
    assert change.new_sets[0].label == "A"
    assert {c.effect.verdict for (_, method), (_, c) in by.items() if method == "wise_ft"} <= {
        "not found", "not tested"
    }  # fmt: skip
    lines = [x for x in found.firings.to_pylist() if x["feature"] == feature and x["method"] == "ft"]
    most = max((x for x in lines if x["against"] == "frozen"), key=lambda x: x["newly_active"])
    assert (most["set"], most["class"]) == ("A", frozen.classes[CLASS])


def test_models_that_did_not_move_have_words_and_no_number_that_is_none(moved):
    found, _ = moved(92, lambda spec, name: 0.0)
    assert any("ft changed no embedding: there is nothing to see." in line for line in found.sentences)
    assert all((m.seen, m.grew, m.shrank, m.beyond) == (None, 0, 0, 0) for m in found.readings[0].movements)
    assert {c.effect.mean for f in found.features for c in f.changes} == {0.0}
    assert not any(c.born or c.died or c.new_classes or c.new_sets for f in found.features for c in f.changes)
    firings = found.firings.to_pandas()
    assert not firings[["newly_active", "no_longer_active"]].to_numpy().any()
    assert np.abs(firings["mass"] - firings["mass_before"]).max() <= 1e-3
    json.loads(files.as_json(found))


def test_a_dictionary_that_reads_nothing_has_words(sweep):
    """One active atom, after one step of training."""
    plan, ledger, store = sweep
    small = with_settings(plan, {"sets": ("A",)})
    blind = plan.config.dictionary.model_copy(update={"k": 1, "steps": 1})
    small = type(plan)(small.config.model_copy(update={"dictionary": blind}), plan.facts)
    found = summary_of.what_changed(small, ledger, store)
    assert any("cannot tell what ft changed" in line for line in found.sentences)
    assert len(found.readings) == 4
    assert not np.isnan(found.firings.to_pandas().select_dtypes("number").to_numpy()).any()
    assert files.from_json(files.as_json(found).encode(), "") == found


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_seeds_and_of_features_changes_no_test(seed):
    generator = np.random.default_rng(seed)
    effects, control = (generator.standard_normal((6, 40)) + s * (np.arange(40) < 5) for s in (2, 0))
    live = generator.random(40) < 0.8
    seeds, order = generator.permutation(6), generator.permutation(40)
    one = testing.assess(effects, control, live)
    other = testing.assess(effects[seeds][:, order], control[seeds][:, order], live[order])
    for place, feature in enumerate(order.tolist()):
        a, b = vars(one.effect(feature)), vars(other.effect(place))
        assert a.pop("verdict") == b.pop("verdict")
        for name, value in a.items():
            assert value is b[name] is None or value == pytest.approx(b[name], abs=1e-12)
