"""The table of features by set and class, and what newly active images are, against dense arrays."""

from types import SimpleNamespace

import numpy as np
from scipy import sparse

from saeft_ray.features import firings as f


def world(seed=0, n=60, width=5, trials=3):
    """Two sets of three classes, and a comparison of dense arrays; feature 4 is never active."""
    generator = np.random.default_rng(seed)
    sets, labels = np.repeat([0, 1], n // 2), generator.integers(0, 3, n)
    member = [sparse.csr_matrix(np.eye(k)[of]) for k, of in ((6, 3 * sets + labels), (3, labels), (2, sets))]
    frozen = SimpleNamespace(names=("A", "B"), classes=("cat", "dog", "owl"), of_cell=member[0])
    before = generator.random((n, width)) * (generator.random((n, width)) < 0.3) * (np.arange(width) < 4)
    before[sets == 1, 3] = 0  # feature 3 is active on no image of the set B
    drawn = [generator.random((n, width)) * (generator.random((n, width)) < 0.3) for _ in range(trials)]
    after = [x * (np.arange(width) < 4) * ~((sets == 1)[:, None] & (np.arange(width) == 3)) for x in drawn]
    fresh, gone = ([sparse.csc_matrix(p.astype(float)) for p in each] for each in (
        [(x > 0) & (before == 0) for x in after], [(x == 0) & (before > 0) for x in after]
    ))  # fmt: skip
    comparison = SimpleNamespace(
        method="ft", against="frozen", fresh=fresh, gone=gone, before=sparse.csr_matrix(member[0].T @ before),
        after=sparse.csr_matrix(member[0].T @ np.mean(after, axis=0)),
    )  # fmt: skip
    return frozen, comparison, before, after, sets, labels, member


def test_every_line_is_the_sum_over_its_images_and_cells_without_mass_have_none():
    frozen, comparison, before, after, sets, labels, _ = world()
    table = f.firings([comparison], np.array([2, 0, 3, 1, 4]), frozen, missing := [])
    lines = {(x["feature"], x["set"], x["class"]): x for x in table.to_pylist()}
    assert missing == []
    assert len(lines) == table.num_rows
    for feature in range(5):
        for s, name in enumerate(frozen.names):
            for c, cls in enumerate(frozen.classes):
                here = (sets == s) & (labels == c)
                old, new = before[here, feature], np.array([x[here, feature] for x in after])
                line = lines.pop((feature, name, cls), None)
                if not old.any() and not new.any():
                    assert line is None
                    continue
                assert abs(line["mass_before"] - old.sum()) < 1e-12
                assert abs(line["mass"] - new.sum(1).mean()) < 1e-12
                assert abs(line["newly_active"] - ((new > 0) & (old == 0)).sum(1).mean()) < 1e-12
                assert abs(line["no_longer_active"] - ((new == 0) & (old > 0)).sum(1).mean()) < 1e-12
    assert not lines


def test_the_order_of_seeds_changes_nothing():
    frozen, comparison, *_ = world()
    other = SimpleNamespace(**{**vars(comparison), "fresh": comparison.fresh[::-1], "gone": comparison.gone[::-1]})
    one, two = (f.firings([each], np.arange(5), frozen, []).to_pandas() for each in (comparison, other))
    assert one.round(12).equals(two.round(12))


def test_what_does_not_fit_is_the_least_changed_and_is_said(monkeypatch):
    frozen, comparison, *_ = world()
    monkeypatch.setattr(f, "LINES", 10)
    table = f.firings([comparison], np.array([2, 0, 1, 3, 4]), frozen, missing := [])
    assert set(table["feature"].to_pylist()) == {2}
    assert "holds the 1 most changed of 5 features" in missing[0]
    assert f.firings([], np.zeros(0, int), frozen, []).num_rows == 0


def test_shares_of_newly_active_images_are_against_those_of_the_old():
    frozen, comparison, before, *_, labels, member = world()
    fresh = sum(comparison.fresh)
    found = f.shares(fresh, sparse.csc_matrix(before), member[1], frozen.classes)
    assert sorted(found) == [0, 1, 2, 3]
    for feature, classes in found.items():
        new = np.array([fresh.toarray()[labels == c, feature].sum() for c in range(3)])
        old = np.array([(before[labels == c, feature] > 0).sum() for c in range(3)])
        assert [x.new for x in classes] == sorted((x for x in new / new.sum() if x), reverse=True)
        for x in classes:
            place = frozen.classes.index(x.label)
            assert np.allclose([x.new, x.old], [new[place] / new.sum(), old[place] / old.sum()])
    of_sets = f.shares(fresh, sparse.csc_matrix(before), member[2], frozen.names)
    assert [x.label for x in of_sets[3]] == ["A"]
    born_of_nothing = f.shares(fresh, sparse.csc_matrix(before.shape), member[1], frozen.classes)
    assert {x.old for classes in born_of_nothing.values() for x in classes} == {0.0}
