"""Faults of image data that people meet: each is right, refused in one line with its place, or told."""

import os
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from saeft_ray import sweep
from saeft_ray.datasets.folder import Folder
from saeft_ray.datasets.images import duplicates
from saeft_ray.datasets.images.cache import Cache
from saeft_ray.datasets.images.decode import SLOTS, check, part, whole
from saeft_ray.errors import Corrupt, Unfinished, UserError
from saeft_ray.model import encoder
from saeft_ray.orchestration.facts import _plainly_different, find_facts
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.trial_context import TrialContext
from saeft_ray.records.earlier import replaced
from saeft_ray.records.read import read_rows
from saeft_ray.settings import Model
from saeft_ray.storage.store import Store

import sweeps

CLASSES = ("one", "two")


def picture(seed: int, size: int = 28) -> Image.Image:
    corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
    return Image.fromarray(corners).resize((size, size), Image.Resampling.BICUBIC)


def plant(root: Path, count: int = 3, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Path:
    for position, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(seed + 100 * position + i).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Folder:
    tests = {"photos": {"path": str(plant(tmp_path / "photos", seed=5000)), "role": "id"}}
    return Folder.model_validate({"type": "folder", "train": str(plant(tmp_path / "train")), "tests": tests})


def changed(data: Folder, **settings: Any) -> Folder:
    return Folder.model_validate(data.model_dump() | settings)


def told(data: Folder, **settings: Any) -> str:
    return "\n".join(changed(data, **settings).problems())


def noted(data: Folder) -> str:
    assert changed(data).problems() == []
    return "\n".join(changed(data).notes())


# A6: test images that are training images --------------------------------------------------------------------------


def test_a_copied_test_set_is_refused_and_some_copies_are_counted(data: Folder, tmp_path: Path) -> None:
    assert noted(data) == ""
    copied = Path(data.tests["photos"].path, "one", "copied.png")
    copied.write_bytes(Path(data.train, "two", "1.png").read_bytes())
    before = data.model_dump()
    words = f"data.tests.photos.path: 1 of 7 images are images of train too, such as {copied}"
    held = changed(data, selection=str(plant(tmp_path / "held", seed=9000)))
    assert noted(held) == words
    assert told(held, duplicates="refuse") == f"{words}; every split needs images of its own"
    assert "duplicates" not in before, "a sweep's identity does not depend on it"
    plant(tmp_path / "again")
    same = {"again": {"path": str(tmp_path / "again"), "role": "ood"}}
    assert "data.tests.again.path: 6 of 6 images are images of train too" in told(held, tests=same)


def test_copies_in_shards_are_found_and_what_was_not_compared_is_said(
    data: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert door_shard(Path(data.train), tmp_path / "shards") == 0
    same = {"again": {"path": str(tmp_path / "shards"), "role": "ood"}}
    assert "data.tests.again.path: 2 of 6 images are images of selection too" in "\n".join(
        changed(data, tests=same).notes()
    )
    monkeypatch.setattr(duplicates, "_LOOKS", 3)
    assert "files of equal size were not compared" in "\n".join(changed(data, tests=same).notes())


def door_shard(source: Path, destination: Path) -> int:
    from saeft_ray import data as shards

    return shards.main(["shard", str(source), str(destination)])


def test_one_place_by_two_spellings_and_a_place_inside_another(data: Folder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data.train)
    for spelled in (f"{data.train}/", f"{data.train}/../train", str(tmp_path / "link"), f"file://{data.train}"):
        words = told(data, tests={"again": {"path": spelled, "role": "id"}})
        assert "is also data.train; every split needs images of its own" in words
    inside = {"inside": {"path": str(plant(Path(data.train, "one", "test"))), "role": "id"}}
    assert "data.tests.inside.path: " in told(data, tests=inside)
    assert "lies inside data.train; every split needs images of its own" in told(data, tests=inside)


def test_one_bucket_by_two_schemes() -> None:
    from saeft_ray.datasets.images.places import overlaps

    places = {"data.train": "s3://b/x/", "data.tests.a.path": "s3a://b/x", "data.tests.b.path": "s3a://b/x/one"}
    assert [words.partition(";")[0] for words in overlaps(places)] == [
        "data.tests.a.path: s3a://b/x is also data.train",
        "data.tests.b.path: s3a://b/x/one lies inside data.train",
        "data.tests.b.path: s3a://b/x/one lies inside data.tests.a.path",
    ]


# A9: listings -------------------------------------------------------------------------------------------------------


def test_links_are_followed_and_what_leads_nowhere_is_told(data: Folder, tmp_path: Path) -> None:
    plant(tmp_path / "elsewhere", classes=("three",), seed=700)
    Path(data.train, "three").symlink_to(tmp_path / "elsewhere" / "three")
    Path(data.train, "one", "more.png").symlink_to(tmp_path / "elsewhere" / "three" / "0.png")
    assert changed(data).class_names() == ["one", "three", "two"]
    assert changed(data).sizes()["train"] + changed(data).sizes()["selection"] == 10
    Path(data.train, "one", "round").symlink_to(data.train)
    Path(data.train, "one", "self").symlink_to(Path(data.train, "one"))
    assert "2 link back to a folder above" in noted(data)
    Path(data.train, "one", "lost.png").symlink_to(tmp_path / "nowhere.png")
    Path(data.train, "four").symlink_to(tmp_path / "nowhere")
    Path(data.train, "itself").symlink_to(Path(data.train, "itself"))
    assert "data.train: " in told(data)
    assert "has links that lead to nothing ('four', 'itself', 'one/lost.png'); restore or remove them" in told(data)
    Path(data.train, "five").symlink_to(Path(data.train, "two"))
    assert "the class folders 'five', 'two' are one folder" in told(data)


def test_archives_beside_class_folders_are_refused(data: Folder) -> None:
    with tarfile.open(Path(data.train, "backup.tar"), "w") as tar:
        tar.add(Path(data.train, "one", "0.png"), "one/0.png")
    assert "has archives ('backup.tar') and class folders ('one', 'two'); move one of them elsewhere" in told(data)


def test_what_is_passed_over_is_counted_and_what_systems_leave_is_not(data: Folder) -> None:
    one = Path(data.train, "one")
    for name in ("@eaDir", "__MACOSX", ".thumbs"):
        for folder in (one, Path(data.train)):
            (folder / name).mkdir()
            picture(1).save(folder / name / "x.png")
    for name in (".DS_Store", "Thumbs.db", "._0.png", "desktop.ini"):
        (one / name).write_bytes(b"x")
    assert noted(data) == ""
    for name in ("notes.txt", "more.TXT", "LICENSE", "old.zip"):
        (one / name).write_bytes(b"x")
    picture(2).save(Path(data.train, "stray.png"))
    os.mkfifo(one / "pipe.png")
    assert noted(data) == (
        f"data.train: {data.train}: passed over 1 .png outside the class folders, 2 .txt, 1 .zip, 1 special file, "
        "1 without a suffix"
    )
    assert find_facts(sweeps.config("memory://x", data=changed(data).model_dump())).notes == (noted(data),)
    (one / "phone.HEIC").write_bytes(b"x")
    assert "has 1 pictures of types that cannot be read (.heic: 'one/phone.HEIC'); convert or remove them" in told(data)


def test_every_suffix_that_pillow_reads(data: Folder) -> None:
    one = Path(data.train, "one")
    for suffix, form in (("jfif", "JPEG"), ("jp2", "JPEG2000"), ("tga", "TGA"), ("gif", "GIF"), ("pbm", "PPM")):
        picture(len(suffix)).save(one / f"x.{suffix}", form)
    assert noted(data) == ""
    data, found = changed(data), set[str]()
    for split in (data.split("train", 28), data.split("selection", 28)):
        found |= {Path(name).suffix for name in split.names}
        split.images(np.arange(len(split.labels)))
    assert found == {".jfif", ".jp2", ".tga", ".gif", ".pbm", ".png"}


# A10, A11, C2: classes and splits -----------------------------------------------------------------------------------


def test_classes_with_one_word(data: Folder, tmp_path: Path) -> None:
    assert "data.classes: 'one' ('Cat'), 'two' ('cat ') cannot be told apart by their words" in told(
        data, classes={"one": "Cat", "two": "cat "}
    )
    assert "data.classes: 'one' have no words" in told(data, classes={"one": " ", "two": "cat"})
    spelled = str(plant(tmp_path / "spelled", classes=("a b", "a_b", "Cat", "cat", "dog")))
    words = told(
        data, train=spelled, tests={"dogs": {"path": str(plant(tmp_path / "d", 2, 9, ("dog",))), "role": "id"}}
    )
    assert words.count("cannot be told apart") == 2


def test_one_class_or_the_folders_of_splits(tmp_path: Path) -> None:
    plant(tmp_path / "photos" / "train")
    plant(tmp_path / "other" / "test", seed=5000)
    data = Folder.model_validate(
        {"train": str(tmp_path / "photos"), "tests": {"x": {"path": str(tmp_path / "other"), "role": "id"}}}
    )
    assert f"data.train: {tmp_path}/photos has one class folder, 'train', and there is nothing to tell it from" in told(
        data
    )
    assert f"such as {tmp_path}/photos/train, which holds 'one', 'two'" in told(data)
    plant(tmp_path / "photos" / "val", seed=300)
    assert "has folders of splits ('train', 'val'), not of classes" in told(data)


def test_an_empty_selection_is_told_before(tmp_path: Path) -> None:
    train = plant(tmp_path / "train", 1, classes=("one", "two", "three"))
    tests = {"x": {"path": str(plant(tmp_path / "x", seed=5000)), "role": "id"}}
    words = told(Folder.model_validate({"train": str(train), "tests": tests}))
    assert words.startswith("data.selection_share: each class of")
    assert "has one image, so none can be held out" in words


def test_words_that_the_model_has_not_are_told_by_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = plant(tmp_path / "train", classes=("one", "heron"))
    tests = {"x": {"path": str(plant(tmp_path / "x", seed=5000, classes=("one", "heron"))), "role": "id"}}
    section = {
        "type": "folder",
        "train": str(train),
        "tests": tests,
        "templates": ["a photo of a {}.", "a doodle of a {}"],
    }
    file = sweeps.file(tmp_path / "s.yaml", tmp_path / "runs", data=section)
    assert sweep.main([file, "--plan"]) == 2
    said = capsys.readouterr().err
    assert "data.classes: digit-clip has no word 'heron'; its words are " in said
    assert "data.templates: digit-clip has no word 'doodle'; its words are " in said
    assert "zero one two three" in said
    assert "`classes: {folder: word}`" in said
    assert not (tmp_path / "runs").exists()
    assert sweep.main([str(tmp_path / "no.yaml"), "--plan"]) == 2
    assert "no.yaml: does not exist" in capsys.readouterr().err


# A12: WebDataset ----------------------------------------------------------------------------------------------------


def png(seed: int) -> bytes:
    buffer = BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def archive(folder: Path, members: list[tuple[str, bytes]]) -> Folder:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return Folder.model_validate({"train": str(folder), "tests": {}, "selection": str(folder)})


def test_keys_by_the_standards_rule(tmp_path: Path) -> None:
    right = archive(
        tmp_path / "right",
        [
            ("a.png", png(0)),
            ("a.cls", b"3\n"),
            ("b.cls", b"07"),
            ("b.seg.png", png(9)),
            ("b.png", png(1)),
            ("b.json", b""),
            ("x.y/c.png", png(2)),
            ("x.y/c.cls", b"3"),
            ("d.cls", b"1"),
            ("__MACOSX/._a.png", b"x"),
            ("a.txt", b"x"),
        ],
    )
    split = right.split("train", 28)
    assert split.names == ["3/a.png", "3/c.png", "7/b.png"]
    assert next(right._tree(right.train).notes()).endswith(
        "passed over 1 .json, 1 .png, 1 .txt, 1 sample without an image"
    )
    folders = archive(tmp_path / "folders", [("cat/a.0.png", png(0)), ("cat/a.1.png", png(1)), ("dog/a.0.png", png(2))])
    assert folders.split("train", 28).labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            [("img.0.png", png(0)), ("img.0.cls", b"0"), ("img.1.png", png(1)), ("img.1.cls", b"1")],
            "img.0.cls and img.1.cls are two labels of one sample, 'img'",
        ),
        ([("a.png", png(0)), ("a.jpg", png(1)), ("a.cls", b"0")], "a.png and a.jpg are two images of one sample"),
        ([("a.png", png(0)), ("a.png", png(1)), ("a.cls", b"0")], "a.png and a.png are two images of one sample"),
        ([("c/a.png", png(0)), ("c/a.png", png(1))], "c/a.png is there 2 times"),
        ([("a.png", png(0)), ("a.cls", b"cat")], "a.cls holds 'cat', which is not the number of a class"),
        ([("a.png", png(0)), ("a.cls", b"-1")], "a.cls holds '-1'"),
        ([("a.png", png(0)), ("a.cls", b"")], "a.cls holds ''"),
        ([("a.png", png(0)), ("a.cls", b"0"), ("c/b.png", png(1))], "c/b.png has no .cls, and other images"),
        ([("a.png", png(0))], "a.png has neither a folder nor a .cls"),
        ([("c/a.heic", b"x"), ("c/a.png", png(0))], "c/a.heic is a picture of a type that cannot be read"),
        ([("a.cls", b"0")], "its tars hold no image"),
    ],
)
def test_keys_that_are_not_plain(tmp_path: Path, members: list[tuple[str, bytes]], words: str) -> None:
    (problem,) = {line.partition(": ")[2] for line in archive(tmp_path / "tars", members).problems() if "tars" in line}
    assert words in problem


