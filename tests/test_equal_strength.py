"""Comparisons at equal strength: exact on known curves, silent without an estimate, and as often right as they say."""

import dataclasses
import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeft_ray import stats
from saeft_ray.stats.equal_strength import MIN_STRENGTHS

PAIR = ("a", "b")
NODES = {"a": (0.16, 0.11, 0.057, 0.018), "b": (0.13, 0.067, 0.014, 0.03), "c": (0.12, 0.08, 0.04)}
finite = st.floats(-5, 5)


@pytest.fixture
def simulations(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])
    import strength_simulations

    return strength_simulations


def drawn(nodes=NODES, seeds=4, jitter=0.05, seed=0):
    """Arms at their nodes with every seed; the KL differs a little from seed to seed."""
    rng = np.random.default_rng(seed)
    arm = [name for name, kl in nodes.items() for _ in kl] * seeds
    kl = np.tile(np.concatenate([*nodes.values()]), seeds)
    kl = kl * np.exp(jitter * rng.standard_normal(len(kl)))
    return stats.runs(arm, np.repeat(np.arange(seeds), len(kl) // seeds), kl)


def numbers(value):
    """Every number in a result."""
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, (int, float)) else []


@settings(max_examples=40)
@given(st.tuples(finite, finite, finite), st.dictionaries(st.sampled_from("abc"), finite), st.integers(0, 9))
def test_offsets_from_one_cubic_are_found_exactly(curve, offsets, seed):
    points = drawn(seed=seed)
    log, own = np.log(points.kl), np.array([offsets.get(name, 0.0) for name in points.arm])
    shift = np.random.default_rng(seed).normal(0, 3, 4)[points.seed]
    y = own + shift + np.polyval([*curve, 60], log)
    for got in stats.at_equal_strength(points, y, [*itertools.permutations("abc", 2)]):
        truth = offsets.get(got.a, 0.0) - offsets.get(got.b, 0.0)
        assert got.comparison.mean == pytest.approx(truth, abs=1e-6)
        assert got.slope.mean == pytest.approx(0, abs=1e-6)
        assert (got.reason, got.left_out, got.seeds) == (None, {}, (0, 1, 2, 3))


def test_a_cubic_gives_the_same_at_a_higher_degree_and_another_curve_does_not():
    nodes = {name: np.geomspace(low, high, 9) for name, low, high in (("a", 0.02, 0.2), ("b", 0.01, 0.1))}
    points = drawn(nodes)
    cubic, steep = 2 * np.log(points.kl) ** 3, 60 - 6 / (1 + np.exp(-3 * (np.log(points.kl) - np.log(0.06))))
    by_degree = {
        (name, degree): stats.at_equal_strength(points, y, [PAIR], degree=degree)[0].comparison.mean
        for name, y in (("cubic", cubic), ("steep", steep))
        for degree in (3, 5)
    }
    assert by_degree["cubic", 3] == pytest.approx(by_degree["cubic", 5], abs=1e-6)
    assert abs(by_degree["steep", 3]) > 2 * abs(by_degree["steep", 5])


def test_accuracy_that_rises_and_falls_with_strength_is_compared():
    points = drawn()
    at = np.log(points.kl) - np.log(0.06)
    identity = 94 - 0.8 * at**2 + 0.1 * at**3 + np.where(points.arm == "a", 0.3, 0.0)
    mine = identity[(points.arm == "a") & (points.seed == 0)]
    assert mine.argmax() not in (0, len(mine) - 1)
    (got,) = stats.at_equal_strength(points, identity, [PAIR])
    assert got.comparison.mean == pytest.approx(0.3)


@pytest.mark.parametrize("third", [False, True])
def test_crossing_curves_are_told_by_their_slopes(third):
    kl = np.geomspace(0.01, 0.2, 5)
    points = drawn({"a": kl, "b": kl} | ({"c": kl} if third else {}), jitter=0.01)
    log = np.log(points.kl) - np.log(kl).mean()
    y = 68 - log**2 + np.where(points.arm == "a", 0.5, -0.5) * log
    y += np.random.default_rng(1).normal(0, 0.02, len(y))
    # The third arm has b's slope.
    pairs = [PAIR, ("a", "c")] if third else [PAIR]
    for got in stats.at_equal_strength(points, y, pairs):
        assert abs(got.comparison.mean) < 0.05
        assert got.slope.mean == pytest.approx(1, abs=0.05)
        assert got.slope.lo > 0
    parallel, *_ = stats.at_equal_strength(points, y - np.where(points.arm == "a", log, 0), pairs)
    assert parallel.slope.lo < 0 < parallel.slope.hi


@settings(max_examples=25)
@given(st.data())
def test_order_names_and_units_change_nothing(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    points = drawn(seeds=3, seed=1)
    y = rng.normal(70, 1, len(points.kl))
    pairs = [("a", "b"), ("c", "b"), ("a", "c")]
    before = {(d.a, d.b): d for d in stats.at_equal_strength(points, y, pairs, margin=0.5)}
    order = data.draw(st.permutations(range(len(y))))
    renamed = dict(zip("abc", data.draw(st.permutations(["x", "zz", "k"])), strict=True))
    seed_names = np.array(data.draw(st.permutations([7, 3, 11])))
    other = stats.runs(
        [renamed[name] for name in points.arm[order]], seed_names[points.seed[order]], 3.0 * points.kl[order]
    )
    again = data.draw(st.permutations(pairs))
    found = stats.at_equal_strength(other, y[order], [(renamed[a], renamed[b]) for a, b in again], margin=0.5)
    for pair, got in zip(again, found, strict=True):
        known = before[pair]
        for value in ("mean", "lo", "hi", "p"):
            assert getattr(got.comparison, value) == pytest.approx(getattr(known.comparison, value), rel=1e-6, abs=1e-9)
        assert got.p_adjusted == pytest.approx(known.p_adjusted, rel=1e-6)
        assert got.equivalent_adjusted == pytest.approx(known.equivalent_adjusted, rel=1e-6)
        assert got.slope.mean == pytest.approx(known.slope.mean, rel=1e-6, abs=1e-9)


def test_turned_around_it_is_the_negative():
    points = drawn()
    y = np.random.default_rng(2).normal(70, 1, len(points.kl))
    one, other = stats.at_equal_strength(points, y, [("a", "b"), ("b", "a")])
    assert (one.comparison.mean, one.comparison.lo) == pytest.approx((-other.comparison.mean, -other.comparison.hi))
    assert one.slope.mean == pytest.approx(-other.slope.mean)
    assert one.common == other.common


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.lists(st.floats(1e-6, 10), min_size=1, max_size=6),
        min_size=2,
    ),
    st.integers(1, 4),
)
def test_there_is_an_estimate_or_a_reason_and_never_a_nan(nodes, seeds):
    points = drawn(nodes, seeds)
    y = np.random.default_rng(3).normal(70, 1, len(points.kl))
    pairs = [*itertools.combinations("abcd", 2)]
    for got in stats.at_equal_strength(points, y, pairs, margin=0.5):
        assert (got.comparison is None) == isinstance(got.reason, stats.Reason) == (not got.seeds)
        assert got.seeds + tuple(got.left_out) or got.reason == stats.Reason.NOT_RUN
        assert all(math.isfinite(number) for number in numbers(got))
        if got.comparison:
            shared = points.kl[points.arm == got.a], points.kl[points.arm == got.b]
            assert min(len(np.unique(kl)) for kl in shared) >= MIN_STRENGTHS
            assert got.common[0] < got.common[1]


