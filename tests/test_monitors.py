"""Monitors: each against its definition, and what they must not disturb."""

import math

import pytest
import torch
from test_methods import code, dictionary, features

from saeft_ray.training import monitors


@pytest.mark.parametrize("seed", range(4))
def test_shares_of_codes(seed):
    f, f0 = features(9, 20, seed)
    D = dictionary(20, seed, input="raw")
    E, W, b = D.encoder.tolist(), D.atoms.tolist(), D.bias.tolist()
    s, s0 = ([code(row, E, b, 3, True)[1] for row in x.tolist()] for x in (f, f0))
    total = sum(map(sum, s0))
    pairs = [(v, v0) for row, row0 in zip(s, s0, strict=True) for v, v0 in zip(row, row0, strict=True)]
    decoded = [[sum(W[i][j] * row[i] for i in range(12)) + b[j] for j in range(20)] for row in s]
    mean = f.mean(0).tolist()
    off = [(z - x) ** 2 for r, t in zip(decoded, f.tolist(), strict=True) for z, x in zip(r, t, strict=True)]
    spread = [(x - m) ** 2 for row in f.tolist() for x, m in zip(row, mean, strict=True)]
    got = {name: float(value) for name, value in monitors.of_codes(f, f0, D).items()}
    outside = got.pop("monitor.outside_dictionary")
    assert got == pytest.approx(
        {
            "monitor.added_share": sum(v for v, v0 in pairs if v0 == 0) / total,
            "monitor.removed_share": sum(max(0.0, v0 - v) for v, v0 in pairs) / total,
            "monitor.sae_fvu_moving": sum(off) / sum(spread),
        },
        rel=1e-6,
    )
    left = 0.0
    for n in range(9):
        atoms = [D.atoms[i] for i in range(12) if s[n][i] or s0[n][i]]
        rest, basis = (f - f0)[n].clone(), []
        for atom in atoms:  # Gram and Schmidt
            for q in basis:
                atom = atom - (atom @ q) * q
            basis.append(atom / atom.norm())
            rest = rest - (rest @ basis[-1]) * basis[-1]
        left += float(rest.square().sum())
    assert outside == pytest.approx(left / float((f - f0).square().sum()), rel=1e-5)


def test_nothing_moved_is_no_share_and_no_division_by_zero():
    _, f0 = features(4, 6, 0)
    got = monitors.of_codes(f0, f0, dictionary(6))
    assert all(math.isfinite(v) for v in got.values())
    assert got["monitor.added_share"] == got["monitor.removed_share"] == got["monitor.outside_dictionary"] == 0


def test_a_change_along_active_atoms_is_inside_and_one_across_them_outside():
    atoms = torch.eye(4)[:2]
    active = torch.tensor([[True, True], [True, False], [False, False]])
    change = torch.tensor([[1.0, 2, 0, 0], [1, 2, 0, 3], [1, 1, 1, 1]])
    want = torch.tensor([[0.0, 0, 0, 0], [0, 2, 0, 3], [1, 1, 1, 1]])
    torch.testing.assert_close(monitors.outside_span(change, active, atoms), want)


def test_gradient_norms_are_those_of_each_term_alone():
    w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    terms = {"a": w.square().sum(), "b": 2 * w[0], "constant": torch.tensor(1.0)}
    got = {name: float(norm) for name, norm in monitors.gradient_norms(terms, [w]).items()}
    assert got == {"gradient_norm.a": 10, "gradient_norm.b": 2, "gradient_norm.constant": 0}
    assert w.grad is None
