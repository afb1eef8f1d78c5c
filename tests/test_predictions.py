"""Penalties on predictions: each against a loop-written definition, and what all of them promise."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saeft_ray.config.schema import METHODS
from saeft_ray.methods import TrainingBatch
from saeft_ray.methods.baselines import FineTuning
from saeft_ray.methods.facts import Facts
from saeft_ray.methods.group_covariance import GroupCovariance
from saeft_ray.methods.predictions import LogitMSE, LwF, PredictionPenalty
from saeft_ray.model import groups
from saeft_ray.model.encoder import Output

METHODS_ON_PREDICTIONS = [
    LwF(lambda_lwf=2.0),
    LwF(lambda_lwf=2.0, temperature=2.0),
    LogitMSE(lambda_logit=2.0),
    GroupCovariance(lambda_group=2.0, groups=3),
]
every = pytest.mark.parametrize("method", METHODS_ON_PREDICTIONS, ids=str)
few = settings(deadline=None, max_examples=20)
shapes = given(b=st.integers(1, 6), c=st.integers(2, 5), seed=st.integers(0, 10**6), T=st.sampled_from([0.5, 1.0, 2.0]))


def world(n=200, c=4, d=9, seed=0):
    """Embeddings (n, d) in three clouds off the classes' directions, labels (n,), the zero-shot head (c, d)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(c, (n,), generator=generator)
    cloud = torch.where(
        torch.rand(n, generator=generator) < 0.7, labels % 3, torch.randint(3, (n,), generator=generator)
    )
    x = 0.05 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    x[torch.arange(n), labels] += 1
    x[torch.arange(n), c + cloud] += 1
    return x, labels, 4 * torch.eye(c, d, dtype=torch.float64), cloud


def prepared(method, x, labels, head):
    model = SimpleNamespace(head=SimpleNamespace(weight=head))
    frozen = SimpleNamespace(
        seed=3, model=lambda: model, activations=lambda: iter(x.split(64)), labels=lambda: labels, dictionary=None
    )
    return method.prepare(frozen)


