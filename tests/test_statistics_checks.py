"""The acceptance checks of the statistics that are about many repetitions, by their number in docs/statistics.md 7.

Checks 22 to 25 are also in test_findings and test_report, under their numbers; exact properties of single functions in
test_stats.
"""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from saeft_ray import stats
from saeft_ray.records.rows import pack, unpack
from saeft_ray.stats import Design, boundaries

GOLDEN = json.loads((Path(__file__).parent / "data" / "statistics_golden.json").read_text())
A, B = np.array(GOLDEN["A"]), np.array(GOLDEN["B"])
RUNS = 20_000


def running_t(d: np.ndarray, looks: tuple[int, ...]) -> np.ndarray:
    """t (runs, looks) of differences (runs, seeds)."""
    n = np.array(looks)
    m = np.cumsum(d, axis=1)[:, n - 1] / n
    v = (np.cumsum(d * d, axis=1)[:, n - 1] - n * m * m) / (n - 1)
    return m / np.sqrt(v / n)


def first_crossing(t: np.ndarray, critical: np.ndarray) -> np.ndarray:
    """Index of the first look at which |t| reaches its boundary; −1 for none."""
    hit = np.abs(t) >= critical
    return np.where(hit.any(axis=1), hit.argmax(axis=1), -1)


def test_check_01_golden_values() -> None:
    p = np.array(GOLDEN["per_dataset_p"])
    np.testing.assert_allclose(stats.benjamini_hochberg(p), GOLDEN["bh"], rtol=1e-9)
    assert stats.iqm(A - B) == pytest.approx(GOLDEN["iqm_diff"], rel=1e-9)
    up = stats.improvement((A - B).mean(axis=1))
    assert up.share == GOLDEN["prob_improvement_paired_mean_ood"]
    np.testing.assert_allclose([up.lo, up.hi], GOLDEN["clopper_pearson"], rtol=1e-9)
    assert stats.mcnemar(31, 17) == pytest.approx(GOLDEN["mcnemar_exact_p_b31_c17"], rel=1e-9)
    assert stats.e_value(3.0, 6) == pytest.approx(GOLDEN["e_t_t3_n6_g1"], rel=1e-9)
    crit = [stats.critical(n, g=10) for n in range(3, 21)]
    np.testing.assert_allclose(crit, GOLDEN["cs_crit_g10"], rtol=1e-9)
    assert stats.expected_best([0.70, 0.61, 0.66, 0.71, 0.64], 3) == pytest.approx(GOLDEN["evp_b3"], rel=1e-9)
    np.testing.assert_allclose(boundaries(tuple(range(3, 21))), GOLDEN["boundary_rho1_3_20"], rtol=0.02)
    known = [4.31, 4.36, 4.11, 3.84, 3.62, 3.45, 3.32, 3.21, 3.11, 3.03, 2.96, 2.90, 2.84, 2.79, 2.75, 2.70]
    np.testing.assert_allclose(boundaries(tuple(range(5, 21))), known, rtol=0.02)
    np.testing.assert_allclose(boundaries(tuple(range(5, 11))), [3.50, 3.57, 3.41, 3.23, 3.06, 2.93], rtol=0.02)
    assert boundaries((5,)) == pytest.approx([scipy_stats.t.ppf(0.975, 4)], rel=1e-12)


def test_check_03_a_percentile_bootstrap_of_three_covers_three_quarters() -> None:
    # At n = 3 its interval is [min, max]: why no function here draws one.
    x = np.random.default_rng(3).normal(size=(RUNS, 3))
    resampled = x[:, np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1)].mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=1, method="inverted_cdf")
    assert 0.72 <= ((low <= 0) & (high >= 0)).mean() <= 0.78


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_check_07_max_t_gains_where_test_sets_move_together(rho: float) -> None:
    rng = np.random.default_rng(7)
    runs, n, true = 4_000 if rho else 1_000, 10, 12
    effect = np.where(np.arange(30) < true, 1.5, 0.0)
    methods = rng.normal(size=(runs, n, 5)) * math.sqrt(rho)
    d = np.repeat(methods, 6, axis=2) + rng.normal(size=(runs, n, 30)) * math.sqrt(1 - rho) + effect
    p = 2 * scipy_stats.t.sf(np.abs(d.mean(axis=1)) * math.sqrt(n) / d.std(axis=1, ddof=1), n - 1)
    holm = np.mean([(stats.holm(row)[:true] < 0.05).mean() for row in p])
    joint = np.mean([(stats.max_t(x)[:true] < 0.05).mean() for x in d])
    assert joint >= holm + (0.05 if rho else -0.03)


