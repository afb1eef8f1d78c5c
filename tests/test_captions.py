"""What the methods on captions add to their loss, each against a second definition in loops over Python numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saeft_ray.methods.captions import CaRot, StarFT, Step
from saeft_ray.methods.facts import Facts
from saeft_ray.model.two_towers import TowerOutputs

SPURIOUS = ("a {} in the snow",)


def step(b=4, d=3, seed=0, epoch=1, epochs=4, labels=None):
    generator = torch.Generator().manual_seed(seed)

    def rows(n):
        return torch.nn.functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)

    seen, teacher_outputs = (
        TowerOutputs(rows(b), rows(b), rows(b), torch.tensor(scale).double()) for scale in (2.0, 3.0)
    )
    labels = torch.arange(b) % 3 if labels is None else labels
    projections = tuple(torch.randn(w, d, generator=generator, dtype=torch.float64) for w in (5, 4))
    return Step(seen, teacher_outputs, labels, projections, epoch, epochs)


def softmax(row):
    return [math.exp(v) / sum(map(math.exp, row)) for v in row]


def dots(a, b, scale):
    return [[scale * sum(x * y for x, y in zip(u, v, strict=True)) for v in b.tolist()] for u in a.tolist()]


few = settings(deadline=None, max_examples=20)
cases = given(b=st.integers(1, 5), d=st.integers(2, 5), seed=st.integers(0, 10**6), epoch=st.integers(1, 4))


@few
@cases
def test_starft_is_its_definition(b, d, seed, epoch):
    made = step(b, d, seed, epoch)
    total = 0.0
    student = dots(made.outputs.image, made.outputs.extra_text, 3.0)
    teacher = dots(made.teacher_outputs.image, made.teacher_outputs.extra_text, 3.0)
    for i in range(b):
        others = [j for j in range(b) if made.labels[j] != made.labels[i]]
        if others:
            p, p0 = (softmax([rows[i][j] for j in others]) for rows in (student, teacher))
            total += sum(q * math.log(q / r) for r, q in zip(p, p0, strict=True))
    got = StarFT(lambda_star=0.7, spurious=SPURIOUS).penalty(made)
    assert {n: float(v) for n, v in got.items()} == pytest.approx(
        {"star": 0.7 * (1 - epoch / 4) * total / b}, rel=1e-6, abs=1e-12
    )


@few
@cases
def test_carot_is_its_definition(b, d, seed, epoch):
    made = step(b, d, seed, epoch)
    z, z0 = (dots(seen.image, seen.text, float(seen.scale)) for seen in (made.outputs, made.teacher_outputs))
    distil = 0.0
    for rows, rows0 in ((z, z0), (list(zip(*z, strict=True)), list(zip(*z0, strict=True)))):
        for row, row0 in zip(rows, rows0, strict=True):
            distil -= sum(q * math.log(p) for p, q in zip(softmax(row), softmax(row0), strict=True)) / b
    v, t = (p.tolist() for p in made.projections)
    gram = [[sum(row[i] * row[j] for row in v) - (i == j) for j in range(d)] for i in range(d)]
    cross = [[sum(a * c for a, c in zip(row, other, strict=True)) for other in t] for row in v]
    size = {"orth": gram, "cross": cross}
    want = {name: math.sqrt(sum(x * x for row in rows for x in row)) for name, rows in size.items()}
    got = CaRot(lambda_orth=2.0, lambda_cross=3.0, lambda_distil=5.0).penalty(made)
    assert {n: float(v) for n, v in got.items()} == pytest.approx(
        {"orth": 2 * want["orth"], "cross": 3 * want["cross"], "distil": 5 * distil}, rel=1e-6
    )


@pytest.mark.parametrize("method", [StarFT(spurious=SPURIOUS), CaRot()], ids=["starft", "carot"])
def test_gradient_is_that_of_its_value_and_flows_into_the_student_alone(method):
    made = step()
    inputs = [t.requires_grad_() for t in (*made.outputs[:3], *made.projections)]
    teacher = [t.requires_grad_() for t in made.teacher_outputs[:3]]

    def value(image, text, extra, v, t):
        seen = made.outputs._replace(image=image, text=text, extra_text=extra)
        taught = TowerOutputs(*(t.detach() for t in made.teacher_outputs))
        return sum(method.penalty(made._replace(outputs=seen, teacher_outputs=taught, projections=(v, t))).values())

    assert torch.autograd.gradcheck(value, inputs)
    assert all(t.grad is None for t in teacher)


def test_a_batch_of_one_class_has_nothing_to_keep():
    made = step(labels=torch.zeros(4, dtype=torch.int64))
    assert float(StarFT(spurious=SPURIOUS).penalty(made)["star"]) == 0


def test_what_they_need_is_asked_for():
    assert "spurious is missing" in StarFT().problems()[0]
    assert "'no class'" in StarFT(spurious=("no class", "a {}")).problems()[0]
    assert not StarFT(spurious=SPURIOUS).problems()
    facts = Facts({"arch": "RN50"}, 224, 1024, "data", "train", {"train": 1}, 10)
    assert "RN50 has no projection" in CaRot().unmet_requirements(facts)[0]
    assert not CaRot().unmet_requirements(facts._replace(blocks=12))