def test_a_tar_that_ends_too_soon_or_goes_on(tmp_path: Path) -> None:
    data = archive(tmp_path / "tars", [("c/a.png", png(0)), ("d/b.png", png(1))])
    tar = tmp_path / "tars" / "0.tar"
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        second = opened.getmembers()[1].offset
    broken = bytearray(whole)
    broken[second + 150] ^= 1
    for content in (whole[:second], whole + whole, bytes(broken)):
        tar.write_bytes(content)
        assert f"{tar}: is cut off or no tar" in told(data)
    tar.write_bytes(whole)
    with tarfile.open(tar, "a") as opened:
        link = tarfile.TarInfo("c/link.png")
        link.type, link.linkname = tarfile.LNKTYPE, "c/a.png"
        opened.addfile(link)
    assert "c/link.png is a link or has holes" in told(data)


# A13: pixels --------------------------------------------------------------------------------------------------------


def saved(pixels: Any, form: str = "TIFF", mode: str | None = None) -> bytes:
    buffer = BytesIO()
    (Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)).save(buffer, form)
    return buffer.getvalue()


def test_pixels_of_unknown_range_or_that_would_be_black_are_refused_by_name() -> None:
    draw = np.random.default_rng(0)
    grey = draw.integers(0, 256, (20, 20))
    clear = np.zeros((20, 20, 4), np.uint8)
    clear[..., 3] = grey
    deep = b"P6 20 20 65535\n" + np.repeat(grey[..., None], 3, 2).astype(">u2").tobytes()
    refused = {
        "float": saved((grey / 255).astype(np.float32)),
        "int32": saved(grey.astype(np.int32)),
        "dark16": saved(grey.astype(np.uint16)),
        "twelve": saved((grey * 16).astype(np.uint16), "PNG"),
        "silhouette": saved(clear, "PNG"),
        "silhouette-grey": saved(clear, "PNG", "LA"),
        "dark-colours": deep,
        "thirteen": saved((grey * 32).astype(np.uint16), "PNG"),
        "mask": saved((grey > 99).astype(np.uint8), "PNG"),
        "mask-colours": saved(np.repeat((grey > 99).astype(np.uint8)[..., None], 3, 2), "BMP"),
        "silhouette-smooth": saved(clear + np.array([0, 0, 1, 0], np.uint8) * (grey > 99)[..., None], "PNG"),
    }
    for name, content in refused.items():
        for read in (
            lambda c, n: whole(c, n, 8),
            lambda c, n: part(c, n, 8, (0.5, 1), np.full(SLOTS, 0.5, np.float32)),
        ):
            with pytest.raises(Corrupt, match=f"^{name}: cannot be read as an image"):
                read(content, name)
    for name in ("float", "int32"):
        with pytest.raises(Corrupt, match="pixels have no known range"):
            check(refused[name], name)
    honest = {
        "bits": saved(grey > 99, "PNG"),
        "night": saved((grey % 3).astype(np.uint8), "PNG"),
        "black": saved(np.zeros((20, 20), np.uint8), "PNG"),
        "lens cap": saved(np.repeat(np.repeat((grey[:2, :2] % 2).astype(np.uint8), 8, 0), 8, 1), "JPEG"),
        "dark": saved((grey * 40).astype(np.uint16), "PNG"),
    }
    for name, content in honest.items():
        whole(content, name, 8)
    right = whole(saved((grey * 257).astype(np.uint16)), "right", 20)
    assert np.abs(right.astype(int) - grey[..., None]).max() == 0


