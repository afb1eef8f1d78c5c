"""Each penalty against a second definition of it, written in loops over Python numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_methods import code, dictionary, features, frozen, norm, unit

from saeft_ray.methods.embeddings import L1, PCA, CarFT, Nuclear, QuadraticNuclear
from saeft_ray.methods.layers import LDIFS
from saeft_ray.methods.sae_distances import SaeKL, SaeL1, SaeW
from saeft_ray.methods.sae_ft import SaeFT
from saeft_ray.methods.weights import EWC, L2SP
from saeft_ray.sae import permuted

shapes = given(b=st.integers(1, 5), d=st.integers(2, 7), seed=st.integers(0, 10**6), raw=st.booleans())
few = settings(deadline=None, max_examples=20)


def close(got, want):
    got = {name: float(term) for name, term in got.items()}
    assert got == pytest.approx(want, rel=1e-6, abs=1e-9)


def changes(f, f0, raw):
    rows, rows0 = (f.tolist(), f0.tolist()) if raw else (unit(f.tolist()), unit(f0.tolist()))
    return [[x - y for x, y in zip(row, row0, strict=True)] for row, row0 in zip(rows, rows0, strict=True)]


def reads(raw):
    return "raw" if raw else "unit"


@few
@shapes
def test_l1(b, d, seed, raw):
    f, f0 = features(b, d, seed)
    want = 3 * sum(abs(v) for row in changes(f, f0, raw) for v in row) / (b * d)
    close(L1(lambda_l1=3.0, input=reads(raw)).penalty(f, f0, None), {"l1": want})


@few
@shapes
def test_nuclear(b, d, seed, raw):
    """Singular values are the roots of the eigenvalues of A Aᵀ; here by Jacobi rotations."""
    f, f0 = features(b, d, seed)
    A = changes(f, f0, raw)
    G = [[sum(x * y for x, y in zip(r, s, strict=True)) for s in A] for r in A]
    for _ in range(60):
        for p in range(b):
            for q in range(p + 1, b):
                if abs(G[p][q]) < 1e-18:
                    continue
                angle = 0.5 * math.atan2(2 * G[p][q], G[q][q] - G[p][p])
                c, s = math.cos(angle), math.sin(angle)
                for i in range(b):
                    G[i][p], G[i][q] = c * G[i][p] - s * G[i][q], s * G[i][p] + c * G[i][q]
                for i in range(b):
                    G[p][i], G[q][i] = c * G[p][i] - s * G[q][i], s * G[p][i] + c * G[q][i]
    largest = sorted((max(0.0, G[i][i]) for i in range(b)), reverse=True)[: min(b, d)]
    value = sum(map(math.sqrt, largest))
    close(Nuclear(lambda_nuclear=3.0, input=reads(raw)).penalty(f, f0, None), {"nuclear": 3 * value})
    method = QuadraticNuclear(lambda_nuclear=3.0, input=reads(raw), c=1.0)
    close(method.penalty(f, f0, None), {"nuclear": 3 * max(0.0, value - 1) ** 2})


def test_nuclear_of_a_batch_seen_twice_is_root_two_times_as_much():
    f, f0 = features(4, 6, 0)
    one, two = (Nuclear(lambda_nuclear=1.0).penalty(f.repeat(n, 1), f0.repeat(n, 1), None)["nuclear"] for n in (1, 2))
    assert float(two / one) == pytest.approx(math.sqrt(2))


@few
@shapes
def test_pca_given_its_basis(b, d, seed, raw):
    f, f0 = features(b, d, seed)
    V, _ = torch.linalg.qr(torch.randn(d, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    along = left = 0.0
    for row in changes(f, f0, raw):
        p = [sum(row[j] * float(V[j, i]) for j in range(d)) for i in range(2)]
        along += sum(map(abs, p))
        left += sum((row[j] - sum(p[i] * float(V[j, i]) for i in range(2))) ** 2 for j in range(d))
    method = PCA(lambda_l1=3.0, lambda_resid=5.0, input=reads(raw))
    close(method.penalty(f, f0, None, {"basis": V}), {"l1": 3 * along / (2 * b), "resid": 5 * left / (b * d)})


def test_the_basis_of_pca_is_where_the_centred_features_vary_most():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator) * torch.tensor([1, 9, 1, 5, 1, 1.0]) + 50
    basis = PCA(lambda_l1=1.0, components=2, input="raw").prepare(frozen(x))["basis"]
    _, _, V = torch.pca_lowrank(x.double(), q=6, niter=10)
    torch.testing.assert_close(basis @ basis.T, V[:, :2] @ V[:, :2].T, atol=1e-6, rtol=1e-6)


@few
@shapes
def test_car_ft_is_the_divergence_of_the_contexts(b, d, seed, raw):
    f, f0 = features(b, d, seed)
    method = CarFT(lambda_car=3.0)
    constants = method.prepare(frozen(f0))

    def shares(row):
        powers = [math.exp(sum(c * v for c, v in zip(context, row, strict=True))) for context in W]
        return [power / sum(powers) for power in powers]

    W, divergence = constants["contexts"].tolist(), 0.0
    for row, row0 in zip(unit(f.tolist()), unit(f0.tolist()), strict=True):
        divergence += sum(q * math.log(q / p) for p, q in zip(shares(row), shares(row0), strict=True))
    close(method.penalty(f, f0, None, constants), {"car": 3 * divergence / b})


def codes_of(f, f0, D, raw, relu):
    E, W, bias = D.encoder.tolist(), D.atoms.tolist(), D.bias.tolist()
    x, x0 = (f.tolist(), f0.tolist()) if raw else (unit(f.tolist()), unit(f0.tolist()))
    s, s0 = ([code(row, E, bias, 3, relu)[1] for row in rows] for rows in (x, x0))
    return x, x0, s, s0, W


def two_terms(x, x0, s, s0, W):
    """The mean |s - s0| and the mean squared residual."""
    b, d, width = len(x), len(x[0]), len(W)
    l1 = sum(abs(s[n][i] - s0[n][i]) for n in range(b) for i in range(width)) / (b * width)
    resid = sum(
        (x[n][j] - x0[n][j] - sum(W[i][j] * (s[n][i] - s0[n][i]) for i in range(width))) ** 2
        for n in range(b)
        for j in range(d)
    )
    return l1, resid / (b * d)


def mass(row):
    positive = [max(0.0, v) for v in row]
    return [v / (sum(positive) + 1e-8) for v in positive]


@few
@shapes
def test_sae_l1_and_sae_kl(b, d, seed, raw):
    f, f0 = features(b, d, seed)
    D = dictionary(d, seed, input=reads(raw), activation="topk" if seed % 2 else "relu_topk")
    found = codes_of(f, f0, D, raw, seed % 2 == 0)
    l1, resid = two_terms(*found)
    close(SaeL1(lambda_l1=3.0, lambda_resid=5.0).penalty(f, f0, D), {"l1": 3 * l1, "resid": 5 * resid})
    kl = 0.0
    for row, row0 in zip(found[2], found[3], strict=True):
        for q, q0 in zip(mass(row), mass(row0), strict=True):
            kl += q0 * (math.log(q0) - math.log(q + 1e-8)) if q0 > 0 else 0.0
    method = SaeKL(lambda_l1=3.0, lambda_resid=5.0, lambda_kl=2.0)
    close(method.penalty(f, f0, D), {"l1": 3 * l1, "resid": 5 * resid, "kl": 2 * kl / b})


def sinkhorn_by_loops(q0, q, C, epsilon, iterations):
    """On all D × D entries, with the Gibbs kernel of the cost, not in the log domain."""
    n = len(q)
    K = [[math.exp(-C[i][j] / epsilon) for j in range(n)] for i in range(n)]
    v = [float(q[j] > 0) for j in range(n)]
    for _ in range(iterations):
        u = [q0[i] / sum(K[i][j] * v[j] for j in range(n)) if q0[i] else 0.0 for i in range(n)]
        v = [q[j] / sum(K[i][j] * u[i] for i in range(n)) if q[j] else 0.0 for j in range(n)]
    return sum(u[i] * K[i][j] * v[j] * C[i][j] for i in range(n) for j in range(n))


@settings(deadline=None, max_examples=10)
@shapes
def test_sae_w(b, d, seed, raw):
    f, f0 = features(b, d, seed)
    D = dictionary(d, seed, input=reads(raw))
    _, _, s, s0, W = codes_of(f, f0, D, raw, True)
    C = [[max(0.0, 1 - sum(x * y for x, y in zip(r, t, strict=True)) / (norm(r) * norm(t))) for t in W] for r in W]
    cost = [
        sinkhorn_by_loops(mass(row0), mass(row), C, 0.2, 10)
        for row, row0 in zip(s, s0, strict=True)
        if any(row) and any(row0)
    ]
    close(SaeW(lambda_wass=2.0, epsilon=0.2, iterations=10).penalty(f, f0, D), {"wass": 2 * sum(cost) / b})


def test_sae_w_moves_all_mass_at_the_cost_of_the_move():
    """One active atom each: whatever the plan is blurred by, all mass goes from one to the other."""
    from saeft_ray.sae import Dictionary
    from saeft_ray.settings import DictionarySettings

    D = Dictionary(torch.eye(3), torch.eye(3), torch.zeros(3), DictionarySettings(width=3, k=1, input="raw"))
    f0, f = torch.eye(3)[:2], torch.eye(3)[[0, 2]]
    assert float(SaeW(lambda_wass=1.0).penalty(f, f0, D)["wass"]) == pytest.approx(0.5)


def test_sae_w_never_holds_a_matrix_of_the_dictionary_width():
    from saeft_ray.sae import Dictionary
    from saeft_ray.settings import DictionarySettings

    atoms = torch.randn(50_000, 4, generator=torch.Generator().manual_seed(0))
    D = Dictionary(atoms, atoms, torch.zeros(4), DictionarySettings(width=50_000, k=4, input="raw"))
    f, f0 = features(8, 4, 0, torch.float32)  # one 50,000 × 50,000 matrix would take 10 GB
    assert float(SaeW(lambda_wass=1.0).penalty(f, f0, D)["wass"]) >= 0


@few
@shapes
def test_relative_scaling_is_in_shares(b, d, seed, raw):
    f, f0 = features(b, d, seed)
    D = dictionary(d, seed, input=reads(raw))
    x, x0, s, s0, W = codes_of(f, f0, D, raw, True)
    size = sum(v * v for row in x0 for v in row)
    total = max(sum(map(sum, s0)), 1e-8 * b)
    added = sum(v for row, row0 in zip(s, s0, strict=True) for v, v0 in zip(row, row0, strict=True) if v0 == 0)
    removed = sum(max(0.0, v0 - v) for row, row0 in zip(s, s0, strict=True) for v, v0 in zip(row, row0, strict=True))
    left = two_terms(x, x0, s, s0, W)[1] * b * d
    method = SaeFT(lambda_resid=2.0, lambda_add=3.0, lambda_remove=5.0, scaling="relative")
    constants = method.prepare(frozen(f0, D))
    got = method.penalty(f, f0, D, constants)
    close(got, {"add": 3 * added / total, "remove": 5 * removed / total, "resid": 2 * left / size})


def test_relative_lambdas_keep_their_meaning_in_a_wider_dictionary():
    """Atoms that are never active change the paper's penalty, and not the relative one."""
    from saeft_ray.sae import Dictionary

    f, f0 = features(6, 5, 0)
    D = dictionary(5)
    never = torch.full((12, 5), 0.0, dtype=torch.float64)
    wide = Dictionary(torch.cat([D.encoder, never]), torch.cat([D.atoms, never]), D.bias, D.settings)
    for scaling, ratio in (("mean", 0.5), ("relative", 1.0)):
        method = SaeFT(lambda_add=1.0, scaling=scaling)
        one, two = (
            float(method.penalty(f, f0, d, method.prepare(frozen(f0, d)) if method.has_constants else {})["add"])
            for d in (D, wide)
        )
        assert two / one == pytest.approx(ratio)


