"""Methods as tuned: the formula, what it covers where a fixed configuration does not, how near a runner-up was."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from saeft_ray import stats
from saeft_ray.stats.runner_up import Side, runner_up, side

finite = st.floats(-10, 10)
labels = st.integers(0, 3)
rows = st.integers(1, 9).flatmap(
    lambda n: st.tuples(*(st.lists(kind, min_size=n, max_size=n) for kind in (finite, finite, labels, labels)))
)


@pytest.fixture
def simulations(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])
    import strength_simulations

    return strength_simulations


def test_the_tied_are_those_within_a_standard_error_of_the_best():
    scores = [[0.94, 0.95, 0.95], [0.90, 0.91, 0.90], [0.95, 0.94, 0.95], [0.96, None, 0.99], [0.95, 0.94, 0.945]]
    # Differences from the first: the third's are −1, 1 and 0 points, the fifth's mean is 0.17 points, its SE 0.60.
    assert stats.tied(scores) == (0, 2, 4)
    assert stats.tied(scores, se=0.1) == (0, 2)
    assert stats.tied([scores[1], *scores[2:]]) == (1, 3)
    assert stats.tied([[None, 0.9], [math.nan, 0.9]]) == ()
    # One seed has no standard error: equal scores alone are tied. Equal differences have that of the images.
    assert stats.tied([[0.95], [0.94], [0.95]]) == (0, 2)
    assert stats.tied([[0.95, 0.95], [0.94, 0.94]]) == (0,)
    assert stats.tied([[0.95, 0.95], [0.94, 0.94]], variance_floor=0.02**2) == (0, 1)
    assert stats.dealt(3, 8) == (0, 1, 2, 0, 1, 2, 0, 1)
    with pytest.raises(ValueError, match="no choice"):
        stats.dealt(0, 5)
    with pytest.raises(ValueError, match="configurations, seeds"):
        stats.tied([0.9, 0.8])


def test_the_variance_is_that_of_choices_and_the_part_of_seeds():
    got = stats.as_tuned([70.0, 68.0, 70.2, 68.2, 70.4], [0, 1, 0, 1, 0])
    assert [(k, m.n, m.mean) for k, m in got.by_choice.items()] == [(0, 3, pytest.approx(70.2)), (1, 2, 68.1)]
    within = (2 * 0.04 + 2 * 0.01) / 3
    squares = (70.2 - 68.1) ** 2 / 2
    variance = squares * (0.6**2 + 0.4**2) + within / 5
    assert (got.mean, got.se, got.df) == (pytest.approx(69.36), pytest.approx(math.sqrt(variance)), 1)
    assert got.hi - got.mean == pytest.approx(student.ppf(0.975, 1) * math.sqrt(variance))
    assert got.within == pytest.approx(math.sqrt(within))
    assert got.between == pytest.approx(math.sqrt(squares - within * (1 / 3 + 1 / 2) / 2))


def test_a_choice_for_every_seed_is_the_usual_interval():
    values = [70.0, 68.0, 69.5, 71.0]
    got, usual = stats.as_tuned(values, [3, 0, 1, 2]), stats.mean_interval(values)
    assert (got.lo, got.hi, got.within, got.df) == (pytest.approx(usual.lo), pytest.approx(usual.hi), None, 3)
    a, b = [1.0, 2.0, 4.0, 3.0], [0.0, 2.0, 1.0, 1.0]
    both, paired = stats.tuned_difference(a, b, range(4), range(4)), stats.paired(a, b)
    assert (both.lo, both.p, both.se) == (pytest.approx(paired.lo), pytest.approx(paired.p), pytest.approx(paired.se))


def test_one_choice_has_no_interval_and_says_why():
    got = stats.as_tuned([70.0, 71, 72], [0, 0, 0])
    assert (got.lo, got.hi, got.se, got.reason) == (None, None, None, stats.NoChoice.ONE_CHOICE)
    assert got.by_choice[0] == stats.mean_interval([70.0, 71, 72])
    both = stats.tuned_difference([1.0, 2, 3], [0.0, 0, 1], [0, 0, 0], None)
    assert (both.p, both.lo, both.se, both.reason) == (None, None, None, stats.NoChoice.ONE_CHOICE)
    assert stats.tost(both, 1.0) is None
    flat = stats.as_tuned([70.0] * 4, [0, 1, 0, 1])
    assert (flat.lo, flat.reason) == (None, stats.NoChoice.NO_SPREAD)


def test_without_choices_a_difference_is_the_paired_one():
    a, b = [1.0, 2.0, 4.0, 3.0], [0.0, 2.0, 1.0, 1.0]
    got, usual = stats.tuned_difference(a, b, None, None), stats.paired(a, b)
    assert (got.lo, got.hi, got.t, got.p, got.se) == (usual.lo, usual.hi, usual.t, usual.p, usual.se)
    assert (got.choices_a, got.choices_b, got.reason) == (0, 0, None)
    assert got.interval(0.9) == usual.interval(0.9)
    assert stats.tost(got, 2.5) == stats.tost(usual, 2.5)


def test_choices_that_change_together_are_counted_once():
    rng = np.random.default_rng(0)
    a, b, choice = rng.normal(1, 1, 8), rng.normal(0, 1, 8), np.arange(8) % 3
    alone = stats.tuned_difference(a, b, choice, None)
    together = stats.tuned_difference(a, b, choice, 2 - choice)
    assert (together.lo, together.hi, together.df) == pytest.approx((alone.lo, alone.hi, alone.df))
    apart = stats.tuned_difference(a, b, choice, np.arange(8) % 2)
    assert 1 <= apart.df <= 3
    assert apart.se > alone.se


@settings(max_examples=60)
@given(rows, st.randoms(use_true_random=False))
def test_order_and_labels_change_nothing_and_nothing_is_nan(drawn, random):
    a, b, of_a, of_b = map(np.array, drawn)
    order = [*range(len(a))]
    random.shuffle(order)
    one, again = stats.as_tuned(a, of_a), stats.as_tuned(a[order], 9 - of_a[order])
    both = stats.tuned_difference(a, b, of_a, of_b)
    turned = stats.tuned_difference(b[order], a[order], 9 - of_b[order], 9 - of_a[order])
    for got, other in ((one, again), (both, turned)):
        assert got.reason == other.reason
        assert (got.reason is None) == (got.lo is not None)
        for value in (got.mean, got.lo, got.hi, got.se, got.df):
            assert value is None or math.isfinite(value)
    if one.lo is not None:
        assert (one.lo, one.hi) == pytest.approx((again.lo, again.hi), abs=1e-6, rel=1e-6)
    if both.lo is not None:
        assert (both.lo, both.hi) == pytest.approx((-turned.hi, -turned.lo), abs=1e-6, rel=1e-6)


@pytest.mark.parametrize(("k", "n"), [(2, 8), (3, 8), (5, 10)])
def test_the_interval_covers_where_choices_are_drawn(k, n):
    rng, draws = np.random.default_rng(1), 300
    hits = both = 0
    choice = np.array(stats.dealt(k, n))
    for _ in range(draws):
        seeds = rng.normal(0, 0.5, n)
        a, b = (rng.normal(0, 1, k)[choice] + seeds + rng.normal(0, 0.3, n) for _ in range(2))
        one, difference = stats.as_tuned(a - seeds, choice), stats.tuned_difference(a, b, choice, choice)
        hits += one.lo <= 0 <= one.hi
        both += difference.lo <= 0 <= difference.hi
    assert hits / draws >= 0.93
    assert both / draws >= 0.93


def test_searches_that_are_made_again_are_covered_and_the_fixed_configuration_is_not(simulations):
    got = simulations.as_tuned(8, 2000)
    assert got.tuned.share >= 0.93
    assert got.difference.share >= 0.93
    assert min(c.share for c in got.repeats.values()) >= 0.92
    assert got.fixed.share < 0.25
    assert got.over_seeds.share < 0.75


def test_the_simulations_do_what_the_package_does(simulations):
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (2, 3, 8))
    two, three = np.arange(8) % 2, np.arange(8) % 3
    for row in range(3):
        for got, known in (
            (stats.as_tuned(a[row], three), simulations.tuned(a, three)),
            (stats.tuned_difference(a[row], b[row], three, None), simulations.tuned(a - b, three)),
            (stats.tuned_difference(a[row], b[row], two, three), simulations.tuned(a - b, two, three)),
        ):
            assert (got.mean, got.lo, got.hi) == pytest.approx([ends[row] for ends in known])
    scores = np.array([[0.94, 0.95, 0.95], [0.95, 0.94, 0.95], [0.9, 0.91, 0.9]])
    drawn = simulations.Searches(ood=np.array([[1.0, 2.0, 3.0]]), tied=np.array([[True, False, True]]))
    assert drawn.dealt(5)[0].tolist() == [[1.0, 3.0, 1.0, 3.0, 1.0]]
    assert stats.tied(scores) == (0, 1)


def test_the_runner_up_and_its_lead():
    got = runner_up([[0.90, 0.91], [0.95, 0.94], [0.94, 0.94], [None, 0.99]])
    assert (got.best, got.second, got.lead) == (1, 2, pytest.approx(0.005))
    assert got.se == pytest.approx(0.005)
    assert runner_up([[0.9], [None]]) is None
    assert runner_up([[0.9], [0.8]]).se is None
    assert runner_up([[0.9, 0.9], [0.8, 0.8]], variance_floor=0.02).se == pytest.approx(0.1)


def test_a_verdict_turns_where_the_other_interval_lies_elsewhere():
    better, worse, wide, narrow = (0.1, 0.5), (-0.5, -0.1), (-1.0, 1.0), (-0.1, 0.2)
    assert [side(i, 0.5) for i in (better, worse, wide, narrow)] == [
        *(Side.BETTER, Side.WORSE, Side.UNDECIDED, Side.EQUIVALENT)
    ]
    assert side(narrow) == Side.UNDECIDED
    with pytest.raises(ValueError, match="not an interval"):
        side((1, 0))
