"""The sparse autoencoder: its gradients, what it recovers, and the identity card that guards it."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from saeft_ray import sae
from saeft_ray.config import DictionarySettings

MODEL = {"arch": "tiny", "weights": "0"}
CPU = torch.device("cpu")


@pytest.mark.parametrize("activation", ["relu_topk", "topk"])
def test_written_out_gradients_are_those_of_autograd(activation):
    torch.manual_seed(0)
    settings = DictionarySettings(width=40, k=5, activation=activation)
    x, E, W, b = torch.randn(30, 8), torch.randn(40, 8), torch.randn(40, 8), torch.randn(8)
    written = sae._gradients(x, E, W, b, settings)
    leaves = [tensor.clone().requires_grad_() for tensor in (E, W, b)]
    a = (x - leaves[2]) @ leaves[0].T
    values, index = a.topk(5, dim=-1)
    codes = torch.zeros_like(a).scatter(-1, index, values.relu() if activation == "relu_topk" else values)
    mse_loss(codes @ leaves[1] + leaves[2], x).backward()
    for got, leaf in zip(written, leaves, strict=True):
        torch.testing.assert_close(got, leaf.grad, rtol=1e-4, atol=1e-6)


def planted(n=6000, d=24, width=32, active=3, seed=0):
    """(n, 1, d) sparse non-negative combinations of `width` unit atoms, and the atoms."""
    rng = np.random.default_rng(seed)
    atoms = rng.standard_normal((width, d))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = np.zeros((n, width))
    for row in codes:
        row[rng.choice(width, active, replace=False)] = rng.uniform(0.5, 1.5, active)
    return (codes @ atoms)[:, None].astype(np.float32), atoms


def test_a_planted_dictionary_is_recovered():
    x, atoms = planted()
    settings = DictionarySettings(width=64, k=3, steps=1500, batch_size=256, lr=3e-3, input="raw")
    trained = sae.train(x, settings, 0, CPU)
    cosine = np.abs(atoms @ trained.atoms.numpy().T).max(1)
    assert cosine.mean() >= 0.95
    good, bad = (sae.quality(made, x) for made in (trained, sae.random(x, settings, 0)))
    assert good.fvu < 0.15 < bad.fvu
    assert good.l0 <= 3


def test_training_is_a_function_of_its_seed():
    x, _ = planted(500)
    settings = DictionarySettings(width=64, k=3, steps=20, batch_size=64)
    one, same, other = (sae.train(x, settings, seed, CPU) for seed in (1, 1, 2))
    assert torch.equal(one.atoms, same.atoms)
    assert not torch.equal(one.atoms, other.atoms)
    assert one.atoms.norm(dim=1) == pytest.approx(torch.ones(64), abs=1e-5)


def test_codes_have_at_most_k_active_atoms_and_decode_to_what_was_read():
    x, _ = planted(200)
    settings = DictionarySettings(width=64, k=3, steps=5, batch_size=64)
    made = sae.train(x, settings, 0, CPU)
    read = made.read(torch.from_numpy(x[:, 0]) * 7)
    assert read.norm(dim=1) == pytest.approx(torch.ones(200), abs=1e-5)
    codes = made.encode(read).codes
    assert int((codes != 0).sum(1).max()) <= 3
    assert codes.min() >= 0
    torch.testing.assert_close(made.combine(codes) + made.bias, made.decode(codes))


def test_held_out_images_train_no_dictionary():
    x, _ = planted(400)
    settings = DictionarySettings(width=64, k=3, steps=5, batch_size=64)
    changed = x.copy()
    changed[sae.held_out(400)] = 1e6
    assert torch.equal(sae.train(x, settings, 0, CPU).atoms, sae.train(changed, settings, 0, CPU).atoms)
    assert 0.01 < sae.held_out(400).mean() < 0.12


def test_the_card_guards_the_weights(tmp_path):
    x, _ = planted(200)
    made = sae.random(x, DictionarySettings(width=64, k=3), 0)
    sae.save(made, {"model": MODEL, "quality": sae.quality(made, x)._asdict()}, tmp_path)
    loaded = sae.load(tmp_path, MODEL)
    assert torch.equal(loaded.encoder, made.encoder)
    assert loaded.settings == made.settings
    with pytest.raises(ValueError, match=r"it was made for .*tiny.* fine-tunes .*other"):
        sae.load(tmp_path, {"arch": "other", "weights": "0"})
    assert set(json.loads((tmp_path / "card.json").read_text())) == {"model", "quality", "settings"}


def test_a_dictionary_with_nan_is_refused(tmp_path):
    x, _ = planted(200)
    made = sae.random(x, DictionarySettings(width=64, k=3), 0)
    made.atoms[0, 0] = float("nan")
    sae.save(made, {"model": MODEL}, tmp_path)
    with pytest.raises(ValueError, match="atoms holds values that are not finite"):
        sae.load(tmp_path, MODEL)