def logits(b, c, seed):
    z0 = 3 * torch.randn(b, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z0 + torch.randn(b, c, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64), z0


def value(method, z, z0, x, labels, constants):
    return sum(method.penalty(z, z0, x, labels, constants).values())


def softmax(row, T):
    top = max(row)
    exp = [math.exp((v - top) / T) for v in row]
    return [e / sum(exp) for e in exp]


@few
@shapes
def test_lwf_is_its_definition(b, c, seed, T):
    z, z0 = logits(b, c, seed)
    want = 0.0
    for row, row0 in zip(z.tolist(), z0.tolist(), strict=True):
        p, p0 = softmax(row, T), softmax(row0, T)
        want += 3 * T * T * sum(q0 * math.log(q0 / q) for q, q0 in zip(p, p0, strict=True)) / b
    got = LwF(lambda_lwf=3.0, temperature=T).penalty(z, z0, z, torch.zeros(b))
    assert float(got["lwf"]) == pytest.approx(want, rel=1e-6, abs=1e-9)


@few
@shapes
def test_logit_mse_is_its_definition(b, c, seed, T):
    z, z0 = logits(b, c, seed)
    want = 0.0
    for row, row0 in zip(z.tolist(), z0.tolist(), strict=True):
        moved = [v - v0 for v, v0 in zip(row, row0, strict=True)]
        want += sum((v - sum(moved) / c) ** 2 for v in moved) / (b * c)
    assert float(LogitMSE(lambda_logit=T).penalty(z, z0, z, torch.zeros(b))["logit"]) == pytest.approx(T * want)


@pytest.mark.parametrize("b", [1, 7, 200])
def test_group_covariance_is_its_definition(b):
    x, labels, head, _ = world()
    method = GroupCovariance(lambda_group=3.0, groups=3)
    constants = prepared(method, x, labels, head)
    z, z0 = logits(b, 4, 5)
    centres = constants["centres"].tolist()

    def group(row):
        """The nearest centre, of a row whose first four directions are the classes'."""
        length = math.sqrt(sum(v * v for v in row))
        common = sum(row[:4]) / 4  # what the four have in common tells none of them
        left = [common / length] * 4 + [v / length for v in row[4:]]
        return min(range(3), key=lambda k: sum((v - m) ** 2 for v, m in zip(left, centres[k], strict=True)))

    every_group, classes = [group(row) for row in x.tolist()], labels.tolist()
    share = [
        [sum(g == k and y == c for g, y in zip(every_group, classes, strict=True)) / classes.count(c) for k in range(3)]
        for c in range(4)
    ]
    residual = [[(g == k) - share[y][k] for k in range(3)] for g, y in zip(every_group, classes, strict=True)]
    size = sum(v * v for row in residual for v in row) / len(residual)
    want = 0.0
    for k in range(3):
        for c in range(4):
            moved = [(z - z0)[i].tolist() for i in range(b)]
            want += (sum(residual[i][k] * (moved[i][c] - sum(moved[i]) / 4) for i in range(b)) / b) ** 2
    got = method.penalty(z, z0, x[:b], labels[:b], constants)
    assert float(got["group"]) == pytest.approx(3 * want / size, rel=1e-5)


def test_the_folder_has_no_others():
    found = {name for name, cls in METHODS.items() if issubclass(cls, PredictionPenalty)}
    assert found == {method.type for method in METHODS_ON_PREDICTIONS}


@every
class TestEveryPredictionPenalty:
    def given(self, method, b=200):
        x, labels, head, _ = world()
        return *logits(b, 4, 1), x[:b], labels[:b], prepared(method, x, labels, head)

    def test_is_zero_at_the_frozen_predictions_and_positive_elsewhere(self, method):
        z, z0, *rest = self.given(method)
        assert float(value(method, z0.clone(), z0, *rest)) == pytest.approx(0, abs=1e-12)
        assert float(value(method, z, z0, *rest)) > 1e-4

    @pytest.mark.parametrize("b", [1, 6])
    def test_gradient_is_that_of_its_value_and_none_flows_into_the_frozen_side(self, method, b):
        z, z0, x, labels, constants = self.given(method, b)
        z.requires_grad_()
        assert torch.autograd.gradcheck(lambda z: value(method, z, z0, x, labels, constants), z)
        assert not any(tensor.requires_grad for tensor in (z0, x, *constants.values()))

    def test_sees_no_constant_that_is_added_to_all_logits_of_an_image(self, method):
        z, z0, *rest = self.given(method)
        again = value(method, z + torch.arange(200.0)[:, None] / 7, z0 - 2, *rest)
        assert float(again) == pytest.approx(float(value(method, z, z0, *rest)))

    def test_does_not_depend_on_the_order_of_the_batch_or_of_the_classes(self, method):
        z, z0, x, labels, constants = self.given(method)
        whole, order = float(value(method, z, z0, x, labels, constants)), torch.randperm(200)
        assert float(value(method, z[order], z0[order], x[order], labels[order], constants)) == pytest.approx(whole)
        turned = [1, 2, 3, 0]
        assert float(value(method, z[:, turned], z0[:, turned], x, labels, constants)) == pytest.approx(whole)

    def test_is_a_mean_over_the_batch_where_it_says_so(self, method):
        z, z0, x, labels, constants = self.given(method)
        rows = [float(value(method, *(t[i : i + 1] for t in (z, z0, x, labels)), constants)) for i in range(200)]
        whole = float(value(method, z, z0, x, labels, constants))
        assert (sum(rows) / 200 == pytest.approx(whole)) == method.batch_mean

    def test_without_its_weight_it_is_plain_fine_tuning(self, method):
        """The loss of a step: cross-entropy and the penalty of the logits that the frozen embeddings give."""
        _, _, x, labels, constants = self.given(method)
        found = []
        for each in (method, method.model_copy(update={method_lambda(method): 0.0}), FineTuning()):
            z = logits(200, 4, 9)[0].requires_grad_()
            batch = TrainingBatch(Output(x, z), *[None] * 14)._replace(
                labels=labels, f0=x, constants=constants, label_smoothing=0.1
            )
            loss = sum(each.losses(batch).values())
            loss.backward()
            found.append((float(loss.detach()), z.grad))
        (full, _), (none, gradient), (plain, want) = found
        assert none == plain
        assert torch.equal(gradient, want)
        z0 = torch.nn.functional.normalize(x, dim=1) @ constants["head"].T
        assert full == pytest.approx(plain + float(value(method, logits(200, 4, 9)[0], z0, x, labels, constants)))

    def test_bfloat16_is_close(self, method):
        z, z0, x, labels, constants = self.given(method)
        rough = value(method, z.bfloat16(), z0.bfloat16(), x.float(), labels, constants)
        assert float(rough) == pytest.approx(float(value(method, z, z0, x, labels, constants)), rel=0.1)


def method_lambda(method):
    return next(name for name, _ in method if name.startswith("lambda_"))


def test_lwf_has_the_gradient_of_logit_mse_at_high_temperature():
    """Hinton et al. (2015), eq. 4: T² KL → the mean of the centred squares over 2 as T grows."""
    z, z0 = logits(50, 4, 2)
    at = LwF(lambda_lwf=1.0, temperature=1e4).penalty(z, z0, z, torch.zeros(50))["lwf"]
    assert float(at) == pytest.approx(
        float(LogitMSE(lambda_logit=0.5).penalty(z, z0, z, torch.zeros(50))["logit"]), rel=1e-3
    )


def test_group_covariance_charges_what_differs_by_group_within_a_class_and_nothing_else():
    x, labels, head, cloud = world()
    method = GroupCovariance(lambda_group=1.0, groups=3)
    constants = prepared(method, x, labels, head)
    z0 = logits(200, 4, 1)[1]
    by_class, by_group = torch.randn(4, 4, dtype=torch.float64)[labels], torch.randn(3, 4, dtype=torch.float64)[cloud]
    assert float(value(method, z0 + by_class, z0, x, labels, constants)) < 1e-12
    assert float(value(method, z0 + by_group, z0, x, labels, constants)) > 0.05


def test_groups_are_clouds_off_the_class_directions_whatever_their_numbers():
    x, _, head, cloud = world()
    made = groups.fit(iter(x.split(50)), len(x), head, 3, 0)
    assert made.span.shape == (3, 9)  # four classes differ in three directions
    assert torch.allclose(made.span @ made.span.T, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(made.centres @ made.span.T, torch.zeros(3, 3, dtype=torch.float64), atol=1e-6)
    found = made.of(x)
    assert all(len(cloud[found == g].unique()) == 1 for g in range(3))
    assert torch.equal(made.of(7 * x), found)  # at length 1
    again = groups.fit(iter([x]), len(x), head, 3, 0)
    assert torch.equal(again.centres, made.centres)  # of any parts


def test_groups_of_many_embeddings_are_those_of_a_sample(monkeypatch):
    monkeypatch.setattr(groups, "SAMPLE", 60)
    x, _, head, cloud = world()
    found = groups.fit(iter(x.split(7)), len(x), head, 3, 0).of(x)
    assert all(len(cloud[found == g].unique()) == 1 for g in range(3))


def test_a_head_that_says_nothing_has_no_span():
    made = groups.fit(iter([torch.randn(30, 5)]), 30, torch.zeros(4, 5), 2, 0)
    assert made.span.shape == (0, 5)
    assert np.isfinite(made.centres.numpy()).all()


def test_it_is_refused_where_classes_span_everything():
    method = GroupCovariance(lambda_group=1.0)
    facts = Facts({}, 28, 64, "d", "t", {}, 64)
    assert method.unmet_requirements(facts) == []
    (told,) = method.unmet_requirements(facts._replace(classes=65))
    assert "65 classes span all 64 directions" in told
