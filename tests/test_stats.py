"""The statistics against reference values, known properties and simulations with bounds."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from saeft_ray import stats

GOLDEN = json.loads((Path(__file__).parent / "data" / "statistics_golden.json").read_text())
A, B = np.array(GOLDEN["A"]), np.array(GOLDEN["B"])
D = A - B
REPETITIONS = 8_000


def close(value: float | None, expected: float, rel: float = 1e-9) -> None:
    assert value == pytest.approx(expected, rel=rel)


def test_paired_golden() -> None:
    got = stats.paired(A.mean(axis=1), B.mean(axis=1))
    close(got.mean, GOLDEN["mean_ood_diff"])
    for name in ("t", "p", "lo", "hi"):
        close(getattr(got, name), GOLDEN["paired_t"][name])
    assert got.df == GOLDEN["paired_t"]["df"]
    close(got.d_z, GOLDEN["dz"])
    close(got.sign_flip_p, GOLDEN["signflip_p"])
    assert (got.wins, got.losses, got.ties) == (7, 0, 0)
    close(stats.tost(got, 0.5), GOLDEN["tost_p_margin_0.5"])


def test_per_dataset_and_corrections_golden() -> None:
    p = [stats.paired(A[:, k], B[:, k]).p for k in range(5)]
    np.testing.assert_allclose(p, GOLDEN["per_dataset_p"], rtol=1e-9)
    np.testing.assert_allclose(stats.holm(p), GOLDEN["holm"], rtol=1e-9)
    np.testing.assert_allclose(stats.max_t(D), GOLDEN["max_t_step_down_p"], rtol=1e-9)


def test_clopper_pearson_golden_and_edges() -> None:
    np.testing.assert_allclose(stats.clopper_pearson(7, 7), GOLDEN["clopper_pearson"], rtol=1e-9)
    low, high = stats.clopper_pearson(0, 5)
    assert low == 0
    assert high == pytest.approx(0.5218, abs=1e-4)
    assert stats.clopper_pearson(0, 0) is None
    with pytest.raises(ValueError, match="6 of 5"):
        stats.clopper_pearson(6, 5)


def test_improvement_counts_ties_half_and_against_both_ends() -> None:
    got = stats.improvement([1.0, 0.0, -1.0, 2.0])
    assert (got.n, got.share) == (4, 0.625)
    low, high = stats.clopper_pearson(2, 4), stats.clopper_pearson(3, 4)
    assert (got.lo, got.hi) == (low[0], high[1])
    # The measured examples: five of five wins and ten of ten.
    assert stats.improvement(np.ones(5)).lo == pytest.approx(0.48, abs=0.005)
    assert stats.improvement(np.ones(10)).lo == pytest.approx(0.69, abs=0.005)
    # A gain on one of five sets alone does not move the interquartile mean.
    assert stats.iqm(np.tile([3.0, 0, 0, 0, 0], (5, 1))) == 0
    for broken in ([], [math.nan]):
        with pytest.raises(ValueError, match="finite"):
            stats.iqm(broken)
        with pytest.raises(ValueError, match="finite"):
            stats.improvement(broken)


def test_interval_of_a_correlation() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    reference = scipy_stats.pearsonr(x, y + 0.5 * x)
    interval = stats.rho_interval(float(reference.statistic), 12)
    assert interval == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert stats.rho_interval(0.5, 3) is None
    assert stats.rho_interval(1.0, 10) is None


def test_power_golden() -> None:
    close(stats.power(1.0, 10), GOLDEN["power_d1_n10"], rel=1e-6)
    assert stats.smallest_n(1.0) == math.ceil(GOLDEN["n_for_80_d1"])
    assert stats.power(100.0, 50) == 1.0
    assert stats.smallest_n(0.001) is None
    # The measured table of minimum detectable differences.
    for n, d in ((3, 3.26), (5, 1.68), (10, 1.00), (20, 0.66)):
        assert stats.detectable(n) == pytest.approx(d, abs=0.01)
    low, high = stats.sd_range(1.0, 3, confidence=0.95)
    assert (low, high) == pytest.approx((0.52, 6.28), abs=0.01)


def test_crossed_golden() -> None:
    golden = GOLDEN["crossed"]
    got = stats.crossed(golden["D"])
    for mine, theirs in (("ms_seed", "ms_seed"), ("ms_item", "ms_item"), ("ms_error", "ms_err")):
        close(getattr(got, mine), golden[theirs])
    # The golden sum lies below the floor max(MS_s, MS_i)/(SN), which therefore acts.
    close((got.ms_seed + got.ms_item - got.ms_error) / (3 * 8), golden["var_mean"])
    close(got.variance, max(golden["ms_seed"], golden["ms_item"], golden["var_mean"] * 24) / 24)
    assert got.df >= 2


def test_crossed_mean_of_one_set_agrees_with_its_parts() -> None:
    d = np.random.default_rng(0).integers(-1, 2, size=(5, 400))
    one, mean = stats.crossed(d), stats.crossed_mean([d], [1.0])
    close(mean.mean, one.mean)
    close(mean.variance, one.seed_variance + one.item_variance)


def test_all_equal_all_zero_and_small_n() -> None:
    floor = (1 / 1000) ** 2 / 6
    equal = stats.paired([0.51, 0.52, 0.53], [0.50, 0.51, 0.52], variance_floor=floor)
    assert equal.floored
    assert equal.sd == pytest.approx(math.sqrt(floor))
    assert equal.p is not None
    assert 0 < equal.p < 0.01
    unknown = stats.paired([0.51, 0.52, 0.53], [0.50, 0.51, 0.52])
    assert unknown.p is None
    assert unknown.lo is None
    assert stats.tost(unknown, 0.1) is None
    zero = stats.paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], variance_floor=floor)
    assert zero.identical
    assert (zero.t, zero.p, zero.ties, zero.sign_flip_p) == (0.0, 1.0, 3, 1.0)
    one = stats.paired([0.5], [0.4])
    assert (one.n, one.sd, one.p, one.lo, one.sign_flip_p) == (1, None, None, None, None)
    two = stats.paired([0.5, 0.6], [0.4, 0.55])
    assert two.df == 1
    assert two.hi - two.mean == pytest.approx(12.706 * two.sd / math.sqrt(2), rel=1e-4)
    constant = stats.paired([0.5, 0.6, 0.55], [0.4])
    close(constant.p, scipy_stats.ttest_1samp([0.5, 0.6, 0.55], 0.4).pvalue)
    assert constant.rho is None
    assert stats.mean_interval([0.5]).half_width is None
    assert stats.mean_interval([0.5, 0.5], variance_floor=1e-6).half_width > 0
    with pytest.raises(ValueError, match="paired"):
        stats.paired([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="finite"):
        stats.paired([1, math.nan], [1, 2])


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interval_coverage(n: int) -> None:
    x = np.random.default_rng(n).normal(size=(REPETITIONS, n))
    half = np.array([m.half_width for m in map(stats.mean_interval, x[:3])])
    # The function is one at a time; its formula over all repetitions at once must agree with it.
    scale = scipy_stats.t.ppf(0.975, n - 1) * x.std(axis=1, ddof=1) / math.sqrt(n)
    np.testing.assert_allclose(half, scale[:3], rtol=1e-12)
    assert 0.93 <= (np.abs(x.mean(axis=1)) <= scale).mean() <= 0.97


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("kind", ["normal", "t3"])
def test_type_one_error_of_the_paired_t_test(n: int, kind: str) -> None:
    rng = np.random.default_rng(100 + n)
    draw = rng.normal if kind == "normal" else lambda size: rng.standard_t(3, size)
    shared = draw(size=(4_000, n))
    a, b = shared + draw(size=(4_000, n)), shared + draw(size=(4_000, n))
    t = (a - b).mean(axis=1) * math.sqrt(n) / (a - b).std(axis=1, ddof=1)
    p = 2 * scipy_stats.t.sf(np.abs(t), n - 1)
    np.testing.assert_allclose([stats.paired(a[i], b[i]).p for i in range(3)], p[:3], rtol=1e-9)
    rate = (p < 0.05).mean()
    assert rate <= 0.06
    if kind == "normal":
        assert rate >= 0.04


def test_sign_flip_cannot_reject_below_six_pairs_and_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 4, 5):
        assert min(stats.sign_flip(rng.normal(1, 1, n)) for _ in range(500)) >= 2.0 ** (1 - n) > 0.05
    for n in (6, 8):
        d = rng.normal(0.5, 1, n)
        exact = scipy_stats.permutation_test(
            (d,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=np.inf
        )
        close(stats.sign_flip(d), exact.pvalue)
    rejected = [stats.sign_flip(d) < 0.05 for d in rng.normal(size=(4_000, 6))]
    assert np.mean(rejected) <= 0.06
    long = rng.normal(size=30)
    with pytest.raises(ValueError, match="generator"):
        stats.sign_flip(long)
    assert stats.sign_flip(long, np.random.default_rng(1)) == stats.sign_flip(long, np.random.default_rng(1))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_sign_flip_counts_ties_as_a_plain_enumeration_does(ticks: list[int]) -> None:
    d = np.array(ticks) / 1000
    sums = [
        abs(sum(s * t for s, t in zip(signs, ticks, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(d))
    ]
    assert stats.sign_flip(d) == np.mean([value >= abs(sum(ticks)) for value in sums])


def test_sign_flip_of_twenty_is_fast_and_exact() -> None:
    assert stats.sign_flip(np.full(20, 0.1)) == 2.0**-19
    d = np.random.default_rng(0).normal(0.3, 1, 20)
    drawn = stats.sign_flip(np.append(d, 0.0), np.random.default_rng(0))
    assert stats.sign_flip(d) == pytest.approx(drawn, abs=0.02)


def test_crossed_reads_small_integers_as_it_reads_floats() -> None:
    d = np.random.default_rng(0).integers(-1, 2, size=(4, 301)).astype(np.int8)
    assert stats.crossed(d) == stats.crossed(d.astype(np.int64))
    assert stats.crossed_mean([d], [1.0]).variance == pytest.approx(stats.crossed_mean([d * 1.0], [1.0]).variance)


def test_max_t_properties() -> None:
    rng = np.random.default_rng(3)
    d = rng.normal(0.5, 1, (8, 6))
    joint = stats.max_t(d)
    single = np.array([stats.max_t(d[:, [j]])[0] for j in range(6)])
    np.testing.assert_allclose(single, [stats.sign_flip(d[:, j]) for j in range(6)])
    assert (joint >= single - 1e-12).all()
    np.testing.assert_allclose(stats.max_t(d * np.array([1, 10, 0.1, 3, 1, 1])), joint)
    order = rng.permutation(6)
    np.testing.assert_allclose(stats.max_t(d[:, order]), joint[order])


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_max_t_family_error(rho: float) -> None:
    rng = np.random.default_rng(4)
    runs = 1_500
    shared = rng.normal(size=(runs, 8, 1)) * math.sqrt(rho)
    d = shared + rng.normal(size=(runs, 8, 30)) * math.sqrt(1 - rho)
    rate = np.mean([stats.max_t(x).min() < 0.05 for x in d])
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_crossed_coverage_where_items_dominate() -> None:
    rng = np.random.default_rng(5)
    runs, s, n = 300, 5, 400
    inside = seeds_only = 0
    for _ in range(runs):
        hard = rng.normal(0, 1.5, n)
        seed = rng.normal(0, 0.02, (s, 1))
        noise = rng.normal(0, 0.3, (2, s, n))
        d = (hard + rng.normal(0, 0.6, n) + seed + noise[0] > 0).astype(float) - (hard + noise[1] > 0)
        got = stats.crossed(d)
        inside += got.lo <= 0 <= got.hi
        mean = stats.mean_interval(d.mean(axis=1))
        seeds_only += mean.lo <= 0 <= mean.hi
    assert inside / runs >= 0.92
    assert seeds_only / runs < 0.92


def test_tost_equals_interval_inclusion() -> None:
    rng = np.random.default_rng(6)
    for _ in range(300):
        got = stats.paired(rng.normal(0.2, 1, 6), np.zeros(6))
        low, high = got.interval(0.90)
        assert (stats.tost(got, 1.0) < 0.05) == (low > -1 and high < 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_properties(p: list[float], random: "object") -> None:
    adjusted = stats.holm(p)
    raw = np.array(p)
    assert (adjusted >= raw - 1e-15).all()
    assert (adjusted <= np.minimum(1, len(p) * raw) + 1e-15).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    shuffled = list(range(len(p)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(stats.holm(raw[shuffled]), adjusted[shuffled])


def test_seeds_until_items_dominate_matches_the_measured_table() -> None:
    # Paired seed sd .15 pp, item variance .03: 15 seeds on 50,000 images, 3 on 10,000.
    for n, expected in ((50_000, 15), (10_000, 3)):
        analysis = stats.Crossed(
            seeds=5, items=n, mean=0, variance=1, df=4, lo=0, hi=0, confidence=0.95, ms_seed=None, ms_item=None,
            ms_error=None, seed_variance=0.0015**2 / 5, item_variance=0.03 / n,
        )  # fmt: skip
        assert stats.seeds_until_items_dominate(analysis) == expected


def test_break_even_rho_falls_with_n() -> None:
    values = [stats.break_even_rho(n) for n in range(3, 30)]
    assert values[0] == 0.56
    assert all(a >= b for a, b in itertools.pairwise(values))