def test_a_container_that_would_start_a_program_is_no_image_whatever_its_name(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import EpsImagePlugin

    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **more: started.append(given))
    script = saved(np.zeros((4, 4, 3), np.uint8), "EPS")
    Path(data.train, "one", "j.jpg").write_bytes(script)
    assert "one/j.jpg: cannot be read as an image (cannot identify image file)" in told(data)
    for read in (whole, lambda c, n, size: part(c, n, size, (0.5, 1), np.full(SLOTS, 0.5, np.float32))):
        with pytest.raises(Corrupt, match="cannot identify"):
            read(script, "j.jpg", 8)
    assert not started


# C1: broken images --------------------------------------------------------------------------------------------------


def test_images_of_no_bytes_are_told_from_the_listing(data: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saeft_ray.datasets.images.files._SAMPLED", 2)
    Path(data.train, "one", "1.png").write_bytes(b"")
    Path(data.tests["photos"].path, "two", "1.png").write_bytes(b"")
    assert told(data).splitlines() == [
        f"data.train: {data.train} has images of 0 bytes ('one/1.png'); restore or remove them",
        f"data.tests.photos.path: {data.tests['photos'].path} has images of 0 bytes ('two/1.png'); restore or remove "
        "them",
    ]


@pytest.mark.parametrize("gone", [False, True])
def test_a_broken_test_image_stops_once_and_trained_weights_are_only_evaluated_when_it_is_mended(
    data: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr("saeft_ray.datasets.images.files._SAMPLED", 1)  # the broken image is not looked at before
    broken = Path(data.tests["photos"].path, "two", "1.png")
    picture(int(gone)).save(broken.with_name("other.png"))
    sound = broken.read_bytes()
    broken.write_bytes(sound[: len(sound) // 2])
    config = sweeps.config(
        tmp_path / "runs",
        data=data.model_dump(),
        train={"epochs": 1, "batch_size": 2, "lr": 1e-3},
        methods={"ft": {}, "mse": {"lambda_mse": 1.0}},
        confirm={"seeds": 2},
    )
    plan, store, ledger = sweeps.opened(config)
    if gone:
        broken.unlink()
    trained: list[str] = []
    whole = TrialContext._train
    monkeypatch.setattr(
        TrialContext,
        "_train",
        lambda self, model, spec, *more: trained.append(spec.id) or whole(self, model, spec, *more),
    )
    with pytest.raises(Unfinished, match=r"photos/two/1\.png: .*\nNothing is lost"):
        run_phases(plan, ledger, LocalRunner(plan, store, ledger), Quiet())
    assert len(trained) == 1, "no other trial was tried, and none twice"
    broken.write_bytes(sound)
    plan, store, ledger = sweeps.opened(config)
    run_phases(plan, ledger, LocalRunner(plan, Store(str(tmp_path / "runs")), ledger), Quiet())
    assert len(trained) == len(set(trained)) == 4, "the first was only evaluated"
    assert set(read_rows(ledger.url)["status"].to_pylist()) == {"ok"}
    assert ledger.record()["data"]["fingerprint"] == plan.facts.data
    # Once rows exist, other test images are another sweep.
    broken.write_bytes(png(77))
    with pytest.raises(UserError, match="the files have changed since"):
        sweeps.opened(config)


# Images replaced under the same names -------------------------------------------------------------------------------


def overwritten(file: Path) -> None:
    """Another picture of the same name and size."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("split", ["train", "photos"])
@pytest.mark.parametrize("limit", [{}, {"_ALL": 0, "_MIDDLE": 10**6}])
def test_images_replaced_by_others_of_the_same_name_and_size_are_told(
    data: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, limit: dict[str, int]
) -> None:
    monkeypatch.setattr("saeft_ray.datasets.images.files._SAMPLED", 1)
    for name, value in limit.items():
        monkeypatch.setattr(f"saeft_ray.datasets.images.content.{name}", value)
    config = sweeps.config(
        tmp_path / "runs",
        data=data.model_dump(),
        train={"epochs": 1, "batch_size": 2, "lr": 1e-3},
        methods={"ft": {}},
        confirm={"seeds": 2},
    )
    plan, store, ledger = sweeps.opened(config)
    run_phases(plan, ledger, LocalRunner(plan, store, ledger), Quiet())
    for file in tmp_path.glob("*/*/*.png"):
        os.utime(file, (1, 1))  # as a copied folder has it
    sweeps.opened(config)
    overwritten(tmp_path / split / "two" / "1.png")
    with pytest.raises(UserError, match=f"images of ({split}|selection) have the names and sizes that they had"):
        sweeps.opened(config)


def test_a_record_of_before_and_one_that_was_read_otherwise_are_not_compared(
    data: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, shards = data.contents(), tmp_path / "shards"
    assert door_shard(Path(data.train), shards) == 0
    assert changed(data, train=str(shards)).contents() == whole
    monkeypatch.setattr("saeft_ray.datasets.images.content._ALL", 0)
    assert replaced({"content": whole}, {"content": data.contents()}) == []
    assert replaced({}, {"content": whole}) == []
    monkeypatch.setattr("saeft_ray.datasets.images.content._FILES", 2)
    assert data.contents()["photos"].startswith("4096 bytes of 2 files: ")


# Splits and classes that say nothing --------------------------------------------------------------------------------


def test_a_test_set_of_images_of_train_and_of_what_is_held_out_is_refused(data: Folder, tmp_path: Path) -> None:
    plant(tmp_path / "again")
    same = {"again": {"path": str(tmp_path / "again"), "role": "ood"}}
    assert "data.tests.again.path: all 6 images are images of train or selection" in told(data, tests=same)
    picture(77).save(tmp_path / "again" / "one" / "own.png")
    assert told(data, tests=same) == ""


def test_images_in_two_classes_of_one_split(data: Folder) -> None:
    photos = Path(data.tests["photos"].path)
    (photos / "two" / "copy.png").write_bytes((photos / "one" / "0.png").read_bytes())
    words = "data.tests.photos.path: 2 of 7 images lie in two classes, such as "
    assert noted(data).startswith(words)
    assert told(data, duplicates="refuse").startswith(words)
    for i in range(3):
        (photos / "two" / f"{i}.png").write_bytes((photos / "one" / f"{i}.png").read_bytes())
    assert "data.tests.photos.path: 7 of 7 images lie in two classes" in told(data)


def test_splits_that_lack_classes(data: Folder, tmp_path: Path) -> None:
    one = str(plant(tmp_path / "held", 4, 300, ("one",)))
    assert "data.selection: has images of one class, 'one', by which nothing can be chosen" in told(data, selection=one)
    tests = {"few": {"path": one, "role": "id"}}
    assert noted(changed(data, tests=tests)) == "data.tests.few.path: has no images of 1 of 2 classes: 'two'"


@pytest.mark.parametrize("name", ["", " a", "a/b", "a|b", "a\nb", "OOD", "PHOTOS", "é"])
def test_names_that_cannot_name_a_test_set(data: Folder, name: str) -> None:
    tests = {"photos": data.tests["photos"].model_dump(), name: data.tests["photos"].model_dump()}
    (problem,) = [words for words in changed(data, tests=tests).problems() if " is also " not in words]
    assert problem.startswith(f"data.tests.{name if name in ('OOD', 'PHOTOS') else repr(name)}: ")


@pytest.mark.parametrize("name", ["V2", "C-fog-3", "CIFAR-10.1", "my photos (new)", "a_b", "x", "2024+25"])
def test_names_that_sweeps_have(data: Folder, name: str) -> None:
    assert told(data, tests={name: data.tests["photos"].model_dump()}) == ""


def test_a_class_in_another_unicode_form(data: Folder, tmp_path: Path) -> None:
    plant(Path(data.train), classes=("caf\u00e9",), seed=800)
    tests = {"photos": {"path": str(plant(tmp_path / "nfd", 1, 900, ("cafe\u0301",))), "role": "id"}}
    assert "of data.train in unicode form (a letter with its accent" in told(data, tests=tests)


@pytest.mark.parametrize("names", [("one", "one."), ("rock &amp; roll", "rock & roll"), ("it\u2019s", "it's")])
def test_words_that_a_tokenizer_does_not_tell_apart(names: tuple[str, str]) -> None:
    arch = "digit-clip" if names[0] == "one" else "ViT-B-32"
    (words,) = encoder.indistinct(Model(arch=arch), ["a photo of a {}."], [*names, "two"])
    assert words.startswith(f"data.classes: {names[0]!r}, {names[1]!r} are the same tokens for {arch}")
    assert encoder.indistinct(Model(arch=arch), ["a photo of a {}."], [names[0], "two"]) == []


def test_words_beyond_what_is_read_and_a_name_of_no_word() -> None:
    long = "very " * 80
    (words,) = encoder.indistinct(Model(arch="ViT-B-32"), ["a {}"], [f"{long} cat", f"{long} dog", "cow"])
    assert "are the same tokens" in words
    assert encoder.indistinct(Model(arch="digit-clip"), ["a {}"], ["?!", "two"]) == [
        "data.classes: '?!' has no word for digit-clip; give it one"
    ]


def test_pairs_of_imagenet_that_are_known_stay_allowed() -> None:
    from saeft_ray.datasets.images import imagenet_classes

    names = imagenet_classes.names(imagenet_classes.synsets())
    assert len(_plainly_different(names)) < len(names)
    assert encoder.indistinct(Model(arch="ViT-B-32"), ["a photo of a {}."], _plainly_different(names)) == []


# Places -------------------------------------------------------------------------------------------------------------


def test_shards_are_not_made_of_what_cannot_be_used_nor_into_their_source(
    data: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(data.train)
    for destination in (source, source / "one" / "tars", tmp_path):
        assert door_shard(source, destination) == 2
    assert "is where the images lie" in capsys.readouterr().err
    (source / "one" / "notes.txt").write_text("x")
    assert door_shard(source, tmp_path / "noted") == 0
    assert "passed over 1 .txt" in capsys.readouterr().out
    (source / "one" / "phone.heic").write_bytes(b"x")
    (source / "one" / "nothing.png").write_bytes(b"")
    (source / "one" / "lost.png").symlink_to(tmp_path / "nowhere")
    (source / "empty").mkdir()
    assert door_shard(source, tmp_path / "shards") == 2
    said = capsys.readouterr().err
    for words in ("phone.heic", "0 bytes ('one/nothing.png')", "'one/lost.png'", "no images ('empty')"):
        assert words in said
    assert not (tmp_path / "shards").exists()


def test_names_in_tars_that_begin_at_the_top_and_tars_in_capitals(tmp_path: Path) -> None:
    data = archive(tmp_path / "tars", [("/one/a.png", png(0)), (".//one/b.png", png(1)), ("./two/c.png", png(2))])
    (tmp_path / "tars" / "0.tar").rename(tmp_path / "tars" / "0.TAR")
    assert data.split("train", 28).names == ["one/a.png", "one/b.png", "two/c.png"]


def test_a_place_that_looks_mistyped_is_told_in_the_words_of_all_places() -> None:
    with pytest.raises(ValidationError, match="is no URL; give s3://b/x"):
        Folder.model_validate({"train": "s3:/b/x", "tests": {}})


@pytest.mark.parametrize("given", ["abc", "nan", "-1", "0", "inf"])
def test_a_size_of_the_cache_that_is_no_number_is_told(given, tmp_path, monkeypatch):
    monkeypatch.setenv("SAEFT_RAY_SHARDS_GB", given)
    with pytest.raises(UserError, match=f"SAEFT_RAY_SHARDS_GB={given}: is no number of gigabytes"):
        _ = Cache(tmp_path).limit
