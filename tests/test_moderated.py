"""The moderated t: against its definition, a plain t, and a known truth."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from saeft_ray.features.testing import assess
from saeft_ray.stats.moderated import moderated, trigamma_inverse
from saeft_ray.stats.multiplicity import benjamini_hochberg


def test_without_borrowing_it_is_the_plain_t():
    d = np.random.default_rng(0).normal(0.3, 1, (6, 40))
    found, plain = moderated(d, borrow=False), stats.ttest_1samp(d, 0)
    assert found.p == pytest.approx(plain.pvalue, rel=1e-10)
    assert found.df == 5
    assert np.array(plain.confidence_interval()) == pytest.approx(np.array([found.lo, found.hi]))


def test_the_moderated_t_is_the_one_of_smyth_2004():
    rng, s = np.random.default_rng(1), 4
    d = rng.normal(0, np.sqrt(1 / rng.chisquare(4, 50)), (s, 50))
    e = np.log(d.var(0, ddof=1)) - special.digamma(1.5) + np.log(1.5)
    excess = e.var(ddof=1) - special.polygamma(1, 1.5)
    half = optimize.brentq(lambda y: special.polygamma(1, y) - excess, 1e-3, 1e3)
    centre = np.exp(e.mean() + special.digamma(half) - np.log(half))
    post = (2 * half * centre + 3 * d.var(0, ddof=1)) / (2 * half + 3)
    p = 2 * stats.t.sf(np.abs(d.mean(0)) / np.sqrt(post / s), min(2 * half + 3, 150))
    found = moderated(d)
    assert found.df_prior == pytest.approx(2 * half, rel=1e-6)
    assert found.p == pytest.approx(p, rel=1e-6)


@pytest.mark.parametrize("y", [1e-5, 0.1, 1, 30, 1e5])
def test_trigamma_is_inverted(y):
    assert trigamma_inverse(float(special.polygamma(1, y))) == pytest.approx(y, rel=1e-5)


def test_p_is_uniform_where_nothing_changed():
    rng = np.random.default_rng(2)
    p = moderated(rng.normal(0, np.sqrt(4 / rng.chisquare(4, 20_000)), (5, 20_000))).p
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_false_discoveries_stay_under_the_bound_and_borrowing_finds_more():
    rng, found = np.random.default_rng(3), {True: [], False: []}
    power = {True: 0, False: 0}
    true = np.arange(300) < 60
    for _ in range(200):
        sd = 0.2 * np.sqrt(4 / rng.chisquare(4, 300))
        d = rng.normal(np.where(true, 0.5, 0), sd, (5, 300))
        for borrow in (True, False):
            told = benjamini_hochberg(moderated(d, borrow=borrow).p) <= 0.05
            found[borrow].append((told & ~true).sum() / max(1, told.sum()))
            power[borrow] += (told & true).sum()
    assert np.mean(found[True]) <= 0.055
    assert power[True] > 1.2 * power[False]


def test_a_least_change_is_no_discovery_at_its_border():
    d = np.random.default_rng(4).normal(0.1, 0.05, (10, 5000))
    assert (moderated(d, 0.1).p < 0.05).mean() == pytest.approx(0.05, abs=0.01)


def test_what_cannot_be_tested_is_not():
    live = np.ones(12, bool)
    one = assess(np.ones((1, 12)), None, live)
    same = assess(np.zeros((3, 12)), np.zeros((3, 12)), live)
    for got in (one, same):
        assert {got.verdict(i) for i in range(12)} == {"not tested"}
        effect = got.effect(3)
        assert (effect.p, effect.q, effect.lo, effect.beyond_q) == (None,) * 4
        assert np.isfinite(effect.mean)
    assert assess(np.ones((3, 12)), None, ~live).count("grew") == 0


def test_verdicts_do_not_depend_on_the_order_of_features_and_seeds():
    rng = np.random.default_rng(5)
    effects, control = rng.normal(0.4, 0.5, (5, 60)), rng.normal(0, 0.3, (5, 60))
    live, order = rng.random(60) < 0.8, rng.permutation(60)
    one = assess(effects, control, live)
    other = assess(effects[::-1][:, order], control[::-1][:, order], live[order])
    assert [one.verdict(i) for i in order] == [other.verdict(i) for i in range(60)]
    assert one.effect(int(order[7])).q == other.effect(7).q or one.effect(int(order[7])).q == pytest.approx(
        other.effect(7).q
    )
    assert one.beyond() == other.beyond()


def test_movement_without_meaning_is_not_beyond_the_control():
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.1, (2, 8, 40))
    effects, control = 1 + noise[0], 1 + noise[1]
    effects[:, :10] += 1
    got = assess(effects, control, np.ones(40, bool))
    assert got.count("grew") == 40
    assert 10 <= got.beyond() <= 13
