"""A few inputs of every kind of the fuzzer (benchmarks/fuzz), which `python -m benchmarks.fuzz` tries by thousands."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

KINDS = ("sweep_files", "tables", "folders", "keys", "pictures", "saes", "weights")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_answered_rightly_or_refused_in_words(kind, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1]), *sys.path])
    fuzzer = import_module("benchmarks.fuzz.__main__")
    assert set(KINDS) == set(fuzzer.KINDS)
    assert fuzzer.fuzz(kind, seed=1, indices=range(60)) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert " 0 right" not in told
    assert " 0 refused" not in told


def test_a_wrong_answer_is_a_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1]), *sys.path])
    fuzzer = import_module("benchmarks.fuzz.__main__")
    Input, Wrong = (getattr(import_module("benchmarks.fuzz.input"), name) for name in ("Input", "Wrong"))

    def wrong(_):
        raise Wrong("3 of 4")

    assert fuzzer.outcome(Input("x", lambda: 3, wrong)) == ("fault", "x: Wrong: 3 of 4")
    assert fuzzer.outcome(Input("x", lambda: {}["a"]))[0] == "fault"
    assert fuzzer.outcome(Input("x", lambda: 3)) == ("right", "3")
