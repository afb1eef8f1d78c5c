"""The training loop: schedule, views, resuming, divergence."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from saeft_ray.config import Train
from saeft_ray.encoder import Classifier
from saeft_ray.finetune import Diverged, Place, Task, finetune, learning_rate, view_of
from saeft_ray.methods.distance import MSE
from saeft_ray.methods.plain import FineTuning


class Noise:
    """A split of 40 random images in two classes; views add brightness."""

    order = "noise"
    labels = np.arange(40) % 2

    def images(self, index):
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 200, (40, 3, 8, 8), generator=generator, dtype=torch.uint8)[torch.from_numpy(index)]

    def views(self, index, view, seed):
        return self.images(index) + torch.from_numpy(view).to(torch.uint8)[:, None, None, None]


def model():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.GELU(), nn.Linear(16, 8))
    return Classifier(encoder, nn.Linear(8, 2), (0.5,) * 3, (0.25,) * 3)


def task(method=None, frozen=None, **train):
    settings = Train(**{"epochs": 4, "batch_size": 8, "lr": 1e-2, **train})
    return Task(Noise(), 0, 4, settings, method or FineTuning(), 5, frozen, None)


def frozen_activations():
    start, split = model(), Noise()
    views = [start.features(split.views(np.arange(40), np.full(40, v), 0)).detach() for v in range(4)]
    return torch.stack(views, 1).numpy()


def weights(trained):
    return torch.cat([tensor.flatten() for tensor in trained.state_dict().values()])


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_is_bit_equal_to_an_undisturbed_one(stop):
    job = task(MSE(lambda_mse=10.0), frozen_activations())
    whole = model()
    epochs = list(finetune(whole, job, Place()))
    first = model()
    training = finetune(first, job, Place())
    for epoch in training:
        if epoch.epoch == stop:
            break
    state, saved = training.state(), {k: v.clone() for k, v in first.state_dict().items()}
    tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
    second = model()
    second.load_state_dict(saved)
    rest = list(finetune(second, job, Place(), state._replace(tensors=tensors)))
    assert torch.equal(weights(whole), weights(second))
    assert [e.terms for e in rest] == [e.terms for e in epochs[stop:]]


def test_stored_activations_and_the_frozen_encoder_train_alike():
    cached, asked = model(), model()
    list(finetune(cached, task(MSE(lambda_mse=10.0), frozen_activations()), Place()))
    list(finetune(asked, task(MSE(lambda_mse=10.0), model().requires_grad_(False)), Place()))
    torch.testing.assert_close(weights(cached), weights(asked), rtol=1e-4, atol=1e-5)


def test_the_penalty_holds_features_back():
    start, free, held = model(), model(), model()
    list(finetune(free, task(), Place()))
    list(finetune(held, task(MSE(lambda_mse=1000.0), frozen_activations()), Place()))
    images = Noise().images(np.arange(40))
    before = normalize(start.features(images), dim=1)
    moved = [(normalize(m.features(images), dim=1) - before).norm().item() for m in (free, held)]
    assert moved[1] < 0.5 * moved[0]


def test_loaders_change_nothing():
    here, there = model(), model()
    list(finetune(here, task(), Place()))
    list(finetune(there, task(), Place(loaders=2)))
    assert torch.equal(weights(here), weights(there))


def test_a_loss_that_is_not_finite_names_its_term():
    activations = frozen_activations()
    activations[:] = np.inf
    with pytest.raises(Diverged, match=r"mse not finite by step 0 \(epoch 1\)"):
        list(finetune(model(), task(MSE(lambda_mse=1.0), activations), Place()))


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    train = Train(epochs=1, lr=2.0, warmup=0.2)
    rates = [learning_rate(step, 50, train) for step in range(50)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[30] == pytest.approx(1 + math.cos(math.pi / 2), abs=1e-12)
    assert 0 < rates[-1] < 0.01


def test_a_seed_shows_every_view_once_before_it_repeats_one():
    index = np.arange(100)
    shown = np.stack([view_of(3, epoch, index, 5) for epoch in range(10)])
    assert (np.sort(shown[:5], axis=0) == np.arange(5)[:, None]).all()
    assert np.array_equal(shown[:5], shown[5:])
    assert not np.array_equal(shown[:5], np.stack([view_of(4, epoch, index, 5) for epoch in range(5)]))
    assert np.array_equal(shown[2, 40:60], view_of(3, 2, np.arange(40, 60), 5))


def test_fewer_images_than_a_batch_still_train():
    job = task(batch_size=64)
    epochs = list(finetune(model(), job, Place()))
    assert len(epochs) == 4
