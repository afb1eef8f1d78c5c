"""Every file in sweeps/ is valid, says what it is for, and can be planned."""

import os
from pathlib import Path

import pytest

from saeft_ray import sweep
from saeft_ray.config.sweep_file import load
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan

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


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A machine that has no credentials, and so none of the data at a bucket."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.usefixtures("stranger")
def test_it_can_be_planned_on_a_machine_without_its_data(file, capsys):
    assert sweep.main([str(file), "--plan"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Nothing was run" in said
    assert ("could not see data" in said) == ("s3://" in file.read_text())


COSTS = {  # trainings of search, rerank, of confirm with the least and the most seeds, and of curves, as headers say
    "imagenet": (24, 14, 25, 100, 24),
    "imagenet_b32": (40, 20, 30, 120, 30),
    "iwildcam": (36, 18, 25, 100, 24),
    "siglip2": (24, 14, 20, 80, 18),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTS)
@pytest.mark.usefixtures("stranger")
def test_the_header_counts_as_the_plan_does(name):
    config = load(str(FOLDER / f"{name}.yaml"))
    trainings = dict(Plan(config, find_facts(config, planning=True)).trainings())
    until = config.confirm.until
    search, rerank, least, most, curves = COSTS[name]
    assert trainings == {"search": search, "rerank": rerank, "confirm": most, "curves": curves}
    assert least == most * until.min // until.max
    assert (
        f"{search} + {rerank} + {least} to {most} + {curves} trainings of {config.train.epochs} epochs"
        in (FOLDER / f"{name}.yaml").read_text()
    )


def test_the_load_bearing_sweep_compares_like_with_like():
    """Each pair differs in its dictionary alone, with and without the residual term, at one search budget; permuted,
    which is the trained arm without that term, comes with it alone."""
    config = load(str(FOLDER / "is_the_sae_load_bearing.yaml"))
    kinds = {label: method.dictionary_kind for label, method in config.methods.items() if method.dictionary_kind}
    assert sorted(kinds.values()) == sorted([*["trained", "random", "untrained"] * 2, "permuted"])
    assert len(config.report.compare) == 5
    for sae, control in config.report.compare:
        assert (kinds[sae], config.methods[sae].open_values()) == ("trained", config.methods[control].open_values())
        settings = [config.methods[label].model_dump(exclude={"type", "dictionary"}) for label in (sae, control)]
        assert settings[0] == settings[1]
        assert (settings[0]["lambda_resid"] == 0) == sae.endswith("_free") == control.endswith("_free")
    plan = Plan(config, find_facts(config))
    assert set(plan.tunable()) == set(kinds)
    assert plan.counts() == {"search": 84, "rerank": 28, "confirm": 65, "curves": 105}  # as its header says
    dictionaries = [a.identity["kind"] for a in plan.artifacts() if a.kind == "dictionary"]
    assert len(dictionaries) == 4 * config.confirm.seeds  # one of each kind a seed