@few
@given(b=st.integers(1, 3), t=st.integers(1, 4), w=st.integers(1, 4), seed=st.integers(0, 10**6), token=st.booleans())
def test_ldifs(b, t, w, seed, token):
    generator = torch.Generator().manual_seed(seed)
    h, h0 = ([torch.randn(b, t, w, generator=generator, dtype=torch.float64) for _ in range(5)] for _ in range(2))

    def scaled(site, n, i, j):
        along = [site[n][k][j] for k in range(t)] if token else site[n][i]
        return site[n][i][j] / (norm(along) + (1e-10 if token else 1e-8))

    each = [
        (scaled(x, n, i, j) - scaled(y, n, i, j)) ** 2
        for x, y in zip([s.tolist() for s in h], [s.tolist() for s in h0], strict=True)
        for n in range(b)
        for i in range(t)
        for j in range(w)
    ]
    method = LDIFS(lambda_ldifs=3.0, variant="token" if token else "channel")
    close(method.penalty(h, h0), {"ldifs": 3 * sum(each) / len(each)})


def test_ldifs_reads_the_blocks_of_the_paper():
    assert LDIFS(lambda_ldifs=1.0).sites(12) == [0, 3, 6, 9, 12]
    assert LDIFS(lambda_ldifs=1.0).sites(3) == [0, 1, 2, 3]


