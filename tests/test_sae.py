"""The sparse autoencoder: its gradients, what it recovers, and the identity card that guards it."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from saeft_ray import draws, sae
from saeft_ray.sae.training import Weights, geometric_median, gradients, initial
from saeft_ray.settings import DictionarySettings

MODEL = {"arch": "tiny", "weights": "0"}
CPU = torch.device("cpu")


def codes_of(a, k, activation):
    if activation == "batch_topk":
        return a * (a >= a.flatten().topk(k * len(a)).values[-1]) * (a > 0)
    values, index = a.topk(k, dim=-1)
    return torch.zeros_like(a).scatter(-1, index, values if activation == "topk" else values.relu())


@pytest.mark.parametrize("dead", [[], [7], list(range(0, 40, 2))])
@pytest.mark.parametrize("activation", ["relu_topk", "topk", "batch_topk"])
def test_written_out_gradients_are_those_of_autograd(activation, dead):
    torch.manual_seed(0)
    settings = DictionarySettings(width=40, k=5, activation=activation, aux=0.3)
    x, E, W, b = torch.randn(30, 8), torch.randn(40, 8), torch.randn(40, 8), torch.randn(8)
    written, active = gradients(x, Weights(E, W, b), settings, torch.tensor(dead, dtype=torch.long))
    leaves = [tensor.clone().requires_grad_() for tensor in (E, W, b)]
    a = (x - leaves[2]) @ leaves[0].T
    codes = codes_of(a, 5, activation)
    decoded = codes @ leaves[1] + leaves[2]
    loss = mse_loss(decoded, x)
    if dead:
        of_dead = codes_of(a[:, dead], min(4, len(dead)), "topk" if activation == "topk" else "relu_topk")
        loss = loss + 0.3 * mse_loss(of_dead @ leaves[1][dead], (x - decoded).detach())
    loss.backward()
    for got, leaf in zip(written, leaves, strict=True):
        torch.testing.assert_close(got, leaf.grad, rtol=1e-4, atol=1e-6)
    assert set(active.tolist()) == set((codes != 0).nonzero()[:, 1].tolist())


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


@pytest.mark.parametrize("more", [{}, {"activation": "batch_topk", "input": "raw"}])
def test_dictionaries_of_a_memory_map_are_those_of_the_memory(more, tmp_path, monkeypatch):
    """Bit for bit, though every row stays where it is and is read when its turn comes."""
    x = np.concatenate([planted(400, seed=seed)[0] for seed in (0, 1, 2)], axis=1)  # three views per image
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    settings = DictionarySettings(**{"width": 64, "k": 3, "steps": 30, "batch_size": 64, **more})

    def made(activations):
        trained = sae.train(activations, settings, 1, CPU)
        controls = (sae.random(activations, settings, 1), sae.untrained(activations, settings, 1))
        return [trained, *controls, sae.principal(activations, settings)]

    kept = made(x)
    monkeypatch.setattr(sae.embedding_rows, "KEPT", 0)
    monkeypatch.setattr(sae.embedding_rows, "_PART", 1 << 30)
    rows = sae.embedding_rows.Rows(mapped, settings)
    assert rows._kept is None
    assert rows._stored.data_ptr() == mapped.ctypes.data
    for one, other in zip(kept, made(mapped), strict=True):
        buffers = dict(other.named_buffers())
        assert all(torch.equal(tensor, buffers[name]) for name, tensor in one.named_buffers())
    monkeypatch.setattr(sae.embedding_rows, "_PART", 100)
    for one, other in zip(kept, made(mapped), strict=True):
        torch.testing.assert_close(one.atoms, other.atoms, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(one.bias, other.bias, rtol=1e-4, atol=1e-6)


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


SHAPE = {"width": 64, "k": 3, "steps": 600, "batch_size": 256, "lr": 3e-3, "input": "raw", "activation": "relu_topk"}


def rows(x):
    return torch.from_numpy(x[~sae.held_out(len(x))]).flatten(0, 1)


def test_the_auxiliary_loss_revives_dead_atoms():
    """From the reference's start, where an untied encoder leaves atoms without use; by the corrected one few die."""
    x, _ = planted(3000, width=60)
    without, revived = (
        sae.train(x, DictionarySettings(**SHAPE, recipe="reference", aux=aux, dead_after=3000), 0, CPU)
        for aux in (0.0, 1.0)
    )
    before, after = sae.quality(without, x), sae.quality(revived, x)
    assert after.dead < before.dead - 0.1
    assert after.fvu < before.fvu - 0.03


def test_an_sae_begins_tied_at_the_geometric_median():
    x, _ = planted(2000)
    x[0] = 1e4  # one outlier moves a mean, and hardly a median
    weights = initial(torch.from_numpy(x[:, 0]), DictionarySettings(**SHAPE), 0)
    assert torch.equal(weights.encoder, weights.atoms)
    centre = x[1:, 0].mean(0)
    assert np.linalg.norm(weights.bias.numpy() - centre) < 0.2 < np.linalg.norm(x[:, 0].mean(0) - centre)


