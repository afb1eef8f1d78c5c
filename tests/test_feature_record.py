"""The record of what was added and removed: identities on random codes, and definitions by dense arrays."""

import numpy as np
import pytest
import torch

from saeft_ray.features.change import born_and_died, change, effect, mass, mass_by_class, shares, total
from saeft_ray.features.codes import SparseCodes, encode
from saeft_ray.features.dealt import dealt
from saeft_ray.features.retention import retention
from saeft_ray.features.seen import seen
from saeft_ray.sae.dictionary import Dictionary
from saeft_ray.settings import DictionarySettings
from saeft_ray.training.monitors import of_codes


def codes(rng, n=40, width=9, k=4, signed=False):
    """Random codes and the same as an array; rows have from no to k atoms, atom 0 often among them."""
    dense = np.zeros((n, width), np.float32)
    index, value = np.zeros((n, k), np.int32), np.zeros((n, k), np.float32)
    for row in range(n):
        active = rng.integers(0, k + 1)
        atoms = rng.permutation(width)[:active]
        given = rng.random(active).astype(np.float32) + 0.01
        if signed:
            given *= rng.choice([-1, 1], active)
        places = rng.permutation(k)[:active]  # padding may stand anywhere
        index[row, places], value[row, places], dense[row, atoms] = atoms, given, given
    return SparseCodes(index, value, width), dense.astype(np.float64)


def dictionary(seed=0, width=24, d=8, activation="relu_topk", reads="unit"):
    torch.manual_seed(seed)
    atoms = torch.nn.functional.normalize(torch.randn(width, d), dim=1)
    settings = DictionarySettings(width=width, k=4, activation=activation, input=reads)
    threshold = torch.tensor(0.4) if activation == "batch_topk" else None
    return Dictionary(atoms.clone(), atoms, 0.1 * torch.randn(d), settings, threshold)


def moved(seed=0, n=70, d=8):
    rng = np.random.default_rng(seed)
    x0 = rng.normal(size=(n, d)).astype(np.float32)
    return x0, (x0 + 0.5 * rng.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_the_record_is_that_of_dense_codes_and_adds_up(seed, signed):
    rng = np.random.default_rng(seed)
    (frozen, a), (tuned, b) = codes(rng, signed=signed), codes(rng, signed=signed)
    a, b = np.abs(a), np.abs(b)
    groups = rng.integers(0, 3, len(a))
    found, apart = change(frozen, tuned), change(frozen, tuned, groups, 3)
    assert np.array_equal(mass(tuned), found.mass)
    on0, on = a > 0, b > 0
    assert found.born == pytest.approx((on & ~on0).sum(0))
    assert found.died == pytest.approx((on0 & ~on).sum(0))
    assert found.added == pytest.approx((b * ~on0).sum(0))
    assert found.weakened == pytest.approx((np.maximum(a - b, 0) * on * on0).sum(0))
    for each in (found, apart):
        left = each.added + each.strengthened - each.weakened - each.removed
        assert np.abs(each.mass - each.mass0 - left).max() <= 1e-12
    for whole, parts in zip(found, apart, strict=True):
        assert parts.sum(0) == pytest.approx(whole)
    assert np.array_equal(apart.on0[1], on0[groups == 1].sum(0))


@pytest.mark.parametrize("signed", [False, True])
def test_masses_by_class_are_those_of_dense_codes(signed):
    rng = np.random.default_rng(3)
    given, dense = codes(rng, signed=signed)
    labels = rng.integers(0, 5, len(dense))
    found = np.zeros((5, 9))
    label, feature, mass = mass_by_class(given, labels)
    found[label, feature] = mass
    assert np.abs(found - change(given, given, labels, 5).mass).max() <= 1e-12
    assert (mass > 0).all()
    assert not len(mass_by_class(given._replace(value=np.zeros_like(given.value)), labels).mass)


def test_no_image_and_no_activity_give_zeros():
    none = SparseCodes(np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32), 5)
    assert not np.any(change(none, none))
    assert not effect(*change(none, none)[:2], np.zeros(5, bool)).any()
    assert set(shares(change(none, none)).values()) == {0.0}
    assert encode(dictionary(), np.zeros((0, 8), np.float32)).index.shape == (0, 1)


def test_the_order_of_images_and_features_does_not_matter():
    rng = np.random.default_rng(0)
    (frozen, _), (tuned, _) = codes(rng), codes(rng)
    rows, atoms = rng.permutation(40), rng.permutation(9).astype(np.int32)
    other = [SparseCodes(atoms[c.index[rows]], c.value[rows], 9) for c in (frozen, tuned)]
    for mine, theirs in zip(change(frozen, tuned), change(*other), strict=True):
        assert theirs[atoms] == pytest.approx(mine, abs=1e-12)


