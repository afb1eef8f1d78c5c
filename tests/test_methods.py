"""Penalties: each against a second, loop-written definition, and one contract for all that the folder holds."""

import math
from types import SimpleNamespace
from typing import Literal, get_args, get_origin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saeft_ray.config.schema import METHODS
from saeft_ray.methods import EmbeddingPenalty, LayerPenalty, ParameterPenalty, Regularized
from saeft_ray.methods.baselines import FineTuning
from saeft_ray.methods.embeddings import MSE
from saeft_ray.methods.predictions import PredictionPenalty
from saeft_ray.methods.sae_ft import RandomDictionary, SaeFT
from saeft_ray.sae import Dictionary
from saeft_ray.settings import DictionarySettings

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


def regularized(kind):
    """Every method of the folder that is of `kind`: its weights at 2, and once more for each named option it has."""
    found = []
    for name, cls in METHODS.items():
        if issubclass(cls, kind):
            lambdas = [field for field in cls.model_fields if field.startswith("lambda_")]
            assert lambdas, f"{name} has nothing to search"
            method = cls(**dict.fromkeys(lambdas, 2.0))
            found.append(pytest.param(method, id=name))
            for field, info in cls.model_fields.items():
                for option in get_args(info.annotation) if get_origin(info.annotation) is Literal else ():
                    if option != info.default:
                        found.append(
                            pytest.param(method.model_copy(update={field: option}), id=f"{name}-{field}-{option}")
                        )
    return found


def frozen(f0, D=None):
    """A frozen side that stored `f0`, and four contexts."""
    contexts = 5 * torch.randn(4, f0.shape[1], dtype=f0.dtype, generator=torch.Generator().manual_seed(9))
    return SimpleNamespace(dictionary=D, activations=lambda: f0.detach().split(2), contexts=lambda: contexts)


def total(method, f, f0, D):
    constants = method.prepare(frozen(f0, D)) if method.has_constants else {}
    return sum(method.penalty(f, f0, D, constants).values())


@pytest.mark.parametrize("method", regularized(EmbeddingPenalty))
class TestEveryFeaturePenalty:
    def test_is_zero_at_the_frozen_features_and_positive_elsewhere(self, method):
        f, f0 = features(512, 6, 1)
        if method.zero_at_start:
            assert float(total(method, f0.clone(), f0, dictionary(6))) == pytest.approx(0, abs=1e-6)
        assert float(total(method, f, f0, dictionary(6))) > 1e-3

    @pytest.mark.parametrize("b", [1, 512])
    def test_has_finite_gradients_and_none_into_the_frozen_side(self, method, b):
        f, f0 = features(b, 6, 2)
        D = dictionary(6)
        for moved in (f, f0.clone()):
            moved.requires_grad_()
            total(method, moved, f0, D).backward()
            assert moved.grad.isfinite().all()
        assert b == 1 or f.grad.abs().sum() > 0
        assert f0.grad is None
        assert not any(p.requires_grad for p in [*D.parameters(), *D.buffers()])

    def test_gradient_is_that_of_its_value(self, method):
        f, f0 = features(4, 6, 7)
        method = method.model_copy(update={"c": 0.1} if "c" in type(method).model_fields else {})
        assert torch.autograd.gradcheck(lambda x: total(method, x, f0, dictionary(6)), f.requires_grad_())

    def test_does_not_depend_on_the_order_of_the_batch(self, method):
        f, f0 = features(6, 6, 3)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
        whole = float(total(method, f, f0, dictionary(6)))
        assert float(total(method, f[order], f0[order], dictionary(6))) == pytest.approx(whole)

    def test_is_a_mean_over_the_batch_where_it_says_so(self, method):
        f, f0 = features(6, 6, 3)
        D = dictionary(6)
        constants = method.prepare(frozen(f0, D)) if method.has_constants else {}

        def value(f, f0):
            return float(sum(method.penalty(f, f0, D, constants).values()))

        rows = [value(f[i : i + 1], f0[i : i + 1]) for i in range(6)]
        if method.batch_mean:
            assert value(f.repeat(2, 1), f0.repeat(2, 1)) == pytest.approx(value(f, f0))
            assert sum(rows) / 6 == pytest.approx(value(f, f0))

    def test_bfloat16_is_close(self, method):
        f, f0 = features(512, 6, 4, torch.float32)
        exact = float(total(method, f, f0, dictionary(6, dtype=torch.float32)))
        rough = total(method, f.bfloat16(), f0.bfloat16(), dictionary(6, dtype=torch.float32).to(torch.bfloat16))
        assert float(rough) == pytest.approx(exact, rel=0.15)

    def test_survives_codes_with_no_active_atom(self, method):
        D = dictionary(6)
        D.encoder.zero_()
        f, f0 = features(3, 6, 5)
        total(method, f.requires_grad_(), f0, D).backward()
        assert f.grad.isfinite().all()


