"""What the documents say can be followed: links lead somewhere, commands exist, sweep files are valid."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from saeft_ray.config.schema import DATASETS
from saeft_ray.config.sweep_file import parse

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("saeft_ray/*/README.md")]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_files_exist(page):
    text = page.read_text()
    for module in re.findall(r"python -m ([a-z_.]+[a-z_])", text):
        assert importlib.util.find_spec(module), module
    for path in re.findall(r"(?:sweeps|benchmarks|tests|saeft_ray)/[\w/]+\.(?:yaml|py|md)", text):
        assert (ROOT / path).exists(), path


def test_the_sweep_file_of_the_readme_is_valid():
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert set(parse(text).methods) == {"zero_shot", "ft", "sae_ft", "random_dictionary"}


def test_every_data_section_in_the_documents_is_valid():
    sections = re.findall(r"```yaml\n(type: .*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL)
    families = {data["type"]: DATASETS[data["type"]].model_validate(data) for data in map(yaml.safe_load, sections)}
    assert set(families) == set(DATASETS) - {"digit_world"}