def reason(nodes, pairs=(PAIR,), seeds=4):
    points = drawn(nodes, seeds)
    y = np.random.default_rng(4).normal(70, 1, len(points.kl))
    return [d.reason and str(d.reason) for d in stats.at_equal_strength(points, y, pairs)]


def test_each_reason_is_told():
    far = np.geomspace(0.5, 1, 4)
    assert reason({"a": NODES["a"], "b": far}) == ["no common range"]
    assert reason({"a": NODES["a"], "b": (0.1, 0.05)}) == ["too few strengths"]
    assert reason({"a": NODES["a"], "b": (0.1, 0.05, 0.02)}) == ["too few points"]
    assert reason({"a": NODES["a"]}) == ["not run with the same seed"]
    # A third arm gives the points that two of them lack; one that nobody is compared with does not.
    three = {"a": NODES["a"], "b": (0.1, 0.05, 0.02), "c": NODES["c"]}
    assert reason(three) == ["too few points"]
    assert reason(three, [PAIR, ("c", "a")]) == [None, None]
    # An arm that shares no range with its partner takes no part in the others' curve.
    apart = {"a": NODES["a"], "b": NODES["b"], "c": far}
    points = drawn(apart)
    y = np.random.default_rng(5).normal(70, 1, len(points.kl))
    alone, _ = stats.at_equal_strength(points, y, [PAIR, ("a", "c")])
    (without,) = stats.at_equal_strength(points, y, [PAIR])
    assert alone.comparison.mean == without.comparison.mean