def test_check_08_benjamini_hochberg_is_below_holm() -> None:
    for p in np.random.default_rng(8).uniform(size=(500, 7)):
        assert (stats.benjamini_hochberg(p) <= stats.holm(p) + 1e-12).all()
        assert (stats.benjamini_hochberg(p) >= p - 1e-12).all()


def test_check_09_the_mean_over_test_sets_is_covered_and_independent_resampling_is_not() -> None:
    rng = np.random.default_rng(9)
    runs, n, k, rho = 4_000, 5, 5, 0.6
    d = rng.normal(size=(runs, n, 1)) * math.sqrt(rho) + rng.normal(size=(runs, n, k)) * math.sqrt(1 - rho)
    mean = d.mean(axis=2)
    half = scipy_stats.t.ppf(0.975, n - 1) * mean.std(axis=1, ddof=1) / math.sqrt(n)
    assert 0.93 <= (np.abs(mean.mean(axis=1)) <= half).mean() <= 0.97
    inside = 0
    for some in np.split(d, 20):
        # A resample as how often each (seed, set) was drawn, each set by itself: its mean is one product.
        drawn = rng.integers(0, n, size=(300, n, k))
        counts = np.stack([(drawn == seed).sum(axis=1) for seed in range(n)], axis=1)
        means = some.reshape(len(some), -1) @ counts.reshape(300, -1).T / (n * k)
        low, high = np.percentile(means, [2.5, 97.5], axis=1)
        inside += int(((low <= 0) & (high >= 0)).sum())
    assert inside / runs < 0.75


@pytest.mark.parametrize("first", [3, 5])
@pytest.mark.parametrize("kind", ["normal", "t3"])
def test_check_10_error_over_all_looks(first: int, kind: str) -> None:
    rng = np.random.default_rng(10)
    d = rng.normal(size=(RUNS, 20)) if kind == "normal" else rng.standard_t(3, size=(RUNS, 20))
    looks = tuple(range(first, 21))
    rate = (first_crossing(running_t(d, looks), np.array(boundaries(looks))) >= 0).mean()
    assert rate <= 0.06
    if kind == "normal":
        assert rate >= 0.04


def test_check_10_skipped_looks_and_shares_of_the_error() -> None:
    d = np.random.default_rng(11).normal(size=(100_000, 20))
    for looks, alpha in (((5, 8, 12, 20), 0.05), (tuple(range(3, 21)), 0.01)):
        rate = (first_crossing(running_t(d, looks), np.array(boundaries(looks, alpha))) >= 0).mean()
        assert rate == pytest.approx(alpha, abs=4 * math.sqrt(alpha / len(d)))
    with pytest.raises(ValueError, match="rising"):
        boundaries((5, 5))


def test_check_11_naive_peeking_is_caught_by_the_same_harness() -> None:
    looks = tuple(range(3, 21))
    naive = scipy_stats.t.ppf(0.975, np.array(looks) - 1)
    d = np.random.default_rng(12).normal(size=(RUNS, 20))
    assert (first_crossing(running_t(d, looks), naive) >= 0).mean() > 0.15


def test_check_12_exact_spending_over_methods_and_looks() -> None:
    rng = np.random.default_rng(13)
    looks, paths = list(range(3, 21)), stats.sign_paths(20, 0, 499)
    runs = 1_500
    shared = rng.normal(size=(runs, 20, 1)) * math.sqrt(0.5)
    d = shared + rng.normal(size=(runs, 20, 5)) * math.sqrt(0.5)
    rejected = [stats.flip_looks(x, looks, 0.05, 20, paths).any() for x in d]
    assert np.mean(rejected) <= 0.068
    strong = rng.normal(50, 1, size=(20, 20, 5))
    assert not any(stats.flip_looks(x, [3, 4, 5], 0.05, 20, stats.sign_paths(20, 0)).any() for x in strong)
    assert all(stats.flip_looks(x, looks, 0.05, 20, stats.sign_paths(20, 0)).all() for x in strong)


