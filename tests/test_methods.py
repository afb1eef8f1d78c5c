"""Penalties: each against a second, loop-written definition, and one contract for all that the folder holds."""

import math
from types import UnionType
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saeft_ray.config import METHODS, DictionarySettings
from saeft_ray.methods import Regularized
from saeft_ray.methods.distance import MSE
from saeft_ray.methods.plain import FineTuning
from saeft_ray.methods.sparse import RandomDictionary, SaeFT
from saeft_ray.sae import Dictionary
from saeft_ray.space import Tunable

DICTIONARY = DictionarySettings(width=12, k=3)


def dictionary(d, seed=0, dtype=torch.float64, **settings):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator, dtype=dtype) for shape in ((12, d), (12, d), (d,))]
    return Dictionary(*made, DICTIONARY.model_copy(update=settings))


def features(b, d, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    f0 = torch.randn(b, d, generator=generator, dtype=dtype)
    return f0 + 0.5 * torch.randn(b, d, generator=generator, dtype=dtype), f0


def norm(row):
    return math.sqrt(sum(v * v for v in row))


def unit(rows):
    return [[v / norm(row) for v in row] for row in rows]


def code(x, E, b, k, relu):
    """The k largest pre-activations of one row, by sorting."""
    a = [sum(e * (v - c) for e, v, c in zip(row, x, b, strict=True)) for row in E]
    top = sorted(range(len(a)), key=lambda i: -a[i])[:k]
    return a, [(max(a[i], 0.0) if relu else a[i]) if i in top else 0.0 for i in range(len(a))]


def code_penalty_by_loops(f, f0, D, resid, add, remove, on_codes, unit_input, relu):
    E, W, b = D.encoder.tolist(), D.atoms.tolist(), D.bias.tolist()
    x, x0 = (unit(f.tolist()), unit(f0.tolist())) if unit_input else (f.tolist(), f0.tolist())
    B, d, width = len(x), len(x[0]), len(E)
    added = removed = left = 0.0
    for row, row0 in zip(x, x0, strict=True):
        a, s = code(row, E, b, 3, relu)
        _, s0 = code(row0, E, b, 3, relu)
        for i in range(width):
            if s0[i] == 0:
                added += abs(s[i])
            else:
                removed += max(0.0, s0[i] - (s[i] if on_codes else a[i]))
        for j in range(d):
            left += (row[j] - row0[j] - sum(W[i][j] * (s[i] - s0[i]) for i in range(width))) ** 2
    return {"add": add * added / (B * width), "remove": remove * removed / (B * width), "resid": resid * left / (B * d)}


@settings(deadline=None, max_examples=25)
@given(
    b=st.integers(1, 5),
    d=st.integers(2, 7),
    seed=st.integers(0, 10**6),
    lambdas=st.tuples(*[st.floats(0.1, 1000)] * 3),
    remove_on=st.sampled_from(["codes", "preactivations"]),
    reads=st.sampled_from(["unit", "raw"]),
    activation=st.sampled_from(["relu_topk", "topk"]),
    cls=st.sampled_from([SaeFT, RandomDictionary]),
)
def test_code_penalty_is_its_definition(b, d, seed, lambdas, remove_on, reads, activation, cls):
    f, f0 = features(b, d, seed)
    D = dictionary(d, seed, input=reads, activation=activation)
    resid, add, remove = lambdas
    method = cls(lambda_resid=resid, lambda_add=add, lambda_remove=remove, remove_on=remove_on)
    got = {name: float(term) for name, term in method.penalty(f, f0, D).items()}
    want = code_penalty_by_loops(f, f0, D, *lambdas, remove_on == "codes", reads == "unit", activation == "relu_topk")
    assert got == pytest.approx(want, rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(b=st.integers(1, 5), d=st.integers(1, 7), seed=st.integers(0, 10**6), reads=st.sampled_from(["unit", "raw"]))
def test_mse_is_its_definition(b, d, seed, reads):
    f, f0 = features(b, d, seed)
    rows, rows0 = (unit(f.tolist()), unit(f0.tolist())) if reads == "unit" else (f.tolist(), f0.tolist())
    want = (
        7 * sum((x - y) ** 2 for r, r0 in zip(rows, rows0, strict=True) for x, y in zip(r, r0, strict=True)) / (b * d)
    )
    assert float(MSE(lambda_mse=7.0, input=reads).penalty(f, f0, None)["mse"]) == pytest.approx(want, rel=1e-6)


def test_an_atom_that_left_the_top_k_comes_back_only_through_preactivations():
    D = Dictionary(torch.eye(2), torch.eye(2), torch.zeros(2), DictionarySettings(width=2, k=1, input="raw"))
    f0, f = (
        torch.tensor([[1.0, 0.0]]),
        torch.tensor([[0.4, 0.6]], requires_grad=True),
    )  # atom 0 was active, now atom 1 is
    SaeFT(lambda_remove=1.0).penalty(f, f0, D)["remove"].backward()
    assert f.grad[0].tolist() == [0, 0]
    SaeFT(lambda_remove=1.0, remove_on="preactivations").penalty(f, f0, D)["remove"].backward()
    assert f.grad[0, 0] < 0  # a descent step raises the atom's pre-activation


def regularized():
    """Every regularized method of the folder, all its open settings at 2."""
    found = []
    for name, cls in METHODS.items():
        if issubclass(cls, Regularized):
            is_open = [key for key, field in cls.model_fields.items() if field.annotation == get_args(Tunable)[0]]
            assert is_open, f"{name} has nothing to search"
            found.append(pytest.param(cls(**dict.fromkeys(is_open, 2.0)), id=name))
    return found


def total(method, f, f0, D):
    return sum(method.penalty(f, f0, D).values())


@pytest.mark.parametrize("method", regularized())
class TestEveryRegularizer:
    def test_is_zero_at_the_frozen_features_and_positive_elsewhere(self, method):
        f, f0 = features(8, 6, 1)
        assert float(total(method, f0.clone(), f0, dictionary(6))) == pytest.approx(0, abs=1e-12)
        assert float(total(method, f, f0, dictionary(6))) > 0

    def test_has_finite_gradients_and_none_into_the_frozen_side(self, method):
        f, f0 = features(8, 6, 2)
        D = dictionary(6)
        f.requires_grad_()
        f0.requires_grad_()
        total(method, f, f0.detach(), D).backward()
        assert f.grad.isfinite().all()
        assert f.grad.abs().sum() > 0
        assert f0.grad is None
        assert not any(p.requires_grad for p in [*D.parameters(), *D.buffers()])

    def test_is_a_mean_over_the_batch(self, method):
        f, f0 = features(6, 6, 3)
        D = dictionary(6)
        whole = float(total(method, f, f0, D))
        order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
        assert float(total(method, f[order], f0[order], D)) == pytest.approx(whole)
        assert float(total(method, f.repeat(2, 1), f0.repeat(2, 1), D)) == pytest.approx(whole)
        rows = [float(total(method, f[i : i + 1], f0[i : i + 1], D)) for i in range(6)]
        assert sum(rows) / 6 == pytest.approx(whole)

    def test_bfloat16_is_close(self, method):
        f, f0 = features(16, 6, 4, torch.float32)
        exact = float(total(method, f, f0, dictionary(6, dtype=torch.float32)))
        rough = total(method, f.bfloat16(), f0.bfloat16(), dictionary(6, dtype=torch.float32).to(torch.bfloat16))
        assert float(rough) == pytest.approx(exact, rel=0.15)

    def test_survives_codes_with_no_active_atom(self, method):
        D = dictionary(6)
        D.encoder.zero_()
        f, f0 = features(3, 6, 5)
        assert math.isfinite(float(total(method, f, f0, D)))

    def test_cannot_be_all_zero(self, method):
        zero = type(method)(**{k: 0.0 if isinstance(v, float) else v for k, v in method if k != "type"})
        assert any("can never act" in words for words in zero.problems())


def test_methods_without_a_penalty_are_not_regularized():
    assert not isinstance(FineTuning(), Regularized)
    assert not isinstance(Tunable, UnionType)
