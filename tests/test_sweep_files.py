"""Every file in sweeps/ is valid, says what it is for, and can be planned."""

from pathlib import Path

import pytest

from saeft_ray import sweep
from saeft_ray.plan import Plan
from saeft_ray.sweep import find_facts
from saeft_ray.sweep_file import load

FOLDER = Path(__file__).parent.parent / "sweeps"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_sweep_files():
    assert {"quickstart", "is_the_sae_load_bearing"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_opens_with_its_question_its_command_and_its_cost(file):
    text = file.read_text()
    places = [text.index(f"# {word}:") for word in ("Question", "Command", "Cost")]
    assert places == sorted(places)
    assert f"python -m saeft_ray.sweep sweeps/{file.name}" in text
    assert load(str(file)).name == file.stem


DIGIT_WORLD = [file for file in FILES if "type: digit_world" in file.read_text()]  # others need their data


@pytest.mark.parametrize("file", DIGIT_WORLD, ids=lambda file: file.stem)
def test_it_can_be_planned(file, capsys):
    assert sweep.main([str(file), "--plan"]) == 0
    assert "Nothing was run" in capsys.readouterr().out


def test_the_load_bearing_sweep_compares_like_with_like():
    """Each pair differs in its dictionary alone, with and without the residual term, at one search budget."""
    config = load(str(FOLDER / "is_the_sae_load_bearing.yaml"))
    kinds = {label: method.reads for label, method in config.methods.items() if method.reads}
    assert sorted(kinds.values()) == sorted(["trained", "random", "permuted", "untrained"] * 2)
    assert len(config.report.compare) == 6
    for sae, control in config.report.compare:
        assert (kinds[sae], config.methods[sae].open()) == ("trained", config.methods[control].open())
        settings = [config.methods[label].model_dump(exclude={"type", "dictionary"}) for label in (sae, control)]
        assert settings[0] == settings[1]
        assert (settings[0]["lambda_resid"] == 0) == sae.endswith("_free") == control.endswith("_free")
    plan = Plan(config, find_facts(config))
    assert set(plan.tunable()) == set(kinds)
    assert plan.counts() == {"search": 96, "rerank": 32, "confirm": 73}  # as its header says
    dictionaries = [a.identity["kind"] for a in plan.artifacts() if a.kind == "dictionary"]
    assert len(dictionaries) == 4 * config.confirm.seeds  # one of each kind a seed