@pytest.mark.parametrize("d", [0.0, 0.5, 1.0, 2.0])
def test_check_13_the_repeated_interval_covers_at_stopping(d: float) -> None:
    x = np.random.default_rng(14).normal(d, 1, size=(RUNS, 20))
    looks = tuple(range(5, 21))
    critical = np.array(boundaries(looks))
    t = running_t(x, looks)
    stop = first_crossing(t, critical)
    stop[stop < 0] = len(looks) - 1
    n = np.array(looks)[stop]
    mean = np.cumsum(x, axis=1)[np.arange(RUNS), n - 1] / n
    half = np.abs(mean / t[np.arange(RUNS), stop]) * critical[stop]
    assert (np.abs(mean - d) <= half).mean() >= 0.94


def test_check_14_the_confidence_sequence_holds_at_all_seeds() -> None:
    x = np.random.default_rng(15).normal(size=(4_000, 200))
    looks = tuple(range(2, 201))
    critical = np.array([stats.critical(n) for n in looks])
    excluded = (np.abs(running_t(x, looks)) > critical).any(axis=1).mean()
    assert excluded <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4_000)
    for g in (1, 10):
        for n in (5, 8, 20, 200):
            assert stats.e_value(stats.critical(n, 0.05, g), n, g) == pytest.approx(20, rel=1e-9)
    assert math.isinf(stats.critical(4))
    assert math.isfinite(stats.critical(5))
    assert math.isfinite(stats.critical(3, g=10))


def test_check_15_power_and_seeds() -> None:
    looks = tuple(range(5, 21))
    rng = np.random.default_rng(16)
    for d, low, high in ((1.0, 10, 12), (2.0, 5.7, 6.3), (3.0, 5.0, 5.3)):
        t = running_t(rng.normal(d, 1, size=(RUNS, 20)), looks)
        stop = first_crossing(t, np.array(boundaries(looks)))
        assert (stop >= 0).mean() >= 0.94
        assert low <= np.where(stop < 0, 20, stop + 5).mean() <= high


@pytest.mark.parametrize("true", [0, 2])
def test_check_16_recycling_keeps_the_family_error(true: int) -> None:
    rng = np.random.default_rng(17)
    runs, m = 4_000, 5
    looks = tuple(range(5, 21))
    shared = rng.normal(size=(runs, 20, 1)) * math.sqrt(0.5)
    d = shared + rng.normal(size=(runs, 20, m)) * math.sqrt(0.5)
    d[:, :, :true] += 2.0
    t = np.stack([running_t(d[:, :, j], looks) for j in range(m)], axis=2)
    table = np.array([np.full(len(looks), np.inf), *(boundaries(looks, 0.05 / j) for j in range(1, m + 1))])
    rejected = np.zeros((runs, m), dtype=bool)
    for k in range(len(looks)):
        for _ in range(m):
            rejected |= np.abs(t[:, k]) >= table[m - rejected.sum(axis=1), k][:, None]
    assert rejected[:, true:].any(axis=1).mean() <= 0.06
    # The function, one sweep at a time, decides as this loop does.
    design = Design(first=5, last=20, size=m)
    for run in range(25):
        got = stats.replay(design, {str(j): d[run, :, j].tolist() for j in range(m)})
        decided = {s.name for look in got for s in look.steps if s.decision != "undecided"}
        assert decided == {str(j) for j in range(m) if rejected[run, j]}


def test_check_17_equivalence_keeps_its_error_at_the_margin() -> None:
    rng = np.random.default_rng(18)
    for n in (5, 10):
        x = rng.normal(1.0, 1, (RUNS, n))
        se = x.std(axis=1, ddof=1) / math.sqrt(n)
        p = np.maximum(
            scipy_stats.t.sf((x.mean(axis=1) + 1) / se, n - 1), scipy_stats.t.cdf((x.mean(axis=1) - 1) / se, n - 1)
        )
        assert (p < 0.05).mean() <= 0.06
        np.testing.assert_allclose([stats.tost(stats.paired(row, [0.0]), 1.0) for row in x[:50]], p[:50], rtol=1e-6)


def test_check_18_a_published_number_of_one_run() -> None:
    rng = np.random.default_rng(19)
    x, number = rng.normal(size=(RUNS, 5)), rng.normal(size=RUNS)
    t = (x.mean(axis=1) - number) / (x.std(axis=1, ddof=1) * math.sqrt(1 / 5 + 1))
    p = 2 * scipy_stats.t.sf(np.abs(t), 4)
    np.testing.assert_allclose([stats.against_published(x[i], number[i]).p for i in range(200)], p[:200], rtol=1e-9)
    assert 0.04 <= (p < 0.05).mean() <= 0.06
    assert stats.against_published(x[0], 0.0, runs=3).p > stats.paired(x[0], [0.0]).p


