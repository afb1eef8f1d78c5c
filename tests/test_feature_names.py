"""Word banks, and names of planted features."""

import numpy as np
from scipy import sparse

from saeft_ray.features import names, words


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
