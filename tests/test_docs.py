"""What the documents say can be followed: links lead somewhere, commands exist, sweep files are valid."""

import importlib.util
import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import saeft_ray
from saeft_ray.config.schema import DATASETS
from saeft_ray.config.sweep_file import parse

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("saeft_ray/*/README.md"),
    ]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_find_them(page):
    for name, anchor in re.findall(r"\]\(([\w./-]*)#([^)]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.+)$", (page.parent / name if name else page).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


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


def _cited():
    """(file, page, section) of every citation such as `docs/statistics.md 4.9` in code."""
    for folder in ("saeft_ray", "tests", "benchmarks", ".ci"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in {".py", ".html", ".js", ".toml"}:
                for page, section in re.findall(r"(docs/\w+\.md) (\d+(?:\.\d+)*)", file.read_text()):
                    yield f"{file.relative_to(ROOT)}: {page} {section}", page, section


def _sections(page):
    """The numbers of a page's headings, numbered formulas and items."""
    return set(re.findall(r"^(?:#+ |- \*\*)(\d+(?:\.\d+)*)\.?[ *]", (ROOT / page).read_text(), re.MULTILINE))


def test_every_cited_section_exists():
    cited = list(_cited())
    known = {page: _sections(page) for _, page, _ in cited}
    assert [where for where, page, section in cited if section not in known[page]] == []
    assert {page for _, page, _ in cited} == {f"docs/{p}.md" for p in ("architecture", "methods", "ray", "statistics")}


def test_code_cites_no_document_outside_the_repository():
    for file in [
        *(ROOT / "saeft_ray").rglob("*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "tests").glob("*.py"),
    ]:
        found = re.findall(
            r"\b(?:STATISTICS|DESIGN|METHODS|RAY|EXAMPLES|FAULTS)(?:\.md|,? [\dD]|, contract)", file.read_text()
        )
        assert not found or file.name == "test_docs.py", (file, found)


def test_files_that_code_names_exist():
    for file in [*(ROOT / "saeft_ray").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        prose = [line for line in file.read_text().splitlines() if "import" not in line]
        for name in re.findall(r"(?<![\w.*])((?:[a-z_]+/)*[a-z_]+\.py)\b", "\n".join(prose)):
            beside = [file.parent, ROOT, ROOT / "saeft_ray", ROOT / "tests", ROOT / "benchmarks"]
            assert any((folder / name).exists() for folder in beside), f"{file}: {name}"


def test_the_tables_of_moved_md_name_files_that_exist():
    tables = (ROOT / "docs" / "moved.md").read_text().partition("## Words")[0]
    for _, new in re.findall(r"^\| (.+?) \| ([^|]+) \|$", tables, re.MULTILINE):
        for path in re.findall(r"[\w/]+\.(?:py|md|html|js)", new):
            assert (ROOT / "saeft_ray" / path).exists(), path


def test_tools_are_pinned_to_versions_that_the_project_allows():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    allowed = {r.name: r.specifier for r in map(Requirement, chain(*extras.values())) if r.name != "saeft_ray"}
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / ".ci" / "pins.txt").read_text(), re.MULTILINE))
    assert pins.keys() == allowed.keys()
    for name, version in pins.items():
        assert version in allowed[name], name


def test_ray_is_bounded_to_the_version_that_was_tried():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ray,) = [Requirement(line) for line in project["dependencies"] if line.startswith("ray[")]
    (pin,) = re.findall(r"^ray==(\S+)$", (ROOT / "cluster" / "pins.txt").read_text(), re.MULTILINE)
    assert ray.specifier.contains(pin)
    assert not ray.specifier.contains("2.61.0")


def test_the_version_is_written_once():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert saeft_ray.__version__ == version