def test_born_and_died_are_the_pairs_that_the_record_counts():
    rng = np.random.default_rng(1)
    (frozen, a), (tuned, b) = codes(rng), codes(rng)
    born, died = born_and_died(frozen, tuned)
    assert np.array_equal(np.transpose(born), np.argwhere((a == 0) & (b != 0)))
    assert np.array_equal(np.transpose(died), np.argwhere((a != 0) & (b == 0)))


@pytest.mark.parametrize("activation", ["relu_topk", "topk", "batch_topk"])
@pytest.mark.parametrize("chunk", [7, None])
def test_codes_are_those_of_the_dictionary(activation, chunk):
    reader, (x, _) = dictionary(activation=activation), moved()
    expected = reader.encode(reader.read(torch.from_numpy(x))).codes.numpy()
    assert encode(reader, x, chunk).matrix().toarray() == pytest.approx(expected, abs=1e-6)


def test_shares_are_those_that_training_monitors():
    reader, (x0, x) = dictionary(), moved()
    told = of_codes(torch.from_numpy(x), torch.from_numpy(x0), reader)
    found = shares(change(encode(reader, x0), encode(reader, x)))
    assert found["added"] == pytest.approx(float(told["monitor.added_share"]), rel=1e-5)
    assert found["removed"] + found["weakened"] == pytest.approx(float(told["monitor.removed_share"]), rel=1e-5)


def test_what_a_dictionary_sees():
    reader, (x0, x) = dictionary(reads="raw"), moved()
    s0, s = encode(reader, x0), encode(reader, x)
    found = seen(reader, x0, x, s0, s)
    a, b = (reader.decode(torch.from_numpy(c.matrix().toarray()).float()).numpy() for c in (s0, s))
    delta = x - x0
    assert found.seen == pytest.approx(1 - np.square(delta - (b - a)).sum() / np.square(delta).sum(), rel=1e-4)
    assert found.fvu == pytest.approx(np.square(b - x).sum() / np.square(x - x.mean(0)).sum(), rel=1e-4)
    still = seen(reader, x0, x0, s0, s0)
    assert (still.moved, still.seen, still.drift) == (0, None, None)
    assert seen(reader, x0, x0 + 1, s0, s).drift == pytest.approx(1, rel=1e-5)


def test_retention_separates_a_loss_from_a_drift():
    rng, d = np.random.default_rng(2), 6
    encoder = np.eye(d, dtype=np.float32)
    x0 = np.maximum(rng.normal(0.5, 1, (500, d)), 0).astype(np.float32)
    s0 = SparseCodes(np.tile(np.arange(d, dtype=np.int32), (500, 1)), x0, d)
    delta = -0.2 * x0 * (np.arange(d) == 1) + 0.3 * (np.arange(d) == 2)
    found = retention(s0, delta.astype(np.float32), encoder)
    assert found.gain == pytest.approx([0, -0.2, 0, 0, 0, 0], abs=1e-5)
    assert found.drift[2] == pytest.approx(0.3 / x0[x0[:, 2] > 0, 2].mean(), rel=1e-4)
    assert found.explained[[1, 2]] == pytest.approx([1, 1], abs=1e-4)
    assert np.isnan(retention(s0._replace(value=np.zeros_like(x0)), delta.astype(np.float32), encoder).gain).all()


def test_dealt_movement_has_the_lengths_angles_and_drift_of_the_real_one():
    x0, x = moved(3, 4000, 32)
    given = dealt(x0, x, 5)

    def unit(y):
        return y / np.linalg.norm(y, axis=1, keepdims=True)

    assert np.linalg.norm(given, axis=1) == pytest.approx(np.linalg.norm(x, axis=1), rel=1e-5)
    cosines = [np.sort((unit(x0) * unit(y)).sum(1)) for y in (x, given)]
    assert cosines[0] == pytest.approx(cosines[1], abs=1e-5)
    assert np.array_equal(given, dealt(x0, x, 5))
    assert not np.array_equal(given, dealt(x0, x, 5, 1))


def test_effects_are_doublings_with_a_floor():
    live = np.array([True, True, False])
    found = effect(np.array([10.0, 10, 0]), np.array([21.0, 10, 0]), live)
    assert found == pytest.approx([1, 0, 0])


def test_sets_add_up():
    rng = np.random.default_rng(7)
    parts = [change(codes(rng)[0], codes(rng)[0]) for _ in range(2)]
    assert total(parts).mass == pytest.approx(parts[0].mass + parts[1].mass)
