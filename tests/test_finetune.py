"""The training loop: schedule, views, resuming, divergence."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from saeft_ray import draws, sae
from saeft_ray.errors import Diverged
from saeft_ray.methods.baselines import FineTuning
from saeft_ray.methods.captions import FLYP, CaRot, StarFT
from saeft_ray.methods.embeddings import MSE, Nuclear
from saeft_ray.methods.layers import LDIFS
from saeft_ray.methods.linear_probe import LinearProbe
from saeft_ray.methods.sae_ft import SaeFT
from saeft_ray.methods.weights import EWC, L2SP, fisher
from saeft_ray.model import encoder
from saeft_ray.model.encoder import Classifier, with_tokens
from saeft_ray.model.two_towers import Towers, info_nce
from saeft_ray.model.zero_shot import captions, zero_shot_head
from saeft_ray.settings import DictionarySettings, Model, Train
from saeft_ray.training import loop as finetuning
from saeft_ray.training.epoch_means import EpochMeans
from saeft_ray.training.loop import Task, finetune, learning_rate, view_of
from saeft_ray.training.worker import Worker


class Noise:
    """A split of 40 random images in two classes; views add brightness."""

    example_order = "noise"
    labels = np.arange(40) % 2
    class_groups = None

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
    views = [start.embed(split.views(np.arange(40), np.full(40, v), 0)).detach() for v in range(4)]
    return torch.stack(views, 1).numpy()


def weights(trained):
    return torch.cat([tensor.flatten() for tensor in trained.state_dict().values()])


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_is_bit_equal_to_an_undisturbed_one(stop):
    job = task(MSE(lambda_mse=10.0), frozen_activations())
    whole = model()
    epochs = list(finetune(whole, job, Worker()))
    first = model()
    training = finetune(first, job, Worker())
    for epoch in training:
        if epoch.epoch == stop:
            break
    state, saved = training.state(), {k: v.clone() for k, v in first.state_dict().items()}
    tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
    second = model()
    second.load_state_dict(saved)
    rest = list(finetune(second, job, Worker(), state._replace(tensors=tensors)))
    assert torch.equal(weights(whole), weights(second))
    assert [e.terms for e in rest] == [e.terms for e in epochs[stop:]]


class Paused(Exception):  # noqa: N818
    pass


def paused(method):
    """A model and its task, and the same training left after 8 steps of 5 an epoch: (model, task, state, weights)."""
    start = captioned(method) if isinstance(method, FLYP | StarFT | CaRot) else model()
    frozen = frozen_activations() if isinstance(method, MSE | SaeFT) else None
    job = task(method, frozen, clip_norm=0.5)._replace(split=Large() if isinstance(start, Towers) else Noise())
    kept = []

    def pause(training):
        state = training.state()
        if (state.epoch, state.step) == (1, 3):
            tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
            kept.append((state._replace(tensors=tensors), {k: v.clone() for k, v in start.state_dict().items()}))
            raise Paused

    with pytest.raises(Paused):
        list(finetune(start, job, Worker(), pause=pause))
    return job, *kept[0]


@pytest.mark.parametrize("method", [FineTuning(), MSE(lambda_mse=10.0), CaRot(every=2)], ids=["ft", "mse", "carot"])
def test_a_run_that_was_left_within_an_epoch_is_bit_equal_to_an_undisturbed_one(method, monkeypatch):
    monkeypatch.setattr(finetuning, "STEPS_BETWEEN_PAUSES", 7)
    job, state, saved = paused(method)
    whole, again = (captioned(method) if isinstance(method, CaRot) else model() for _ in range(2))
    epochs = list(finetune(whole, job, Worker()))
    again.load_state_dict(saved)
    rest = list(finetune(again, job, Worker(), state))
    assert torch.equal(weights(whole), weights(again))
    assert [(e.epoch, e.terms, e.clipped, e.monitors) for e in rest] == [
        (e.epoch, e.terms, e.clipped, e.monitors) for e in epochs[1:]
    ]
    assert 0 < epochs[1].clipped <= 1
    assert rest[0].seconds > float(state.tensors["seconds"]) > 0


def test_other_workers_than_before_share_what_an_epoch_had_summed():
    tensors = {"sum.cross_entropy": torch.tensor([3.0, 5.0]), "clipped": torch.ones(2), "seconds": torch.ones(2)}
    same = [EpochMeans(Worker(rank=rank, world_size=2), 4, tensors) for rank in (0, 1)]
    assert [float(sums.means()["cross_entropy"]) for sums in same] == [0.75, 1.25]  # each its own, of 4 steps
    assert EpochMeans(Worker(), 4, tensors).means() == {"cross_entropy": 1.0}


def test_stored_activations_and_the_frozen_encoder_train_alike():
    cached, asked = model(), model()
    list(finetune(cached, task(MSE(lambda_mse=10.0), frozen_activations()), Worker()))
    list(finetune(asked, task(MSE(lambda_mse=10.0), model().requires_grad_(False)), Worker()))
    # Batches of other sizes round otherwise, and Adam makes much of it where a gradient is almost 0.
    apart, moved = weights(cached) - weights(asked), weights(cached) - weights(model())
    assert apart.norm() < 0.01 * moved.norm()


def test_the_penalty_holds_features_back():
    start, free, held = model(), model(), model()
    list(finetune(free, task(), Worker()))
    list(finetune(held, task(MSE(lambda_mse=1000.0), frozen_activations()), Worker()))
    images = Noise().images(np.arange(40))
    before = normalize(start.embed(images), dim=1)
    moved = [(normalize(m.embed(images), dim=1) - before).norm().item() for m in (free, held)]
    assert moved[1] < 0.5 * moved[0]


def vit():
    """A vision transformer of open_clip with two blocks, on the pictures of Noise."""
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    tower = VisionTransformer(image_size=8, patch_size=4, width=8, layers=2, heads=2, mlp_ratio=2, output_dim=8)
    return Classifier(tower, nn.Linear(8, 2), (0.5,) * 3, (0.25,) * 3)


def test_ldifs_compares_blocks_with_one_forward_of_each_model():
    frozen, moving, free = vit().requires_grad_(False), vit(), vit()
    calls = []
    for name, each in (("frozen", frozen), ("moving", moving)):
        each.encoder.transformer.register_forward_hook(lambda *_, name=name: calls.append(name))
    training = finetune(moving, task(LDIFS(lambda_ldifs=300.0), frozen, epochs=1), Worker())
    training._monitors = lambda batch: {}
    (epoch,) = training
    assert calls.count("frozen") == calls.count("moving") == 5  # steps
    assert epoch.terms["ldifs"] > 0
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in moving.encoder.transformer.resblocks)
    list(finetune(free, task(epochs=1), Worker()))
    images = Noise().images(np.arange(40))
    moved = {}
    for name, each in (("held", moving), ("free", free), ("start", vit())):
        with torch.no_grad():
            _, moved[name] = with_tokens(each, [0, 1, 2], partial(each.embed, images))
    start = moved.pop("start")
    distance = {n: sum(float((a - b).square().sum()) for a, b in zip(h, start, strict=True)) for n, h in moved.items()}
    assert distance["held"] < 0.8 * distance["free"]


def test_outputs_are_what_the_blocks_give():
    model, images = vit().eval(), Noise().images(np.arange(3))
    with torch.no_grad():
        _, tokens = with_tokens(model, [0, 1, 2], lambda: model.embed(images))
        tower = model.encoder
        embedded = tower._embeds((images.float() - model.mean) * model.scale)
        torch.testing.assert_close(tokens[0], embedded)
        torch.testing.assert_close(tokens[1], tower.transformer.resblocks[0](embedded))
        torch.testing.assert_close(tokens[2], tower.transformer(embedded))


@pytest.mark.parametrize("method", [L2SP(lambda_l2=10.0), EWC(lambda_ewc=1e5, samples=8)])
def test_penalties_on_weights_hold_them_back_and_leave_the_head_free(method):
    start, free, held = model(), model(), model()
    constants = method.prepare(SimpleNamespace(model=model, images=Noise, seed=3)) if method.has_constants else {}
    job = task(method, model().requires_grad_(False), epochs=1)._replace(constants=constants)
    list(finetune(free, task(epochs=1), Worker()))
    list(finetune(held, job, Worker()))

    def moved(trained, part):
        ends, begins = getattr(trained, part).parameters(), getattr(start, part).parameters()
        return sum(float((a - b).detach().square().sum()) for a, b in zip(ends, begins, strict=True))

    assert moved(held, "encoder") < 0.8 * moved(free, "encoder")
    assert moved(held, "head") > 0


def test_fisher_is_the_mean_square_of_each_images_own_gradient():
    one = model()
    got = fisher(one, Noise(), 40, seed=3)
    want = {name: torch.zeros_like(w) for name, w in one.encoder.named_parameters()}
    labels = draws.uniform(3, "fisher labels", np.arange(40), slots=1)[:, 0]
    ones = 0
    for i in range(40):
        one.zero_grad()
        log_p = one(Noise().views(np.array([i]), np.array([0]), 3)).logits.log_softmax(1)[0]
        label = int(float(log_p[0].detach().exp()) < labels[i])
        ones += label
        log_p[label].backward()
        for name, w in one.encoder.named_parameters():
            want[name] += w.grad**2 / 40
    assert 5 < ones < 35  # labels are sampled, neither given nor the likeliest
    for name in want:
        torch.testing.assert_close(got[name], want[name])


@pytest.mark.parametrize("method", [L2SP(lambda_l2=1.0), LDIFS(lambda_ldifs=10.0)])
def test_a_resumed_run_still_compares_with_the_start(method):
    whole, first, second = vit(), vit(), vit()
    job = task(method, vit().requires_grad_(False), epochs=2)
    epochs = list(finetune(whole, job, Worker()))
    training = finetune(first, job, Worker())
    next(iter(training))
    state = training.state()
    second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
    rest = list(finetune(second, job, Worker(), state))
    assert torch.equal(weights(whole), weights(second))
    assert rest[0].terms == epochs[1].terms
    assert rest[0].monitors == epochs[1].monitors


def test_monitors_watch_every_penalty_and_disturb_no_weight():
    job = task(MSE(lambda_mse=10.0), frozen_activations())
    watched, unwatched = model(), model()
    epochs = list(finetune(watched, job, Worker()))
    training = finetune(unwatched, job, Worker())
    training._monitors = lambda batch: {}
    assert [e.monitors for e in training] == [{}] * 4
    assert torch.equal(weights(watched), weights(unwatched))
    assert [e.monitors for e in epochs[:-1]] == [{}] * 3  # the rows hold the last epoch's alone
    assert epochs[-1].monitors.keys() == {"gradient_norm.cross_entropy", "gradient_norm.mse"}
    assert all(value > 0 for value in epochs[-1].monitors.values())


@pytest.mark.parametrize(("method", "same"), [(MSE(lambda_mse=1.0), False), (Nuclear(lambda_nuclear=1.0), True)])
def test_only_a_mean_over_the_batch_is_monitored_on_a_part_of_it(method, same, monkeypatch):
    found = []
    for rows in (64, 2):
        monkeypatch.setattr("saeft_ray.training.loop.MONITORED", rows)
        found += [list(finetune(model(), task(method, frozen_activations(), epochs=1), Worker()))[-1].monitors]
    assert (found[0] == found[1]) == same


def test_a_dictionary_is_monitored_too():
    d = frozen_activations()
    D = sae.random(d, DictionarySettings(width=16, k=2), 0)
    job = task(SaeFT(lambda_add=10.0, lambda_resid=10.0), d)._replace(dictionary=D)
    last = list(finetune(model(), job, Worker()))[-1].monitors
    assert {"monitor.added_share", "monitor.outside_dictionary", "gradient_norm.add"} < last.keys()
    assert 0 < last["monitor.outside_dictionary"] < 1
    assert list(finetune(model(), task(), Worker()))[-1].monitors == {}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_probe_is_at_the_minimum_of_its_loss(smoothing):
    f0 = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 2
    found = []
    for start in (model(), model()):
        if found:
            nn.init.normal_(start.head.weight)
        before = weights(start.encoder)
        LinearProbe(lambda_decay=1e-2).probe(start, lambda: zip(f0.split(25), labels.split(25), strict=True), smoothing)
        assert torch.equal(weights(start.encoder), before)
        found.append(start.head)
    torch.testing.assert_close(found[0].weight, found[1].weight, atol=1e-3, rtol=1e-3)  # whatever the start
    logits = found[0](normalize(f0, dim=1))
    target = nn.functional.one_hot(labels, 2) * (1 - smoothing) + smoothing / 2
    slope = (logits.softmax(1) - target).T @ normalize(f0, dim=1) / 60 + 1e-2 * found[0].weight
    assert slope.abs().max() < 1e-5


def captioned(method=FLYP()):  # noqa: B008 - a value
    clip = encoder.load(Model(arch="digit-clip", pretrained="shipped"))
    names, prompts = ("zero", "one"), ("a photo of a {}.", "a {}", "a drawing of a {}")
    tokens, extra_captions = (captions(clip, names, words) for words in (prompts, method.extra_captions))
    return Towers(clip.classifier(zero_shot_head(clip, names, prompts)), clip, tokens, extra_captions, method.teacher)


class Large(Noise):
    """The same pictures at the size of digit world."""

    def images(self, index):
        return super().images(index).repeat(1, 1, 4, 4)[..., :28, :28]


def test_flyp_trains_both_towers_and_makes_its_head_from_text():
    whole, start = captioned(), captioned()
    job = task(FLYP(), epochs=2, batch_size=20)._replace(split=Large())
    epochs = list(finetune(whole, job, Worker()))
    assert [e.terms.keys() for e in epochs] == [{"contrastive"}] * 2
    still = [n for (n, a), b in zip(whole.named_parameters(), start.parameters(), strict=True) if torch.equal(a, b)]
    assert still == ["classifier.head.bias"]
    tower = encoder.load(Model(arch="digit-clip", pretrained="shipped"))._replace(clip=whole.text)
    head = zero_shot_head(tower, ("zero", "one"), ("a photo of a {}.", "a {}", "a drawing of a {}"))
    assert torch.equal(whole.classifier.head.weight, head)
    half = captioned()
    training = finetune(half, job, Worker())
    next(iter(training))
    again = captioned()
    again.load_state_dict({k: v.clone() for k, v in half.state_dict().items()})
    list(finetune(again, job, Worker(), training.state()))
    assert torch.equal(weights(again), weights(whole))


SPURIOUS = ("a photo of a {} on a navy background", "a {} on a black background")


@pytest.mark.parametrize("method", [StarFT(spurious=SPURIOUS), CaRot(every=2)], ids=["starft", "carot"])
def test_a_resumed_student_has_its_teacher_where_it_was(method):
    whole, half, again = captioned(method), captioned(method), captioned(method)
    job = task(method, epochs=3, batch_size=20)._replace(split=Large())
    terms = {"starft": {"star"}, "carot": {"orth", "cross", "distil"}}[method.type]
    assert [e.terms.keys() for e in finetune(whole, job, Worker())] == [{"contrastive"} | terms] * 3
    training = finetune(half, job, Worker())
    next(iter(training))
    again.load_state_dict({k: v.clone() for k, v in half.state_dict().items()})
    list(finetune(again, job, Worker(), training.state()))
    assert torch.equal(weights(again), weights(whole))
    start = dict(captioned(method).teacher.named_parameters())
    moved = [name for name, weight in whole.teacher.named_parameters() if not torch.equal(weight, start[name])]
    assert len(moved) == (len(start) if method.type == "carot" else 0)


def test_a_teacher_keeps_the_share_of_its_weights_that_the_method_says():
    both, method = captioned(CaRot(every=3)), CaRot(every=3)
    assert [method.momentum(step, 100) for step in (0, 1, 2, 3, 18, 21, 99)] == pytest.approx(
        [0.05, 1, 1, 0.05 + 0.85 * 3 / 20, 0.05 + 0.85 * 18 / 20, 0.9, 0.9]
    )
    with torch.no_grad():
        both.classifier.encoder.proj.add_(1)
        both.text.text_projection.sub_(2)
    before = {name: weight.clone() for name, weight in both.teacher.named_parameters()}
    both.update_teacher(method.momentum(21, 100))
    for name, by in (("visual.proj", 0.1), ("text_projection", -0.2), ("logit_scale", 0.0)):
        moved = dict(both.teacher.named_parameters())[name] - before[name]
        torch.testing.assert_close(moved, torch.full_like(moved, by))


def test_info_nce_is_its_definition():
    logits = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    L = logits.tolist()
    rows = sum(math.log(sum(math.exp(v) for v in L[i])) - L[i][i] for i in range(5)) / 5
    columns = sum(math.log(sum(math.exp(L[j][i]) for j in range(5))) - L[i][i] for i in range(5)) / 5
    assert float(info_nce(logits)) == pytest.approx((rows + columns) / 2, rel=1e-6)


def test_captions_are_drawn_from_all_templates_of_the_class():
    whole, labels = captioned(), torch.arange(40) % 2
    drawn = [
        whole.sample_captions(labels, draws.uniform(5, "caption", np.arange(40), epoch, slots=2))[0]
        for epoch in range(3)
    ]
    assert not torch.equal(drawn[0], drawn[1])
    used = {
        (int(c), p)
        for c, row in zip(labels, drawn[0], strict=True)
        for p in range(3)
        if torch.equal(row, whole.captions[c, p])
    }
    assert used == {(c, p) for c in range(2) for p in range(3)}


def test_loaders_change_nothing():
    here, there = model(), model()
    list(finetune(here, task(), Worker()))
    list(finetune(there, task(), Worker(loaders=2)))
    assert torch.equal(weights(here), weights(there))


def test_a_loss_that_is_not_finite_names_its_term():
    activations = frozen_activations()
    activations[:] = np.inf
    with pytest.raises(Diverged, match=r"mse not finite by step 0 \(epoch 1\)"):
        list(finetune(model(), task(MSE(lambda_mse=1.0), activations), Worker()))


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
    epochs = list(finetune(model(), job, Worker()))
    assert len(epochs) == 4
