"""Draws are pure functions of their names, and look random."""

import numpy as np
import pytest

from saeft_ray import draws
from saeft_ray.records.rows import pack, unpack
from saeft_ray.storage.fingerprint import canonical, fingerprint


def test_a_draw_depends_on_its_names_alone():
    whole = draws.uniform(7, "crop", np.arange(100), 3, slots=4)
    assert np.array_equal(whole[40:50], draws.uniform(7, "crop", np.arange(40, 50), 3, slots=4))
    for other in (
        draws.uniform(8, "crop", np.arange(100), 3, slots=4),
        draws.uniform(7, "flip", np.arange(100), 3, slots=4),
    ):
        assert not np.array_equal(whole, other)


def test_uniform_is_uniform_and_its_slots_are_uncorrelated():
    u = draws.uniform(0, "test", np.arange(20_000), slots=3)
    assert u.min() >= 0
    assert u.max() < 1
    assert np.histogram(u, 10, (0, 1))[0] / u.size == pytest.approx(0.1, abs=0.005)
    assert np.corrcoef(u.T) == pytest.approx(np.eye(3), abs=0.03)


def test_a_permutation_holds_everything_once_and_changes_with_the_epoch():
    first, second = (draws.permutation(1, "order", 1000, epoch) for epoch in (0, 1))
    assert sorted(first) == list(range(1000))
    assert not np.array_equal(first, second)


def test_seeds_of_different_parts_differ():
    seeds = {draws.seed_of(*parts) for parts in [("a", 1), ("a", "1"), ("a1",), ("b", 1), ("a", 1, 0)]}
    assert len(seeds) == 5


def test_identity_ignores_order_and_refuses_what_has_no_stable_form():
    assert fingerprint({"a": 1, "b": [2.0]}) == fingerprint({"b": [2], "a": 1.0})
    for value in ({1, 2}, float("nan"), object(), {1: 2}, b"bytes"):
        with pytest.raises(TypeError, match="cannot be part of an identity"):
            canonical({"x": value})


def test_bits_survive_packing():
    right = np.array([True, False, True] * 7)
    assert np.array_equal(unpack(pack(right), 21), right)
    with pytest.raises(ValueError, match="3 bytes hold no 30 bits"):
        unpack(pack(right), 30)