@pytest.mark.parametrize("method", regularized(LayerPenalty))
class TestEveryLayerPenalty:
    def tokens(self, method, moved, b=4):
        generator = torch.Generator().manual_seed(0)
        h0 = [torch.randn(b, 5, 3, generator=generator, dtype=torch.float64) for _ in method.sites(12)]
        return [t + moved * torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in h0], h0

    def test_is_zero_at_the_start_and_positive_elsewhere(self, method):
        assert float(sum(method.penalty(*self.tokens(method, 0)).values())) == 0
        assert float(sum(method.penalty(*self.tokens(method, 1)).values())) > 0

    def test_gradient_is_that_of_its_value(self, method):
        h, h0 = self.tokens(method, 1, b=2)
        h = [tokens.requires_grad_() for tokens in h]
        assert torch.autograd.gradcheck(lambda *h: sum(method.penalty(h, h0).values()), h)

    def test_is_a_mean_over_the_batch(self, method):
        h, h0 = self.tokens(method, 1)
        rows = [
            float(sum(method.penalty([t[i : i + 1] for t in h], [t[i : i + 1] for t in h0]).values())) for i in range(4)
        ]
        assert sum(rows) / 4 == pytest.approx(float(sum(method.penalty(h, h0).values())))

    @pytest.mark.parametrize("blocks", [1, 2, 3, 12, 24, 40])
    def test_reads_only_blocks_that_exist(self, method, blocks):
        sites = method.sites(blocks)
        assert sites == sorted(set(sites))
        assert set(sites) <= set(range(blocks + 1))


@pytest.mark.parametrize("method", regularized(ParameterPenalty))
class TestEveryParameterPenalty:
    def weights(self, moved):
        generator = torch.Generator().manual_seed(0)
        w0 = {name: torch.randn(4, 3, generator=generator, dtype=torch.float64) for name in "ab"}
        constants = {name: torch.rand(4, 3, generator=generator, dtype=torch.float64) for name in "ab"}
        return {name: w + moved for name, w in w0.items()}, w0, constants

    def test_is_zero_at_the_start_and_positive_elsewhere(self, method):
        assert float(sum(method.penalty(*self.weights(0)).values())) == 0
        assert float(sum(method.penalty(*self.weights(0.1)).values())) > 0

    def test_gradient_is_that_of_its_value(self, method):
        w, w0, constants = self.weights(0.1)
        values = [tensor.requires_grad_() for tensor in w.values()]
        assert torch.autograd.gradcheck(
            lambda *v: sum(method.penalty(dict(zip(w, v, strict=True)), w0, constants).values()), values
        )


@pytest.mark.parametrize("method", regularized(Regularized))
def test_weights_cannot_all_be_zero(method):
    zero = method.model_copy(update={name: 0.0 for name, _ in method if name.startswith("lambda_")})
    assert any("can never act" in words for words in zero.problems())
    assert not method.problems()
    assert isinstance(method, EmbeddingPenalty | LayerPenalty | ParameterPenalty | PredictionPenalty)


def test_methods_without_a_penalty_are_not_regularized():
    assert not isinstance(FineTuning(), Regularized)
