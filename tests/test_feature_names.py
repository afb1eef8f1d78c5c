"""Word banks, and names of planted features."""

import digit_features
import numpy as np
from scipy import sparse

from saeft_ray.features import names, words
from saeft_ray.features.activity import counts


def test_words_are_cut_and_said_and_classes_that_brackets_tell_apart_stay_two():
    found, said = words.gathered(["crane (bird)", "crane (machine)", "<b>tench</b>, Tinca tinca"], ["tench", "猫"])
    assert [word.text for word in found] == ["crane bird", "crane machine", "tench", "猫"]
    assert any("left out" in line for line in said)


def test_a_planted_feature_is_named_and_a_random_one_is_not():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((4000, 16))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    bank = np.eye(16)[:6]
    likeness = x @ bank[2]
    planted = likeness > np.quantile(likeness, 0.9)
    active = sparse.csc_matrix(np.stack([planted, generator.random(4000) < 0.1], 1).astype(float))
    found = names.names(x, active, bank, seed=0)
    assert found.words[0, 0] == 2
    assert found.f1[0, 0] > 0.95
    assert found.named.tolist() == [True, False]
    assert found.p_f1[0] <= 0.05 < found.p_f1[1]


def test_the_null_of_f1_is_uniform_for_directions_without_meaning_and_one_for_what_is_never_active():
    generator = np.random.default_rng(2)
    x = generator.standard_normal((2000, 12))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    bank, often = np.eye(12)[:8], generator.integers(20, 600, 150)
    directions = generator.standard_normal((150, 12))
    ranks = np.argsort(np.argsort(-x @ directions.T, axis=0), axis=0)
    active = sparse.csc_matrix((ranks < often).astype(float))
    word = (directions @ bank.T).argmax(1)[:, None]
    p = names.p_of_f1(x, bank, often, names.text_f1(x, active, bank, word)[:, 0], seed=1)
    assert abs(np.mean(p) - 0.5) < 0.1
    assert 0.01 <= np.mean(p <= 0.05) <= 0.12
    assert names.p_of_f1(x, bank, np.zeros(3, int), np.zeros(3), seed=1).tolist() == [1, 1, 1]


def test_a_feature_that_two_words_fit_gets_no_name_unless_they_mean_the_same():
    generator = np.random.default_rng(1)
    x = generator.standard_normal((4000, 16))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    likeness = x[:, :2].max(1)
    either = sparse.csc_matrix((likeness > np.quantile(likeness, 0.8))[:, None].astype(float))
    one = sparse.csc_matrix((x[:, :1] > np.quantile(x[:, 0], 0.9)).astype(float))
    bank = np.eye(16)[:6]
    synonym = np.array([[0.9, 0, 0, 0, 0, 0, np.sqrt(0.19), *np.zeros(9)]])
    assert not names.names(x, either, bank, seed=0).named[0]
    assert names.names(x, one, bank, seed=0).named[0]
    both = names.names(x, one, np.concatenate([bank, synonym]), seed=0)
    assert both.f1[0, 1] > 0.6 * both.f1[0, 0]
    assert both.named[0]


def test_nine_in_ten_names_in_digit_world_are_true_and_plain_directions_get_none():
    """A name is true if half of the feature's mass lies on images that show it, where factors are independent."""
    given, true = {}, {}
    for seed in (11, 12):
        for kind, dictionary in digit_features.dictionaries(digit_features.evaluation(), seed=seed).items():
            named, right = _names_and_true(dictionary)
            given[kind], true[kind] = given.get(kind, 0) + named, true.get(kind, 0) + right
    assert given["pca"] == given["neurons"] == 0
    assert given["trained"] >= 10
    assert true["trained"] >= 0.9 * given["trained"]


def _names_and_true(dictionary):
    """How many live features get a name, and how many of these names are true."""
    bank = words.bank(digit_features.model(), digit_features.styles.DIGITS, digit_features.MORE)
    x, (fresh, shows) = digit_features.evaluation(), digit_features.truth()
    active = digit_features.active(dictionary, x)
    found = names.names(x, active, bank.embeddings, seed=0)
    rows = np.flatnonzero(found.named & (counts(active) >= 0.002 * len(x)))
    mass = digit_features.active(dictionary, fresh)[:, rows].toarray()
    its = [bank.labels[word] for word in found.words[rows, 0]]
    return len(rows), sum(m @ shows[word] >= 0.5 * m.sum() for m, word in zip(mass.T, its, strict=True))
