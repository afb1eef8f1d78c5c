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


def test_most_names_in_digit_world_are_true_and_plain_directions_get_none():
    """A name is true if half of the feature's mass lies on images that show it, where factors are independent."""
    bank = words.bank(digit_features.model(), digit_features.styles.DIGITS, digit_features.MORE)
    x, (fresh, shows) = digit_features.evaluation(), digit_features.truth()
    share, given = {}, {}
    for kind, dictionary in digit_features.dictionaries(x, seed=3).items():
        active = digit_features.active(dictionary, x)
        named = names.names(x, active, bank.embeddings, seed=0)
        rows = np.flatnonzero(named.named & (counts(active) >= 0.002 * len(x)))
        mass = digit_features.active(dictionary, fresh)[:, rows].toarray()
        truth = np.stack([shows[bank.labels[word]] for word in named.words[rows, 0]], 1) if len(rows) else mass
        given[kind], share[kind] = len(rows), ((mass * truth).sum(0) >= 0.5 * mass.sum(0)).mean() if len(rows) else None
    assert given["pca"] == given["neurons"] == 0
    assert given["trained"] >= 5
    assert share["trained"] >= 0.7