def test_the_geometric_median_has_the_least_sum_of_distances():
    x = torch.randn(51, 3, generator=torch.Generator().manual_seed(0)) ** 3
    median = geometric_median(x)

    def cost(at):
        return float((x - at).norm(dim=1).sum())

    around = [cost(median + step) for step in 0.05 * torch.cat([torch.eye(3), -torch.eye(3)])]
    assert cost(median) < min(around)
    assert torch.allclose(geometric_median(x[:1].repeat(4, 1)), x[0])


def test_batch_topk_has_k_active_atoms_on_average_by_a_threshold():
    x, _ = planted()
    settings = DictionarySettings(**{**SHAPE, "activation": "batch_topk"})
    made = sae.train(x, settings, 0, CPU)
    quality = sae.quality(made, x)
    assert quality.l0 == pytest.approx(3, rel=0.1)
    assert quality.fvu < 0.15
    read = rows(x)[:200]
    assert torch.equal(made.encode(read).codes[:7], made.encode(read[:7]).codes)  # whatever the batch
    assert (made.encode(read).codes != 0).sum(1).unique().numel() > 1


def test_the_references_recipe_is_plain_adamw():
    """Two epochs against the usual loop with torch's own layers and AdamW, from the same start, in the same order."""
    x, _ = planted(300)
    settings = DictionarySettings(width=64, k=3, batch_size=64, epochs=2, recipe="reference")
    assert (settings.activation, settings.aux, settings.lr) == ("topk", 0.0, 1e-3)
    assert DictionarySettings(recipe="reference").epochs == 100
    read = torch.nn.functional.normalize(rows(x), dim=1)
    start = initial(read, settings, 5)
    assert start.bias.abs().sum() == 0
    assert not torch.allclose(start.encoder, start.atoms, atol=0.1)
    parameters = [torch.nn.Parameter(t.clone()) for t in start]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    for epoch in range(2):
        order = torch.from_numpy(draws.permutation(5, "sae order", len(read), epoch))
        for index in order.split(64)[: len(read) // 64]:
            E, W, b = parameters
            optimizer.zero_grad()
            mse_loss(codes_of((read[index] - b) @ E.T, 3, "topk") @ W + b, read[index]).backward()
            optimizer.step()
    made = sae.train(x, settings, 5, CPU)
    for got, want in zip((made.encoder, made.atoms, made.bias), parameters, strict=True):
        torch.testing.assert_close(got, want.data, rtol=1e-3, atol=1e-5)
    assert (made.atoms.norm(dim=1) - 1).abs().max() > 1e-3


class TestControls:
    def test_untrained_is_what_training_begins_from(self):
        x, _ = planted(500)
        settings = DictionarySettings(**{**SHAPE, "steps": 1, "lr": 1e-12})
        begun, trained = sae.untrained(x, settings, 3), sae.train(x, settings, 3, CPU)
        torch.testing.assert_close(begun.encoder, trained.encoder)
        torch.testing.assert_close(begun.bias, trained.bias)

    def test_permuted_has_the_codes_and_the_atoms_but_pairs_them_wrongly(self):
        x, _ = planted(500)
        trained = sae.train(x, DictionarySettings(**SHAPE), 0, CPU)
        made = sae.permuted(trained, 1)
        read = rows(x)[:50]
        one, two = (D.encode(read).codes for D in (trained, made))
        assert torch.equal(one.sort(1).values, two.sort(1).values)
        assert torch.equal(trained.atoms, made.atoms)
        assert float((trained.encoder == made.encoder).all(1).float().mean()) < 0.1
        assert sae.quality(made, x).fvu > 1 > sae.quality(trained, x).fvu

    def test_principal_directions_come_in_pairs_by_variance_and_the_rest_never_acts(self):
        x, _ = planted(500, d=8, width=12)
        settings = DictionarySettings(width=40, k=8, input="raw")
        made = sae.principal(x, settings)
        want = torch.linalg.svd(rows(x) - rows(x).mean(0), full_matrices=False).Vh
        assert (made.atoms[0:16:2] * want).sum(1).abs() == pytest.approx(torch.ones(8), abs=1e-3)
        assert torch.equal(made.atoms[0:16:2], -made.atoms[1:16:2])
        assert made.atoms[16:].abs().sum() == 0
        # k = d atoms of the right signs are a whole basis.
        assert sae.quality(made, x) == pytest.approx((0, 8, 24 / 40), abs=1e-4)
        narrow = sae.principal(x, settings.model_copy(update={"width": 5, "k": 2}))
        assert torch.equal(narrow.atoms, made.atoms[:5])

    @pytest.mark.parametrize("activation", ["relu_topk", "topk", "batch_topk"])
    def test_each_is_as_sparse_as_the_trained_one(self, activation, tmp_path):
        x, _ = planted(3000)
        settings = DictionarySettings(**{**SHAPE, "steps": 20, "activation": activation})
        trained = sae.train(x, settings, 0, CPU)
        for made in (sae.random(x, settings, 0), sae.untrained(x, settings, 0), sae.permuted(trained, 0)):
            assert sae.quality(made, x).l0 == pytest.approx(3, rel=0.15)
            assert len(made.atoms) == 64
            sae.save(made, {"model": MODEL}, tmp_path)
            read = rows(x)[:20]
            assert torch.equal(sae.load(tmp_path, MODEL).encode(read).codes, made.encode(read).codes)