def test_seeds_without_their_runs_are_left_out_and_named():
    points = drawn()
    gone = ((points.seed == 2) & (points.arm == "b")) | ((points.seed == 0) & (points.arm == "a") & (points.kl > 0.05))
    kept = stats.runs(points.arm[~gone].tolist(), points.seed[~gone], points.kl[~gone])
    y = np.random.default_rng(6).normal(70, 1, len(points.kl))
    (got,) = stats.at_equal_strength(kept, y[~gone], [PAIR])
    assert got.seeds == (1, 3)
    assert got.left_out == {0: stats.Reason.TOO_FEW_STRENGTHS, 2: stats.Reason.NOT_RUN}
    assert (got.comparison.n, got.p_adjusted) == (2, 1.0)


def test_the_test_is_the_paired_one_holm_counts_every_pair_and_equivalence_needs_a_margin():
    points = drawn()
    own = np.select([points.arm == "a", points.arm == "b"], [0.9, 0.0], 0.05)
    y = 70 - np.log(points.kl) + own + np.random.default_rng(7).normal(0, 0.05, len(own))
    pairs = [PAIR, ("c", "b"), ("a", "nobody")]
    found = stats.at_equal_strength(points, y, pairs, margin=0.5)
    ps = [d.comparison.p for d in found[:2]]
    assert [d.p_adjusted for d in found] == [*stats.holm([*ps, 1.0])[:2], None]
    within = [stats.tost(d.comparison, 0.5) for d in found[:2]]
    assert [d.equivalent_p for d in found] == [*within, None]
    assert [d.equivalent_adjusted for d in found] == [*stats.holm([*within, 1.0])[:2], None]
    assert found[0].p_adjusted < 0.05 < found[0].equivalent_p
    assert found[1].equivalent_adjusted < 0.05
    (plain,) = stats.at_equal_strength(points, y, [PAIR])
    assert (plain.equivalent_p, plain.equivalent_adjusted) == (None, None)
    (floored,) = stats.at_equal_strength(points, y, [PAIR], variance_floor=1.0)
    assert floored.comparison.floored
    # An offset's difference weighs runs: its variance is more than that of a difference of two means.
    assert floored.comparison.sd**2 > 2 * 1.0 / 4