@pytest.mark.parametrize(("item", "churn", "seed"), [(0.3, 0.3, 0.0135), (0.6, 0.3, 0.002), (0.05, 0.05, 0.08)])
def test_check_19_crossed_coverage_in_three_regimes(item: float, churn: float, seed: float) -> None:
    rng = np.random.default_rng(20)
    runs, s, n = 400, 5, 1_000
    inside = 0
    for _ in range(runs):
        d = rng.normal(0, item, n) + rng.normal(0, seed, (s, 1)) + rng.normal(0, churn, (s, n))
        got = stats.crossed(d)
        inside += got.lo <= 0 <= got.hi
    assert inside / runs >= 0.92


def test_check_21_expected_best() -> None:
    rng = np.random.default_rng(22)
    v = rng.beta(8, 3, size=30)
    assert stats.expected_best(v, 30) == pytest.approx(v.max(), rel=1e-12)
    assert stats.expected_best(v, 1) == pytest.approx(v.mean(), rel=1e-12)
    for budget in (0, 31):
        with pytest.raises(ValueError, match="30 trials"):
            stats.expected_best(v, budget)
    many = np.sort(rng.beta(8, 3, size=(8_000, 30)), axis=1)
    weights = np.array([stats.expected_best(np.eye(30)[i].cumsum(), 20) for i in range(30)])
    # The function is linear in the sorted scores: its weights are differences of what it gives to steps.
    got = many @ -np.diff(np.append(weights, 0.0))
    target = rng.beta(8, 3, size=(200_000, 20)).max(axis=1).mean()
    assert got.mean() == pytest.approx(target, abs=1e-3)


def test_a_pooled_spread_is_tighter_and_refused_where_spreads_differ() -> None:
    rng = np.random.default_rng(26)
    a = rng.normal(size=(20, 1)) + rng.normal(size=(20, 5)) * 0.1 + np.array([0, 0.1, 0, 0, 0])
    got = stats.pooled(a)
    assert got is not None
    assert got.df == 76
    effects = a - a.mean(axis=1, keepdims=True) - a.mean(axis=0) + a.mean()
    assert got.se == pytest.approx(math.sqrt(2 * (effects**2).sum() / 76 / 20))
    assert got.t[0] == pytest.approx((a[:, 1] - a[:, 0]).mean() / got.se)
    # Two methods: it is the paired t test.
    two = stats.pooled(a[:, :2])
    assert two is not None
    assert two.p[0] == pytest.approx(stats.paired(a[:, 1], a[:, 0]).p)
    a[:, 4] += np.tile([3, -3], 10)
    assert stats.pooled(a) is None


def test_effective_robustness_front_and_area() -> None:
    x = np.linspace(0.55, 0.8, 20)
    line = stats.Line(slope=0.9, intercept=-0.5)
    np.testing.assert_allclose(line.at(x), scipy_stats.logistic.cdf(0.9 * scipy_stats.logistic.ppf(x) - 0.5))
    above = stats.effective_robustness([0.7, 0.7], line.at([0.7, 0.7]) + np.array([0.1, -0.1]), line)
    np.testing.assert_allclose(above, [0.1, -0.1])
    np.testing.assert_allclose(stats.inside([0, 1, 0.5], 100), [0.005, 0.995, 0.5])
    points = [[0.7, 0.5], [0.6, 0.6], [0.6, 0.5], [0.7, 0.5]]
    assert stats.front(points).tolist() == [True, True, False, True]
    assert stats.hypervolume(points, (0.5, 0.4)) == pytest.approx(0.2 * 0.1 + 0.1 * 0.1)
    assert stats.hypervolume([[0.4, 0.9]], (0.5, 0.4)) == 0


def test_sequential_p_falls_and_agrees_with_the_boundaries() -> None:
    looks = tuple(range(5, 21))
    for alpha in (0.05, 0.0125, 0.3):
        c = boundaries(looks, alpha)
        for k in (0, 4, 15):
            t = [0.0] * k + [c[k]]
            assert stats.sequential_p(t, looks[: k + 1], looks)[-1] == pytest.approx(alpha, rel=0.01)
    p = stats.sequential_p(np.random.default_rng(24).normal(1, 1, 16) * 3, looks, looks)
    assert all(b <= a for a, b in itertools.pairwise(p))


