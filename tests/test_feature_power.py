"""Tests of features against a known truth: the simulation of benchmarks/feature_power.py, with few runs."""

import pytest

from benchmarks.feature_power import simulate


@pytest.mark.parametrize("common", [0.0, 0.5])
def test_false_discoveries_stay_under_the_bound_and_half_as_much_again_is_found(common):
    few = simulate(1.5, seeds=5, runs=60, common=common)
    assert few.false <= 0.055
    assert few.found >= 0.6
    many = simulate(1.3, seeds=10, runs=60, common=common)
    assert many.false <= 0.055
    assert many.found >= 0.55
