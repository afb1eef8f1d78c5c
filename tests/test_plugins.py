"""Methods and data sets of other packages: found through entry points, recorded, reported like ours, and named when
they are broken, ambiguous or gone."""

import doctest
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_methods import dictionary, features, total

from saeft_ray import datasets, methods
from saeft_ray.config import registry
from saeft_ray.methods import Method
from saeft_ray.records.read import read_record

import sweeps

ROOT = Path(__file__).parents[1]
SOURCE = '''
from typing import ClassVar, Literal

from saeft_ray.datasets.digit_world import DigitWorld
from saeft_ray.methods import NOTHING, DictionaryKind, EmbeddingPenalty
from saeft_ray.settings import Tunable


class Cubic(EmbeddingPenalty):
    """lambda_cubic · mean of |s - s0|³ of the codes."""

    type: Literal["cubic"] = "cubic"
    dictionary: DictionaryKind = "trained"
    lambda_cubic: Tunable

    def penalty(self, f, f0, dictionary, constants=NOTHING):
        s, s0 = (dictionary.encode(dictionary.read(x)).codes for x in (f, f0))
        return {"cubic": self.weights["cubic"] * (s - s0).abs().pow(3).mean()}


class FewDigits(DigitWorld):
    """Digit world with two test sets."""

    type: Literal["few_digits"] = "few_digits"

    def test_sets(self):
        return {"ID": "id", "V2": "ood"}

    def sizes(self):
        return {name: size for name, size in super().sizes().items() if name in ("train", "selection", "ID", "V2")}
'''


def install(folder: Path, name: str, source: str, points: str) -> Path:
    """What pip would write of a package with one module and these entry points."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(points)
    return folder


def run(module, *arguments, path=(), **more):
    paths = os.pathsep.join(map(str, (*path, ROOT)))
    command = [sys.executable, "-m", f"saeft_ray.{module}", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=500, **more)


POINTS = "[saeft_ray.methods]\ncubic = their_methods:Cubic\n[saeft_ray.datasets]\ndigits = their_methods\n"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of their method with two dictionaries on their data set, beside ours; (packages, sweep file, storage)."""
    folder = tmp_path_factory.mktemp("plugin")
    packages = install(folder / "site", "their_methods", SOURCE, POINTS)
    file = sweeps.file(
        folder / "sweep.yaml",
        folder / "runs",
        data={"type": "few_digits"},
        methods={
            "ft": {},
            "cubic": {"lambda_cubic": 100},
            "cubic_random": {"type": "cubic", "dictionary": "random", "lambda_cubic": 100},
            "sae_l1": {"lambda_l1": 10},
            "sae_l1_random": {"type": "sae_l1", "dictionary": "random", "lambda_l1": 10},
        },
        confirm={"seeds": 3},
    )
    done = run("sweep", file, "--local", path=[packages])
    assert done.returncode == 0, done.stderr
    return packages, file, folder / "runs" / "sweeps" / "small"


@pytest.mark.slow
def test_the_record_says_who_brought_what(swept):
    record = read_record(str(swept[2]))
    found = record["methods"]
    assert found["cubic_random"] == {
        "about": "",
        "dictionary": "random",
        "derived_from": None,
        "family": "penalty",
        "penalty": "cubic",
        "trains": True,
        "distribution": "their_methods",
        "version": "1.5",
        "entry_point": "cubic = their_methods:Cubic",
    }
    assert found["sae_l1"]["distribution"] == "saeft_ray"
    assert record["dataset"]["entry_point"] == "digits = their_methods"
    assert record["versions"]["their_methods"] == "1.5"


@pytest.mark.slow
def test_the_report_asks_the_same_of_theirs_as_of_ours_and_needs_no_plugin(swept):
    done = run("report", swept[2])
    assert done.returncode == 0, done.stderr
    (path,) = swept[2].rglob("report.json")
    report = json.loads(path.read_text())
    asked = {(c["comparison"]["method"], c["comparison"]["against"]) for c in report["load_bearing"]}
    assert asked == {("cubic", "cubic_random"), ("sae_l1", "sae_l1_random")}
    assert {m["name"]: m["type"] for m in report["methods"]}["cubic_random"] == "cubic"
    facts = {fact["name"]: fact["value"] for fact in report["provenance"]}
    assert "cubic (their_methods 1.5)" in facts["from other packages"]