@few
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), seed=st.integers(0, 10**6))
def test_l2_sp_and_ewc(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    w, w0, F = ({n: torch.rand(shape, generator=generator, dtype=torch.float64) for n in "ab"} for _ in range(3))
    flat = [(w[n].flatten().tolist(), w0[n].flatten().tolist(), F[n].flatten().tolist()) for n in "ab"]
    want = sum((x - y) ** 2 for a, b, _ in flat for x, y in zip(a, b, strict=True))
    close(L2SP(lambda_l2=3.0).penalty(w, w0), {"l2": 3 * want})
    want = sum(f * (x - y) ** 2 for a, b, c in flat for x, y, f in zip(a, b, c, strict=True))
    close(EWC(lambda_ewc=3.0).penalty(w, w0, F), {"ewc": 1.5 * want})


@pytest.mark.parametrize(
    "method",
    [
        SaeFT(lambda_add=3.0),
        SaeFT(lambda_add=3.0, lambda_remove=2.0),
        SaeFT(lambda_add=3.0, lambda_remove=2.0, remove_on="preactivations", scaling="relative"),
        SaeL1(lambda_l1=3.0),
        SaeKL(lambda_kl=3.0, lambda_l1=2.0),
        SaeW(lambda_l1=3.0),
    ],
    ids=str,
)
def test_a_permuted_dictionary_is_the_trained_one_where_no_term_reads_atoms(method):
    """The proof of what a sweep file refuses: value and gradient do not change with the order of codes. With a term
    that reads atoms, both do."""
    f, f0 = features(40, 6, 3)
    trained = dictionary(6, 1)
    shuffled = permuted(trained, 5)

    def value_and_gradient(method, D):
        moved = f.clone().requires_grad_()
        constants = method.prepare(frozen(f0, D)) if method.has_constants else {}
        value = sum(method.penalty(moved, f0, D, constants).values())
        value.backward()
        return float(value.detach()), moved.grad

    (value, gradient), (again, same) = (value_and_gradient(method, D) for D in (trained, shuffled))
    assert value > 0.01
    assert again == pytest.approx(value, rel=1e-12)
    assert torch.allclose(same, gradient, rtol=1e-9, atol=1e-14)
    for name in method.read_atoms:
        seeing = method.model_copy(update={name: 3.0})
        (value, gradient), (again, other) = (value_and_gradient(seeing, D) for D in (trained, shuffled))
        assert again != pytest.approx(value, rel=1e-3)
        assert not torch.allclose(other, gradient, rtol=1e-3)