def test_equal_values_are_identical_and_what_is_no_run_is_refused():
    points = drawn()
    (got,) = stats.at_equal_strength(points, np.full(len(points.kl), 70.0), [PAIR])
    assert got.comparison.mean == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="frozen"):
        stats.runs(["a"], [0], [0.0])
    with pytest.raises(ValueError, match="one length"):
        stats.runs(["a"], [0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="itself"):
        stats.at_equal_strength(points, points.kl, [("a", "a")])
    with pytest.raises(ValueError, match="finite accuracies"):
        stats.at_equal_strength(points, [*points.kl[:-1], math.nan], [PAIR])
    with pytest.raises(ValueError, match="degree"):
        stats.at_equal_strength(points, points.kl, [PAIR], degree=0)


def test_one_curve_explains_what_strength_explains():
    points = drawn()
    log, shift = np.log(points.kl), np.array([1.0, -2, 0, 3])[points.seed]
    exact = stats.one_curve(points, 70 - log**3 + shift)
    assert (exact.r2, exact.residual_sd) == (pytest.approx(1), pytest.approx(0, abs=1e-6))
    noise = np.random.default_rng(8).normal(0, 1, len(log))
    nothing = stats.one_curve(points, noise + shift)
    assert 0 <= nothing.r2 < 0.5
    assert nothing.residual_sd == pytest.approx(1, abs=0.25)
    apart = stats.one_curve(points, 70 - log**3 + shift + np.where(points.arm == "a", 30, 0))
    assert apart.r2 < 0.95
    assert stats.one_curve(points, shift) is None
    assert stats.one_curve(stats.runs([*"abab"], [0, 0, 1, 1], [0.1, 0.2, 0.1, 0.2]), [1, 2, 3, 4]) is None
    assert stats.one_curve(stats.runs([*"ab"] * 5, [0] * 10, [0.1] * 10), range(10)) is None


def test_reach_and_equal_lambdas():
    points = drawn(jitter=0)
    assert stats.reach(points)["c"] == stats.Reach(runs=12, least=0.04, greatest=0.12)
    arm, seed, scale = ["a", "b"] * 5, [0, 0, 1, 1, 2, 2, 0, 1, 2, 0], [1.0] * 6 + [3.0] * 3 + [9.0]
    y = [70, 69, 71, 70, 73, 71, 60, 61, 62, 50]
    found = stats.at_equal_lambda(arm, seed, scale, y, PAIR)
    assert [*found] == [1.0]
    assert (found[1.0].n, found[1.0].mean) == (3, pytest.approx(4 / 3))
    assert stats.at_equal_lambda(arm, seed, scale, y, ("a", "nobody")) == {}


def test_areas_are_compared_between_equal_grids():
    nodes = {"a": (0.1, 0.05), "b": (0.1, 0.05), "c": (0.1, 0.07, 0.05)}
    points = drawn(nodes, seeds=3)
    identity = np.tile([93.0, 92, 93, 92, 93, 92.5, 92], 3)
    shifted = np.tile([66.0, 68, 65, 67, 66, 67, 68], 3) + np.repeat([0.0, 1, 2], 7)
    reference = dict.fromkeys(range(3), (90.0, 62.0))
    got = stats.hypervolume_difference(points, identity, shifted, reference, PAIR)
    # Areas (3 × 4 + 2 × 2) and (3 × 3 + 2 × 2) for seed 0; each further point of OOD adds 3 to both.
    assert (got.comparison.mean, got.comparison.mean_b) == (pytest.approx(3), pytest.approx(13 + 3))
    assert got.seeds == (0, 1, 2)
    dense = stats.hypervolume_difference(points, identity, shifted, reference, ("a", "c"))
    assert (dense.comparison, str(dense.reason)) == (None, "unequal numbers of strengths")
    part = stats.hypervolume_difference(points, identity, shifted, {0: reference[0]}, PAIR)
    assert (part.comparison.n, part.comparison.p, [*part.left_out]) == (1, None, [1, 2])


@pytest.mark.parametrize("degree", [3, 5])
def test_the_simulations_do_what_the_package_does(simulations, degree):
    drawn = simulations.sweeps(np.random.default_rng(9), 3, 5, offsets={"paper": -0.5})
    offsets = simulations.by_curve(drawn, degree)
    for number in range(3):
        for got in stats.at_equal_strength(*drawn.one(number), simulations.PAIRS, degree=degree):
            mean, lo, hi = simulations.usual(offsets[got.a] - offsets[got.b])
            expected = mean[number], lo[number], hi[number]
            assert (got.comparison.mean, got.comparison.lo, got.comparison.hi) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seeds", [5, 8])
def test_intervals_cover_where_interpolation_does_not(simulations, seeds):
    got = simulations.equal_strength(seeds, 1000)
    shares = {name: [c.share for c in by.values()] for name, by in got.covers.items()}
    for degree in ("degree 3", "degree 5"):
        assert all(0.93 <= share <= 0.97 for share in shares[degree])
        assert got.any_false[degree] <= 0.07
    assert min(shares["interpolation"]) < 0.8
    assert max(abs(c.bias) for c in got.covers["degree 3"].values()) < 0.03


def test_a_curve_that_is_no_cubic_needs_a_higher_degree(simulations):
    covers = simulations.equal_strength(8, 1000, simulations.logistic).covers
    shares = {name: min(c.share for c in by.values()) for name, by in covers.items()}
    assert shares["interpolation"] < shares["degree 3"] < 0.8 < 0.93 <= shares["degree 5"]


@pytest.mark.parametrize("seeds", [5, 8])
def test_an_arm_at_the_margin_is_seldom_called_equivalent(simulations, seeds):
    assert simulations.equivalence_error(seeds, 1000) <= 0.06
