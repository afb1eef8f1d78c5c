"""Images, shards, weights and a foreign SAE on S3: faults that pass leave no trace in the rows, others are named."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from remote import filesystem
from s3_faults import Faulty

from saeft_ray import driver, sae, sweep
from saeft_ray.datasets.digit_world import DigitWorld
from saeft_ray.datasets.digit_world.pretrain import MODELS
from saeft_ray.datasets.images.sharding import shard
from saeft_ray.orchestration import artifacts
from saeft_ray.storage import location
from saeft_ray.storage.retry import Retrying, Waits

import sweeps
from sweeps import Begun, comparable

PARTS = ("images", "shards", "weights", "dictionary")
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}  # as the shipped weights were trained
DICTIONARY = {"width": 64, "k": 8}


def plant(root: Path, split: str, per_class: int) -> str:
    """Some images of a split of digit world as files, one folder a class."""
    world = DigitWorld()
    digits = world.split(split)
    for label, name in enumerate(world.class_names()):
        chosen = np.flatnonzero(digits.labels == label)[:per_class]
        (root / name).mkdir(parents=True)
        for i, picture in zip(chosen, digits.images(chosen), strict=True):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(root / name / f"{i}.png")
    return str(root)


def data(root: object) -> dict[str, object]:
    tests = {
        "photos": {"path": f"{root}/images/photos", "role": "id"},
        "shifted": {"path": f"{root}/shards/shifted", "role": "ood"},
    }
    return {"type": "folder", "train": f"{root}/images/train", "tests": tests, "selection_share": 0.25}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a sweep reads."""
    root = tmp_path_factory.mktemp("remote")
    here = root / "here"
    plant(here / "images" / "train", "train", 8)
    plant(here / "images" / "photos", "ID", 2)
    shard(plant(root / "shifted", "V2", 3), str(here / "shards" / "shifted"), 10_000)
    plan, store, _ = sweeps.opened(
        sweeps.config(root / "first", data=data(here), dictionary={**DICTIONARY, "steps": 100, "batch_size": 64})
    )
    sae.export_saelens(artifacts.dictionary(plan.dictionary("trained", 0), plan, store), here / "dictionary")
    (here / "weights").mkdir()
    (here / "weights" / "clip.safetensors").write_bytes((MODELS / "digit-clip.safetensors").read_bytes())
    return here


@pytest.fixture
def remote(here: Path, s3_url: str) -> str:
    """The same in a bucket."""
    fs, root = filesystem(s3_url)
    for part in PARTS:
        fs.put(str(here / part), f"{root}/{part}", recursive=True)
    return s3_url


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, object]]]:
    """The rows of a sweep that nobody disturbed."""
    known: list[dict[str, object]] = []

    def rows(remote: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
        if not known:
            folder = tmp_path_factory.mktemp("quiet")
            assert run(remote, folder, endpoint, monkeypatch) == 0
            known.extend(rows_in(folder))
        return known

    return rows


def sections(remote: str) -> dict[str, object]:
    return {
        "data": data(remote),
        "model": {"arch": "digit-clip", "pretrained": f"{remote}/weights/clip.safetensors", **HALF},
        "dictionary": {**DICTIONARY, "from": f"{remote}/dictionary"},
        "methods": {"zero_shot": {}, "ft": {}, "sae_ft": {"lambda_add": 300}},
        "train": {**sweeps.SMALL["train"], "batch_size": 32},
        "confirm": {"seeds": 2},
    }  # fmt: skip


def run(remote: str, folder: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """A sweep with storage and a cache of its own below `folder`, whose S3 is at `endpoint`."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(folder / "cache"))
    file = folder / "a.yaml"
    storage = {"url": str(folder / "runs"), "endpoint": endpoint}
    file.write_text(yaml.safe_dump({**sweeps.SMALL, **sections(remote), "storage": storage}))
    return sweep.main([str(file), "--local", "--quiet"])


def rows_in(folder: Path) -> list[dict[str, object]]:
    return comparable(folder / "runs" / "sweeps" / "small")


@pytest.mark.slow
def test_a_sweep_that_reads_all_it_needs_through_faults_ends_with_the_rows_of_a_quiet_one(
    quiet, s3, remote, tmp_path, monkeypatch
):
    wanted = quiet(remote, s3.endpoint, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the sweep file says where S3 is
    with Faulty(s3.endpoint, rate=0.1, first=True) as proxy:
        assert run(remote, tmp_path / "faulty", proxy.endpoint, monkeypatch) == 0
    assert proxy.faults >= 0.08 * sum(proxy.seen.values()), proxy.seen
    assert all(proxy.met["GET", part] for part in PARTS), f"each must have met faults: {proxy.met}"
    assert rows_in(tmp_path / "faulty") == wanted != []


@pytest.fixture(params=["in haste", pytest.param("as in life", marks=pytest.mark.slow)])
def patience(request, monkeypatch):
    if request.param == "in haste":

        def hasty(fs, url, advice, waits):
            return Retrying(fs, url, advice, Waits(2.0, 0.5))

        monkeypatch.setattr(location, "Retrying", hasty)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(
    ("below", "status"),
    [("images", 2), ("images/train/seven", 1), ("shards/shifted/shard", 1), ("weights", 1), ("dictionary", 1)],
    ids=["images", "reads of images", "reads of shards", "weights", "SAE"],
)
def test_a_lasting_refusal_stops_before_the_first_trial_and_names_the_place(
    s3, remote, tmp_path, monkeypatch, capsys, below, status
):
    began = time.monotonic()
    with Faulty(s3.endpoint, rate=1.0, kinds=("AccessDenied",), below=below) as proxy:
        assert run(remote, tmp_path / "refused", proxy.endpoint, monkeypatch) == status
    assert time.monotonic() - began < 60
    said = capsys.readouterr().err
    assert f"{remote}/{below}" in said
    assert ": allow them to list, get, put and delete objects here" in said
    assert "Traceback" not in said
    assert not (tmp_path / "refused" / "runs" / "sweeps").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("patience")
def test_images_that_are_refused_later_stop_a_sweep_which_continues_when_mended(
    quiet, s3, remote, tmp_path, monkeypatch, capsys
):
    wanted = quiet(remote, s3.endpoint, monkeypatch)  # the same process then reads from another server
    with Faulty(s3.endpoint, rate=0.0, kinds=("AccessDenied",), below="/images/train") as proxy:
        began = []

        def refuse():
            proxy.rate = 1.0
            began.append(time.monotonic())

        with monkeypatch.context() as patch:
            patch.setattr(driver, "Quiet", lambda: Begun(refuse))
            assert run(remote, tmp_path / "refused", proxy.endpoint, monkeypatch) == 1
        assert time.monotonic() - began[0] < 60
        said = capsys.readouterr().err
        assert f"{remote}/images/train" in said
        assert "Nothing is lost. Fix this, then run the same command to resume" in said
        proxy.rate = 0.0
        assert run(remote, tmp_path / "refused", proxy.endpoint, monkeypatch) == 0
    assert rows_in(tmp_path / "refused") == wanted