@pytest.mark.slow
def test_a_resumed_sweep_and_a_replay_name_the_distribution_that_is_gone(swept):
    packages, file, storage = swept
    again = run("sweep", file, "--local", "--quiet", path=[packages])
    assert again.returncode == 0, again.stderr
    trial = next(path.name for path in (storage / "trials").iterdir() if path.name.startswith("confirm-cubic-"))
    replayed = run("trial", storage, trial, path=[packages])
    assert "rows equal the recorded ones" in replayed.stdout, replayed.stderr
    for gone in (run("sweep", file, "--local"), run("trial", storage, trial)):
        assert gone.returncode == 2
        assert "type 'cubic' came from their_methods 1.5, entry point cubic = their_methods:Cubic" in gone.stderr
        assert "install it and run this again" in gone.stderr
        assert "Traceback" not in gone.stderr


def test_one_broken_package_stops_only_the_sweeps_that_use_it(tmp_path):
    broken = install(tmp_path / "a", "broken", "import not_there", "[saeft_ray.methods]\nodd = broken:Odd\n")
    file = sweeps.file(tmp_path / "ours.yaml", tmp_path / "runs", methods={"ft": {}})
    done = run("sweep", file, "--plan", path=[broken])
    assert done.returncode == 0, done.stderr
    warned = "broken 1.5, entry point odd = broken:Odd of saeft_ray.methods cannot be imported"
    assert warned in done.stderr
    file = sweeps.file(tmp_path / "theirs.yaml", tmp_path / "runs", methods={"ft": {}, "odd": {}})
    used = run("sweep", file, "--plan", path=[broken])
    assert used.returncode == 2
    assert "unknown type 'odd'" in used.stderr
    assert used.stderr.count(warned) == 2, "once as a warning, once as the reason"


@pytest.mark.parametrize("name", ["mse", "cubic"])
def test_two_classes_of_one_name_are_both_named(tmp_path, name):
    packages = []
    for package in ("one", "two") if name == "cubic" else ("one",):
        source = SOURCE.replace('"cubic"', f'"{name}"')
        packages.append(
            install(tmp_path / package, package, source, f"[saeft_ray.methods]\n{name} = {package}:Cubic\n")
        )
    lambdas = {"lambda_mse" if name == "mse" else "lambda_cubic": 1}
    file = sweeps.file(tmp_path / "s.yaml", tmp_path / "runs", methods={"ft": {}, name: lambdas})
    used = run("sweep", file, "--plan", path=packages)
    assert used.returncode == 2
    other = "saeft_ray 0.1.0" if name == "mse" else "one 1.5, entry point cubic = one:Cubic"
    assert f"type {name!r} is brought by both {other} and " in used.stderr
    file = sweeps.file(tmp_path / "s.yaml", tmp_path / "runs", methods={"ft": {}})
    assert run("sweep", file, "--plan", path=packages).returncode == 0


def test_an_entry_point_that_names_nothing_of_use_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(install(tmp_path, "empty_one", "x = 1", "[saeft_ray.methods]\ne = empty_one\n"))
    found = registry.discover(methods, Method, "saeft_ray.methods")
    assert "names no Method with a type" in found.missing("e")
    assert "ft" in found


@pytest.mark.parametrize("module", [methods, datasets])
def test_examples_in_docstrings_run(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_the_method_of_the_readme_keeps_the_contract(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.*?class Huber.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "huber_of_readme.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    method = importlib.import_module("huber_of_readme").Huber(lambda_huber=2.0)
    import test_methods

    contract = test_methods.TestEveryFeaturePenalty()
    for name in dir(contract):
        if name.startswith("test_"):
            arguments = {"b": 4} if "finite" in name else {}
            getattr(contract, name)(method, **arguments)
    f, f0 = features(3, 6, 0)
    assert float(total(method, f, f0, dictionary(6))) > 0


def test_the_entry_points_of_the_readme_are_toml():
    import tomllib

    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert set(tomllib.loads(text)["project"]["entry-points"]) == {"saeft_ray.methods", "saeft_ray.datasets"}
