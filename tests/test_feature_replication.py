"""Changes of features that other SAE seeds have, too, replicate there; those of strangers need not."""

import numpy as np
import pytest

from saeft_ray.features.replication import Partners, in_words, replications


def test_pairs_that_are_the_same_feature_replicate_and_others_do_not():
    draw = np.random.default_rng(0)
    mine = draw.normal(size=60)
    likeness = np.repeat([0.9, 0.3, 0.65], 20)
    theirs = np.where(likeness > 0.8, mine + 0.1 * draw.normal(size=60), draw.normal(size=60))
    (found,) = replications({"ft": mine}, [Partners(likeness, {"ft": theirs})] * 2)
    assert (found.same, found.apart) == (40, 40)
    assert found.same_r > 0.95
    assert abs(found.apart_r) < 0.6
    assert "What ft changed replicates by r = " in in_words(found)
    assert "over 40 pairs" in in_words(found)


@pytest.mark.parametrize(
    "partners",
    [
        Partners(np.full(20, -1.0), {"ft": np.full(20, np.nan)}),  # nobody has a partner
        Partners(np.full(20, 0.9), {}),  # the method has no trial there
        Partners(np.full(20, 0.9), {"ft": np.zeros(20)}),  # nothing moved
    ],
)
def test_what_cannot_be_said_is_said(partners):
    (found,) = replications({"ft": np.arange(20.0)}, [partners])
    assert found.same_r is None
    assert ("nothing varies" if found.same else "Too few features are found in other SAE seeds") in in_words(found)


def test_without_other_seeds_there_is_nothing():
    assert replications({"ft": np.arange(3.0)}, []) == ()
