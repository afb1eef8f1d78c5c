"""A feature that the classes do not need and that tells the label: found in digit world, not without its cue, told."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats.contingency import association as plain_v

from saeft_ray import driver
from saeft_ray.datasets.digit_world import DigitWorld
from saeft_ray.features import cue as found_in
from saeft_ray.features.cue import FindCue, association
from saeft_ray.features.each import serially
from saeft_ray.model import encoder
from saeft_ray.model.zero_shot import zero_shot_head
from saeft_ray.orchestration.show_plan import show
from saeft_ray.orchestration.tuned import embeddings
from saeft_ray.records.cue import LIKELY, Cue, in_words
from saeft_ray.records.read import read_record
from saeft_ray.records.rows import pack, table
from saeft_ray.report import findings, write_report
from saeft_ray.settings import Model
from saeft_ray.stats import cramers_v

import sweeps
from report_rows import record, rows

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("no_figures_for_papers")


def v_by_loops(a, b):
    """Bergsma (2013), eq. 8 to 10, over pairs of groups."""
    n, kinds_a, kinds_b = len(a), sorted(set(a)), sorted(set(b))
    phi2 = 0.0
    for x in kinds_a:
        for y in kinds_b:
            both = sum(i == x and j == y for i, j in zip(a, b, strict=True)) / n
            apart = a.count(x) / n * b.count(y) / n
            phi2 += (both - apart) ** 2 / apart
    r, c = len(kinds_a), len(kinds_b)
    phi2 = max(0, phi2 - (r - 1) * (c - 1) / (n - 1))
    return math.sqrt(phi2 / min(r - 1 - (r - 1) ** 2 / (n - 1), c - 1 - (c - 1) ** 2 / (n - 1)))


groupings = st.integers(8, 60).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 2), min_size=n, max_size=n).filter(lambda g: len(set(g)) > 1)] * 2)
)


@settings(deadline=None, max_examples=50)
@given(groupings)
def test_v_is_its_definition_and_knows_no_order_and_no_names(pair):
    a, b = (np.array(each) for each in pair)
    v = cramers_v(a, b)
    assert v == pytest.approx(min(1, v_by_loops(*pair)))
    assert v == pytest.approx(cramers_v(b, a))
    assert v == pytest.approx(cramers_v(5 - a, b * 7))


def test_v_is_the_plain_one_less_its_bias():
    drawn = np.random.default_rng(0)
    a = drawn.integers(5, size=100_000)
    b = np.where(drawn.random(100_000) < 0.6, a, drawn.integers(5, size=100_000))
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (a, b), 1)
    assert cramers_v(a, b) == pytest.approx(plain_v(counts, method="cramer"), abs=1e-3)
    few = [cramers_v(drawn.integers(5, size=60), drawn.integers(10, size=60)) for _ in range(200)]
    assert np.mean(few) < 0.1  # where the plain one, which has no correction, is .39 on average


def test_one_group_alone_tells_nothing():
    assert cramers_v(np.zeros(9, int), np.arange(9)) is None
    assert cramers_v(np.zeros(0, int), np.zeros(0, int)) is None


@lru_cache
def frozen():
    clip, world = encoder.load(Model(arch="digit-clip", pretrained="shipped")), DigitWorld()
    head = zero_shot_head(clip, world.class_names(), world.prompts())
    return clip.classifier(head), head


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.0, 0.05), (0.4, 0.3, 0.45), (0.8, 0.73, 0.85)])
def test_digit_world_has_a_cue_as_strong_as_it_says(share, low, high):
    """Measured: .00, .37 and .79. The threshold lies between a world without a cue and one with it."""
    model, head = frozen()
    split = DigitWorld(cue=share).split("train")
    x = torch.from_numpy(embeddings(model, split, CPU))
    found = association(x, split.labels, head, 0)
    assert low <= found.v <= high
    assert found == association(x, split.labels, head, 0)._replace(groups=found.groups, usual=found.usual)
    if share == 0.8:
        assert low > LIKELY > 0.05
        ground = split.attributes(np.arange(len(x))).ground
        group = found.groups.of(x).numpy()
        assert sum(np.bincount(ground[group == k]).max() for k in range(5)) / len(x) > 0.95  # groups are grounds


def test_nothing_is_said_of_too_few_images_or_of_classes_that_span_everything():
    _, head = frozen()
    x, labels = torch.randn(600, head.shape[1]), np.arange(600) % 10
    assert association(x[:400], labels[:400], head, 0) is None
    assert association(x, labels, torch.randn(head.shape[1] + 1, head.shape[1]), 0) is None
    assert association(x, labels, head, 0).v < 0.1


def test_a_sweep_notes_it_once_and_tells_it(tmp_path, monkeypatch):
    methods = {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": 300}}
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path, methods=methods))
    console = Console(record=True, width=300)
    driver._look_for_a_cue(plan, ledger, store, serially)
    cue = ledger.cue()
    assert cue.likely
    assert str(cue) == in_words(cue.v, cue.groups, cue.images)
    assert "5 groups of 1,500 training images" in in_words(cue.v, cue.groups, cue.images)
    assert read_record(ledger.url)["cue"] == cue._asdict() == FindCue(plan, store)("selection")
    split = plan.config.data.split("selection", 28)
    assert (cue.examples, cue.n) == (split.example_order, len(split.labels))
    ground = split.attributes(np.arange(cue.n)).ground
    usual = np.array([np.bincount(ground[split.labels == c]).argmax() for c in range(10)])
    assert (cue.minority == (ground != usual[split.labels])).mean() > 0.95  # against it: not on the digit's ground
    monkeypatch.setattr(found_in, "association", lambda *given: pytest.fail("it is noted already"))
    driver._look_for_a_cue(plan, ledger, store, serially)
    show(plan, console)
    assert f"data: {in_words(cue.v, cue.groups, cue.images)}" in console.export_text()


def selection_rows(right):
    """A selection row beside every trial: of 300 images, `right[method]` of the first 60 and of the others."""
    for row in rows(methods=list(right)):
        if row.dataset == "V2":
            correct = np.concatenate([np.arange(60) < right[row.method][0], np.arange(240) < right[row.method][1]])
            yield replace(
                row, dataset="selection", role="selection", value=correct.mean(), n=300, examples="order",
                correct=pack(correct),
            )  # fmt: skip


def noted(v):
    return {"cue": Cue(v, 5, 1500, "order", 300, pack(np.arange(300) < 60).hex())._asdict()}


RIGHT = {"zero_shot": (54, 216), "ft": (36, 228), "sae_ft": (48, 228)}


def test_a_report_warns_and_shows_every_method_on_the_images_against_it(tmp_path):
    given = table([*rows(methods=list(RIGHT)), *selection_rows(RIGHT)])
    write_report(given, record() | noted(0.79), tmp_path)
    report = findings(given, record() | noted(0.79))
    assert [w.text for w in report.warnings if w.rule == "cue"] == [report.cue.words]
    assert [(m.method, m.seeds, m.against, m.others) for m in report.cue.methods] == [
        ("zero_shot", 0, pytest.approx(0.9), pytest.approx(0.9)),
        ("ft", 5, pytest.approx(0.6), pytest.approx(0.95)),
        ("sae_ft", 5, pytest.approx(0.8), pytest.approx(0.95)),
    ]
    page = (tmp_path / "report.md").read_text()
    assert "| ft | 5 | 60.0 | 95.0 |" in page
    assert "Cramér's V of 0.79 with the label: a feature that the classes do not need tells it." in page
    # Nothing else in the report knows of it.
    without = findings(given, record())
    assert without.cue is None
    warned = tuple(w for w in report.warnings if w.rule != "cue")
    assert replace(report, cue=None, warnings=warned) == without


def test_scores_of_other_selection_images_are_not_taken_for_these():
    other = [replace(row, examples="another order") for row in selection_rows(RIGHT)]
    report = findings(table([*rows(methods=list(RIGHT)), *other]), record() | noted(0.79))
    assert report.cue.methods == ()


def test_a_report_of_an_unlikely_cue_says_nothing_of_it(tmp_path):
    given = table([*rows(methods=list(RIGHT)), *selection_rows(RIGHT)])
    write_report(given, record() | noted(0.1), tmp_path)
    report = findings(given, record() | noted(0.1))
    assert (report.cue.likely, report.cue.against) == (False, 0.2)
    assert not [w for w in report.warnings if w.rule == "cue"]
    assert "tells" not in (tmp_path / "report.md").read_text()


def test_a_sweep_without_stored_embeddings_has_nothing_to_look_at(tmp_path):
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path, methods={"zero_shot": {}, "ft": {}}))
    assert FindCue(plan, store)("selection") is None
    driver._look_for_a_cue(plan, ledger, store, serially)
    assert ledger.cue() is None
