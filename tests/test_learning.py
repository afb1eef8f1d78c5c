"""The learning curves of a report: what they average, and what they leave out."""

import pytest

from saeft_ray.records.rows import table
from saeft_ray.report import findings
from saeft_ray.report.learning import learning
from saeft_ray.report.render import learning_plot
from saeft_ray.report.render.markdown import render as markdown

import report_rows


def line(method, trial, epoch, metric, value, phase="confirm"):
    return {"phase": phase, "method": method, "trial": trial, "epoch": epoch, "metric": metric, "value": value}


@pytest.fixture
def epochs():
    """Two trials of `ft`, one of which died after its first epoch; `wise_ft` with the training of `mse`."""
    found = [line("ft", "a", n, "loss.cross_entropy", 1.0 / n) for n in (1, 2, 3)]
    found += [line("ft", "b", n, "loss.cross_entropy", 2.0 / n) for n in (1, 2)]
    for method in ("mse", "wise_ft"):
        for n in (1, 2):
            found += [line(method, f"c-{method}", n, "loss.cross_entropy", 1.0 / n)]
            found += [line(method, f"c-{method}", n, "loss.mse", 0.5), line(method, f"c-{method}", n, "lr", 0.1)]
            found += [line(method, f"c-{method}", n, "selection", 0.4 * n)]
    found += [line("l1", "d", n, "loss.cross_entropy", 1.0, "search") for n in (1, 2)]
    found += [line("pca", "e", 1, "loss.cross_entropy", 1.0)]
    return found


def test_a_curve_is_the_mean_over_all_trials_of_a_method(epochs):
    ft, mse = learning(epochs)
    assert (ft.method, ft.trials, ft.loss, ft.selection) == ("ft", 2, ((1, 1.5), (2, 0.75)), ())
    assert (mse.method, mse.trials) == ("mse", 1)  # wise_ft has no training of its own
    assert mse.loss == ((1, 1.5), (2, 1.0))
    assert mse.selection == ((1, 0.4), (2, 0.8))


def test_the_report_has_them_as_a_plot_and_a_table(epochs):
    rows = table(report_rows.rows(seeds=3))
    report = findings(rows, {**report_rows.record(), "epochs": epochs})
    drawn = learning_plot.draw(report)
    assert "ft 1.500 to 0.750; mse 1.500 to 1.000" in drawn["learning"]
    text = markdown(report, drawn)
    assert "Learning curves" in text
    assert "| mse | 1 | 2 | 1.500 | 1.000 | 80.0 |" in text
    without = findings(rows, report_rows.record())
    assert learning_plot.draw(without) == {}
    assert "Learning curves" not in markdown(without, {})
