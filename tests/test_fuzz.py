"""A few inputs of every kind of the fuzzer (benchmarks/fuzz), which `python -m benchmarks.fuzz` tries by thousands."""

import pytest

from benchmarks.fuzz import __main__ as fuzzer
from benchmarks.fuzz.input import Input, Wrong


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", fuzzer.KINDS)
def test_inputs_are_answered_rightly_or_refused_in_words(kind, capsys):
    assert fuzzer.fuzz(kind, seed=1, indices=range(60)) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert " 0 right" not in told
    assert " 0 refused" not in told


def test_a_wrong_answer_is_a_fault():
    def wrong(_):
        raise Wrong("3 of 4")

    assert fuzzer.outcome(Input("x", lambda: 3, wrong)) == ("fault", "x: Wrong: 3 of 4")
    assert fuzzer.outcome(Input("x", lambda: {}["a"]))[0] == "fault"
    assert fuzzer.outcome(Input("x", lambda: 3)) == ("right", "3")
