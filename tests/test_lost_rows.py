"""A phase without its rows is an error with its name, and what is told of the time left is no guess."""

import io

import pytest
from rich.console import Console

from saeft_ray.errors import Unfinished
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.progress import Progress, Quiet

import sweeps


class Losing:
    """A runner whose trials end well on machines where nobody looks."""

    def __init__(self, ledger):
        self.ledger = ledger

    def build(self, artifacts, watcher):
        pass

    def run(self, queue, watcher):
        while queue.remaining and (spec := queue.ask()):
            self.ledger.begin_trial(spec)
            queue.tell(spec, 0.5)


MSE = {"ft": {}, "mse": {"lambda_mse": 30}}
SEARCHED = {"ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}}
DERIVED = {"ft": {}, "wise_ft": {"of": "ft", "alpha": {"choices": [0.3, 0.6]}}}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"methods": SEARCHED}, "mse: none of its 3 configurations"),
        ({"methods": MSE}, "the confirm phase ended without the rows of confirm-"),
        ({"methods": MSE, "confirm": {"seeds": {"min": 3, "max": 5}}}, "the confirm phase ended without the rows of"),
        ({"methods": DERIVED}, "the rerank phase ended"),
    ],
)
def test_a_phase_without_its_rows_is_an_error_with_its_name(tmp_path, sections, words):
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path, **sections))
    with pytest.raises(Unfinished, match=words):
        run_phases(plan, ledger, Losing(ledger), Quiet())
    assert not ledger.finished()


def shown(progress):
    out = io.StringIO()
    Console(file=out, width=120).print(progress._render())
    return out.getvalue()


def test_no_time_is_told_while_what_takes_long_has_not_ended(tmp_path):
    plan, _, _ = sweeps.opened(sweeps.config(tmp_path, methods={"zero_shot": {}, **MSE}))
    progress = Progress(Console(file=io.StringIO()))
    head, *others = plan.artifacts()
    progress.building([head, *others])
    progress.built(head)
    assert "left" not in shown(progress)
    still, trained, *_ = sorted(plan.confirm(dict(plan.config.methods)), key=lambda spec: spec.trained is not None)
    progress.phase("confirm", 5, 0)
    progress.started(still)
    progress.started(trained)
    progress.ended(still, None)
    assert "estimating" in shown(progress)
    progress.ended(trained, 0.5)
    assert "left" in shown(progress)
