"""Rules that choose a configuration: each tie, each fallback, and how steady the choice is."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeft_ray.stats.choice import best, keep_gain, strongest_within
from saeft_ray.stats.choice_noise import choice_noise

score = st.one_of(st.none(), st.integers(0, 20).map(lambda k: k / 20))
configurations = st.lists(st.tuples(score, st.one_of(st.none(), st.floats(0, 2))), max_size=8)


def test_the_best_comes_first_and_equal_scores_as_first_asked():
    got = best([0.9, None, 0.95, 0.95, math.nan, 0.8])
    assert (got.chosen, got.order, got.eligible) == (2, (2, 3, 0, 5), 2)
    assert (got.threshold, got.best, got.fallback) == (0.95, 2, None)


def test_within_two_standard_errors_the_strongest_is_chosen():
    scores, kl = [0.90, 0.94, 0.95, 0.93, None, 0.939], [0.01, 0.06, 0.15, 0.02, 0.001, 0.03]
    se = math.sqrt(0.95 * 0.05 / 1000)
    got = strongest_within(scores, kl, 1000)
    assert got.threshold == pytest.approx(0.95 - 2 * se)
    assert (got.chosen, got.order, got.eligible, got.best) == (5, (5, 1, 2, 3, 0), 3, 2)
    assert strongest_within(scores, kl, 1000, se=3).chosen == 3
    assert strongest_within(scores, kl, 1000, se=0).chosen == 2
    # More images tell configurations apart, one image none that is half right.
    assert strongest_within(scores, kl, 50_000).chosen == 2
    assert strongest_within(scores, kl, 1).chosen == 0
    assert strongest_within([1.0, 0.0], [0.1, 0.0], 1).chosen == 0


def test_ties_of_strength_go_to_the_score_and_then_to_the_first_asked():
    got = strongest_within([0.94, 0.945, 0.945, 0.95, 0.93], [0.02, 0.02, 0.02, 0.1, None], 1000, se=5)
    assert got.order == (1, 2, 0, 3, 4)
    # A threshold that is met exactly is met, whatever the rounding.
    assert keep_gain([0.95, 0.925], [0.1, 0.05], plain=0.95, zero_shot=0.90).chosen == 1


def test_a_share_of_the_gain_is_kept():
    scores, kl = [0.90, 0.92, 0.94, 0.935], [0.01, 0.02, 0.15, 0.06]
    got = keep_gain(scores, kl, plain=0.93, zero_shot=0.90)
    assert (got.chosen, got.order, got.eligible, got.best) == (1, (1, 3, 2, 0), 3, 2)
    assert got.threshold == pytest.approx(0.915)
    assert keep_gain(scores, kl, plain=0.93, zero_shot=0.90, share=1).chosen == 3
    assert keep_gain(scores, kl, plain=0.93, zero_shot=0.90, share=0).chosen == 0


def test_a_rule_without_candidates_falls_back_in_words():
    scores, kl = [0.90, 0.92, None], [0.01, 0.02, 0.0]
    lost = keep_gain(scores, kl, plain=0.80, zero_shot=0.85)
    assert (lost.chosen, lost.order, lost.eligible, lost.threshold) == (1, (1, 0), 0, None)
    assert lost.fallback == (
        "plain fine-tuning gains nothing over zero-shot on the selection split (0.8, 0.85): the best was chosen"
    )
    assert keep_gain(scores, kl, plain=0.85, zero_shot=0.85).fallback == lost.fallback.replace("(0.8,", "(0.85,")
    assert "unknown" in keep_gain(scores, kl, plain=None, zero_shot=0.85).fallback
    high = keep_gain(scores, kl, plain=0.99, zero_shot=0.97)
    assert (high.chosen, high.threshold) == (1, pytest.approx(0.98))
    assert high.fallback == "no configuration reaches 0.98 on the selection split: the best was chosen"
    for got in (best([None]), strongest_within([None], [0.1], 10), keep_gain([None], [0.1], 0.9, 0.8)):
        assert (got.chosen, got.order, got.best) == (None, (), None)
        assert got.fallback == "every configuration failed: none is chosen"
    assert best([]).fallback == "no configuration was asked: none is chosen"


def test_what_no_rule_can_use_is_refused():
    with pytest.raises(ValueError, match="selection image"):
        strongest_within([0.9], [0.1], 0)
    with pytest.raises(ValueError, match="accuracies"):
        strongest_within([93.0], [0.1], 100)
    with pytest.raises(ValueError, match="2 KL"):
        strongest_within([0.9, 0.8], [0.1], 100)
    with pytest.raises(ValueError, match="share"):
        keep_gain([0.9], [0.1], 0.9, 0.8, share=50)
    with pytest.raises(ValueError, match="finite"):
        best([math.inf])


@given(configurations, st.integers(1, 2000), st.floats(0, 4), score, score, st.floats(0, 1))
def test_every_rule_ranks_what_finished_and_counts_what_meets_its_threshold(given_, examples, se, plain, zero, share):
    scores, kl = [s for s, _ in given_], [m for _, m in given_]
    finished = {k for k, s in enumerate(scores) if s is not None}
    for got in (best(scores), strongest_within(scores, kl, examples, se), keep_gain(scores, kl, plain, zero, share)):
        assert sorted(got.order) == sorted(finished)
        assert got.best == best(scores).chosen
        assert (got.chosen is None) == (not finished)
        if got.fallback:
            assert got.order == best(scores).order
            assert got.eligible == 0
        else:
            meets = {k for k in finished if scores[k] >= got.threshold - 1e-9}
            assert set(got.order[: got.eligible]) == meets
            assert got.best in meets or "gain" in got.rule
    strong = strongest_within(scores, kl, examples, se)
    moved = [math.inf if kl[k] is None else kl[k] for k in strong.order[: strong.eligible]]
    assert moved == sorted(moved)


@settings(max_examples=60)
@given(configurations.filter(lambda c: all(m is not None for _, m in c)), st.randoms(use_true_random=False))
def test_the_order_of_asking_decides_ties_alone(given_, random):
    order = [*range(len(given_))]
    random.shuffle(order)
    one = strongest_within(*zip(*given_, strict=True), 100) if given_ else best([])
    shuffled = [given_[k] for k in order]
    other = strongest_within(*zip(*shuffled, strict=True), 100) if given_ else best([])
    assert one.eligible == other.eligible
    first, then = slice(None, one.eligible), slice(one.eligible, None)
    assert [given_[k] for k in one.order[first]] == [shuffled[k] for k in other.order[first]]
    assert [given_[k][0] for k in one.order[then]] == [shuffled[k][0] for k in other.order[then]]


def test_a_choice_among_equals_is_noise_and_a_clear_one_is_steady():
    rng, strength = np.random.default_rng(0), [30, 100, 300, 1000]
    clear = choice_noise(best, [0.5, 0.9, 0.6, 0.5], strength, 1000, rng)
    assert (clear.steady, clear.chosen_in, clear.paired) == (1.0, (0, 1, 0, 0), False)
    equal = choice_noise(best, [0.9, 0.9, 0.9, None], strength, 1000, rng)
    assert equal.steady == pytest.approx(1 / 3, abs=0.06)
    assert equal.chosen_in[3] == 0
    assert equal.step == pytest.approx(math.sqrt(10), rel=0.01)
    rule = partial(strongest_within, kl=[0.2, 0.1, 0.05, 0.01], examples=1000)
    assert choice_noise(rule, [0.9, 0.9, 0.9, 0.7], strength, 1000, rng).steady > 0.85


def test_what_configurations_have_in_common_cancels_with_bits():
    rng = np.random.default_rng(1)
    hard = rng.random(500) < 0.1
    bits = np.stack([~hard, ~hard, ~hard]).astype(float)
    bits[0, :5], bits[2, 5:7] = 0, 0
    scores = bits.mean(axis=1).tolist()
    with_bits = choice_noise(best, scores, [1, 10, 100], 500, np.random.default_rng(2), bits)
    without = choice_noise(best, scores, [1, 10, 100], 500, np.random.default_rng(2))
    assert with_bits.paired
    # The second is right wherever another one is: only a draw without the five images ties the first with it.
    assert with_bits.steady > 0.98
    assert with_bits.chosen_in[2] == 0
    assert without.steady < 0.75
    failed = choice_noise(best, [None, *scores[1:]], [1, 10, 100], 500, np.random.default_rng(2), bits)
    assert failed.chosen_in[0] == 0


def test_a_step_is_the_mean_gap_and_less_than_it_is_steady():
    rng = np.random.default_rng(3)
    # Distinct strengths 1, e, e³: a mean gap of 1.5, so that a move by 1 is steady and one by 2 is not.
    strength = np.exp([0.0, 1, 3])
    near = choice_noise(best, [0.9, 0.9, 0.1], strength, 200, rng)
    far = choice_noise(best, [0.1, 0.9, 0.9], strength, 200, rng)
    assert (near.step, near.steady) == (pytest.approx(math.exp(1.5)), 1.0)
    assert 0.3 < far.steady < 0.7
    assert choice_noise(best, [0.9, 0.9], [2, 2], 200, rng).steady == 1.0
    assert choice_noise(best, [0.9], [2], 1, rng).steady == 1.0
    assert choice_noise(best, [None], [2], 1, rng) is None
    with pytest.raises(ValueError, match="positive strengths"):
        choice_noise(best, [0.9], [0], 10, rng)
    with pytest.raises(ValueError, match="shape"):
        choice_noise(best, [0.9], [1], 10, rng, bits=[[1, 0]])