def test_a_failed_pair_waits_at_the_boundary_of_the_pairs_that_it_has() -> None:
    d = [1.0, 1.2, None, 0.9, 1.1, 1.05]
    design = Design(first=5, last=8, size=1)
    looks = stats.replay(design, {"m": d})
    assert [(look.n, look.steps[0].pairs, look.steps[0].decision) for look in looks] == [
        (5, 4, "undecided"),
        (6, 5, "better"),
    ]
    assert looks[1].steps[0].boundary == pytest.approx(boundaries(design.looks)[0])
    assert stats.replay(design, {"m": [None] * 8})[-1].steps[0].mean is None


def test_equivalence_needs_a_margin_and_the_three_engines_agree_on_the_obvious() -> None:
    rng = np.random.default_rng(25)
    same, far = rng.normal(0, 0.1, 20).tolist(), rng.normal(3, 0.1, 20).tolist()
    for engine in ("t", "exact", "anytime"):
        for margin, expected in ((None, "undecided"), (1.0, "equivalent")):
            design = Design(first=5, last=20, size=2, engine=engine, margin=margin)
            looks = stats.replay(design, {"same": same, "far": far})
            final = {s.name: s.decision for look in looks for s in look.steps}
            assert final == {"same": expected, "far": "better"}
            steps = [s for look in looks for s in look.steps if s.name == "far"]
            if engine != "exact":
                assert stats.running_p(design, steps)[-1] < 0.025


@pytest.mark.parametrize("n", range(3, 11))
@pytest.mark.parametrize("kind", ["normal", "t3"])
def test_check_02_and_04_interval_and_paired_t(n: int, kind: str) -> None:
    rng = np.random.default_rng(30 + n)
    draw = rng.normal if kind == "normal" else lambda size: rng.standard_t(3, size)
    shared = draw(size=(RUNS, n))
    t = running_t((shared + draw(size=(RUNS, n))) - (shared + draw(size=(RUNS, n))), (n,))[:, 0]
    rejected = (np.abs(t) >= scipy_stats.t.ppf(0.975, n - 1)).mean()
    assert rejected <= 0.06
    if kind == "normal":
        assert rejected >= 0.04
        inside = np.abs(running_t(rng.normal(size=(RUNS, n)), (n,))[:, 0]) <= scipy_stats.t.ppf(0.975, n - 1)
        assert 0.93 <= inside.mean() <= 0.97


def test_check_05_sign_flips_of_a_few_seeds() -> None:
    rng = np.random.default_rng(40)
    for n in (3, 5):
        least = min(stats.sign_flip(d) for d in rng.normal(size=(500, n)))
        assert least >= 2.0 ** (1 - n) > 0.05
    p = np.array([stats.sign_flip(d) for d in rng.normal(size=(4_000, 8))])
    assert (p < 0.05).mean() <= 0.06
    assert stats.sign_flip(np.arange(1, 9)) == 2.0**-7


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_check_06_family_error_of_max_t(rho: float) -> None:
    rng = np.random.default_rng(41)
    runs = 4_000
    shared = np.repeat(rng.normal(size=(runs, 8, 5)), 6, axis=2) * math.sqrt(rho)
    d = shared + rng.normal(size=(runs, 8, 30)) * math.sqrt(1 - rho)
    assert np.mean([stats.max_t(x).min() < 0.05 for x in d]) <= 0.06


def test_check_22_bits_of_the_six_sets() -> None:
    rng = np.random.default_rng(42)
    sizes = (50_000, 10_000, 30_000, 7_500, 50_889, 18_574)
    correct = [rng.random(n) < 0.5 for n in sizes]
    packed = [pack(bits) for bits in correct]
    # docs/statistics.md 3.6 counts 6,362 B for 50,889 images and 20,872 B in all.
    assert sum(map(len, packed)) == 20_872
    for bits, stored, n in zip(correct, packed, sizes, strict=True):
        np.testing.assert_array_equal(unpack(stored, n), bits)
    with pytest.raises(ValueError, match="hold no"):
        unpack(packed[0], 49_000)
