"""Linear CKA from sums, against whole Gram matrices."""

import numpy as np
import pytest

from saeft_ray.features.cka import Cka, linear


def grams(x, y):
    """(biased, HSIC₁) from N × N matrices, as the papers write them."""
    n = len(x)
    centre = np.eye(n) - 1 / n
    k, m = x @ x.T, y @ y.T

    def biased(a, b):
        return np.trace(a @ centre @ b @ centre)

    def unbiased(a, b):
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        one = np.ones(n)
        whole = (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
        return (np.trace(a @ b) + whole - 2 / (n - 2) * one @ a @ b @ one) / (n * (n - 3))

    return tuple(h(k, m) / np.sqrt(h(k, k) * h(m, m)) for h in (biased, unbiased))


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 9)) + 5
    return x, x @ rng.normal(size=(9, 14)) + 3 * rng.normal(size=(60, 14)) - 2


def test_both_estimators_equal_those_of_gram_matrices(sides):
    assert linear(*sides) == pytest.approx(grams(*sides), abs=1e-8)


def test_the_parts_do_not_matter(sides):
    assert linear(*sides, part=7) == pytest.approx(linear(*sides), abs=1e-10)


def test_turning_scaling_and_shifting_do_not_matter(sides):
    x, y = sides
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))[0]
    assert linear(3 * x @ turn + 100, y) == pytest.approx(linear(x, y), abs=1e-8)
    assert linear(x, x) == pytest.approx((1, 1))


def test_a_constant_side_has_no_similarity(sides):
    x, y = sides
    for none in (np.full_like(x, 0.1), np.zeros_like(x)):
        assert linear(none, y) == Cka(None, None) == linear(y, none)
    assert linear(x[:0], y[:0]) == linear(x[:1], y[:1]) == Cka(None, None)


def test_independent_sides_are_biased_upwards_only_in_the_biased_one():
    rng = np.random.default_rng(2)
    found = linear(rng.normal(size=(100, 50)), rng.normal(size=(100, 50)))
    assert found.biased > 0.25
    assert abs(found.unbiased) < 0.05
