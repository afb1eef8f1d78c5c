"""Matches of dictionaries that hold the same atoms in another order."""

import numpy as np

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
