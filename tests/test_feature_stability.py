"""Matches of dictionaries that hold the same atoms in another order."""

import numpy as np
from scipy import sparse

from saeft_ray.features import stability


def test_both_ways_find_the_order_and_a_random_dictionary_finds_nothing():
    a = stability.random_atoms(40, 64, 0, 0)
    order = np.random.default_rng(0).permutation(40)
    b = a[order] + 0.02 * stability.random_atoms(40, 64, 0, 1)
    for way in (stability.hungarian, lambda p, q: stability.mutual(p, q, block=7)):
        assert (order[way(a, b).partner] == np.arange(40)).all()
    found = stability.found(a, [b, stability.random_atoms(40, 64, 9, 5)], seed=1)
    assert found.times.tolist() == [1] * 40
    assert found.by_chance == 0


def activations(seed, n=3000, d=20):
    """(N, D) sparse: each feature is active on a tenth of the images, by itself."""
    generator = np.random.default_rng(seed)
    return sparse.csc_matrix(generator.random((n, d)) * (generator.random((n, d)) < 0.1))


def test_features_are_found_by_activation_in_any_order_and_chance_finds_none():
    mine, stranger = activations(0), activations(1)
    order = np.random.default_rng(2).permutation(20)
    noisy = mine.copy()
    noisy.data = noisy.data * np.random.default_rng(3).uniform(0.8, 1.2, len(noisy.data))
    found = stability.alike(mine, noisy[:, order], both_ways=True)
    assert (order[found.partner] == np.arange(20)).all()
    dense = np.corrcoef(mine.toarray().T, noisy.toarray().T)[:20, 20:]
    assert np.abs(found.likeness - np.diag(dense)).max() < 1e-9
    assert stability.held_active(mine, noisy[:, order], stranger).all()
    assert stability.held_active(mine, activations(4), stranger).mean() <= 0.15
    half = sparse.hstack([mine[:, :10], activations(5)[:, 10:]], format="csc")
    assert stability.held_active(mine, half, stranger)[:10].all()


def test_nothing_active_is_found_nowhere():
    mine, none = activations(0), sparse.csc_matrix((3000, 20))
    assert not stability.held_active(none, mine, mine).any()
    assert not stability.held_active(mine, none, none).any()
    assert stability.held_active(mine[:, :0], mine, mine).shape == (0,)
    assert stability.held_active(mine, mine[:, :0], none[:, :0]).sum() == 0
