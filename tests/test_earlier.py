"""A report tells which earlier sweeps of its storage opened the same test sets with the same seeds."""

import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from test_folder import plant

from saeft_ray.datasets.folder import Folder
from saeft_ray.errors import UserError
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import record_of, reopen
from saeft_ray.orchestration.show_plan import show
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.preregistration import preregistration
from saeft_ray.records.read import read_record
from saeft_ray.report import report_sweep
from saeft_ray.storage.store import Store

import sweeps

METHODS = {"zero_shot": {}, "ft": {}, "wise": {"type": "wise_ft", "of": "ft", "alpha": 0.5}}
CHANGED = {**METHODS, "wise": {"type": "wise_ft", "of": "ft", "alpha": 0.7}}


def begun(storage, name, methods, draw=0):
    """A sweep at the beginning of its confirm phase: the plan, and what its report warns of and calls exploratory."""
    plan, _, ledger = sweeps.opened(
        sweeps.config(storage, name=name, methods=methods, confirm={"seeds": 2, "draw": draw})
    )
    ledger.preregister(preregistration(ledger.record()))
    found = report_sweep(ledger.url).report
    return plan, [w.text for w in found.warnings if w.rule == "opened before"], " ".join(found.exploratory)


def test_a_second_look_at_the_same_seeds_and_test_sets_is_told(tmp_path):
    assert begun(tmp_path, "first", METHODS)[1:] == ([], "")
    plan, (warned,), exploratory = begun(tmp_path, "looked", CHANGED)
    assert "by the sweep first: what was chosen after a look" in warned
    assert "by the sweep first, whose settings were others" in exploratory
    _, (warned,), exploratory = begun(tmp_path, "again", CHANGED)
    assert "by the sweeps first, looked: what" in warned
    assert "by the sweep first, whose settings were others" in exploratory  # nothing was changed since the other
    assert begun(tmp_path, "fresh", CHANGED, draw=1)[1:] == ([], "")
    seeds = [set(read_record(f"{tmp_path}/sweeps/{name}")["confirm_seeds"]) for name in ("first", "again", "fresh")]
    assert seeds[0] == seeds[1]
    assert not seeds[0] & seeds[2]

    console = Console(record=True, width=200)
    show(plan, console)
    assert "by the sweeps again, first; confirm: {draw: 1} gives others." in console.export_text()


def test_test_sets_are_known_by_their_images_whatever_else_changes(tmp_path):
    classes = {"one": 8, "two": 8}
    trees = {name: plant(tmp_path / name, classes, seed) for name, seed in (("train", 0), ("photos", 1000))}

    def data(name, **settings):
        tests = {name: {"path": trees["photos"], "role": "ood"}}
        return {"type": "folder", "train": trees["train"], "tests": tests, **settings}

    def warned(name, data):
        _, _, ledger = sweeps.opened(sweeps.config(tmp_path / "runs", name=name, methods={"ft": {}}, data=data))
        ledger.preregister(preregistration(ledger.record()))
        return [w.text for w in report_sweep(ledger.url).report.warnings if w.rule == "opened before"]

    assert warned("first", data("photos")) == []
    assert "the sweep first" in warned("share", data("photos", selection_share=0.4))[0]
    assert "the sweeps first, share" in warned("renamed", data("pictures"))[0]
    shutil.rmtree(tmp_path / "photos")
    plant(tmp_path / "photos", classes, 2000)
    assert warned("others", data("photos")) == []


def test_what_was_noted_first_stays(tmp_path):
    begun(tmp_path, "first", METHODS)
    begun(tmp_path, "second", CHANGED)
    assert begun(tmp_path, "first", METHODS)[1:] == ([], "")


def test_a_storage_and_a_sweep_that_was_moved_are_told_apart(tmp_path):
    _, _, ledger = sweeps.opened(sweeps.config(tmp_path, name="one"))
    with pytest.raises(UserError, match=r"is a storage with the sweeps one; give one: .*/sweeps/one"):
        read_record(str(tmp_path))
    moved = shutil.copytree(ledger.url, tmp_path / "moved")
    assert read_record(str(moved))["name"] == "one"
    with pytest.raises(UserError, match=r"holds a sweep\.json, but its models are found from"):
        reopen(str(moved))
    with pytest.raises(UserError, match=r"no sweep at .*/none: it has no sweep\.json"):
        reopen(str(tmp_path / "none"))


def test_other_images_under_the_names_and_sizes_of_another_sweep_are_refused(tmp_path):
    trees = {"train": tmp_path / "train", "photos": tmp_path / "photos"}
    for number, each in enumerate(trees.values()):
        for label, name in enumerate(("one", "two")):
            (each / name).mkdir(parents=True)
            for i in range(200):
                Image.new("RGB", (8, 8), (i, 40 * label, 90 * number)).save(each / name / f"{i:03d}.bmp")
    data = {
        "type": "folder",
        "train": str(trees["train"]),
        "tests": {"photos": {"path": str(trees["photos"]), "role": "ood"}},
    }
    methods = {"ft": {}}
    sweeps.opened(sweeps.config(tmp_path / "runs", name="first", methods=methods, data=data))
    sweeps.opened(sweeps.config(tmp_path / "runs", name="same", methods=methods, data=data))
    before = Folder.model_validate({k: v for k, v in data.items() if k != "type"}).fingerprint()
    seen = set(np.unique(np.linspace(0, 399, 256).astype(int)).tolist())  # whose content the fingerprint knows
    for i in sorted(set(range(400)) - seen):
        Image.new("RGB", (8, 8), (255, 255, i % 200)).save(
            trees["train"] / ("one", "two")[i // 200] / f"{i % 200:03d}.bmp"
        )
    assert Folder.model_validate({k: v for k, v in data.items() if k != "type"}).fingerprint() == before
    with pytest.raises(UserError, match=r"have the names and sizes of those that the sweep first .* rm first"):
        sweeps.opened(sweeps.config(tmp_path / "runs", name="other", methods=methods, data=data))
    sweeps.opened(sweeps.config(tmp_path / "elsewhere", name="other", methods=methods, data=data))


def test_a_sweep_from_before_the_data_had_a_diagnostic_set_goes_on(tmp_path):
    """Its record stays as it was, and so does what its confirm phase tests."""
    config = sweeps.config(tmp_path, methods=METHODS)
    plan = Plan(config, find_facts(config))
    record = record_of(plan, None)
    old = {**record, "data": {**record["data"]}}
    for key in ("sizes", "roles", "tests"):
        old["data"][key] = {name: value for name, value in old["data"][key].items() if name != "ID0"}
        assert len(old["data"][key]) == len(record["data"][key]) - 1
    ledger = Ledger(Store(config.storage.url), config.name)
    assert ledger.register(old) == old
    assert preregistration(ledger.register(record)) == preregistration(old) == preregistration(record)
    assert ledger.record()["data"] == old["data"]
