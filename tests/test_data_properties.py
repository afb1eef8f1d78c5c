"""Whatever a folder tree, a tar or a picture is: the right answer, a refusal in one line with its place, or a note."""

import contextlib
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from saeft_ray.datasets.folder import Folder
from saeft_ray.datasets.images.decode import whole
from saeft_ray.errors import Corrupt

FEW = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def png(seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


CLASS = st.sampled_from(["a", "b", "B", "a b", "a_b", "é", "é", "test", "@eaDir", ".hidden", "x.tar", "0"])
FILE = st.sampled_from(
    [
        "1.png",
        "2.PNG",
        "3.txt",
        "4.heic",
        "5.tar",
        ".DS_Store",
        "._1.png",
        "Thumbs.db",
        "6.png.part",
        "é.png",
        "7",
        "b/8.png",
    ]
)
KIND = st.sampled_from(["image"] * 12 + ["empty", "link", "link", "link", "dangling", "loop", "folder"])
TREES = st.dictionaries(st.tuples(st.one_of(st.just(""), CLASS, CLASS, CLASS), FILE), KIND, max_size=5)


def grow(root: Path, tree: dict[tuple[str, str], str]) -> None:
    for number, name in enumerate("ab0"):
        (root / name).mkdir(parents=True)
        for i in range(2):
            (root / name / f"base{i}.png").write_bytes(png(100 + 10 * number + i))
    for number, ((folder, name), kind) in enumerate(tree.items()):
        path = root / folder / name
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):  # two names, one place
            path.parent.mkdir(parents=True, exist_ok=True)
            match kind:
                case "image" | "empty":
                    path.write_bytes(png(number) if kind == "image" else b"")
                case "link":
                    (root.parent / f"{number}.png").write_bytes(png(number))
                    path.symlink_to(root.parent / f"{number}.png")
                case "dangling":
                    path.symlink_to(root / "nowhere")
                case "loop":
                    path.symlink_to(root)
                case "folder":
                    path.mkdir()


def is_of_system(path: Path) -> bool:
    return any(part.startswith(".") or part in ("@eaDir", "Thumbs.db") for part in path.parts)


@FEW
@given(TREES)
def test_every_file_of_a_tree_is_used_counted_or_refused(tree: dict[tuple[str, str], str]) -> None:
    with scratch() as root:
        grow(root / "train", tree)
        (root / "photos" / "a").mkdir(parents=True)
        (root / "photos" / "a" / "1.png").write_bytes(png(1000))
        tests = {"photos": {"path": str(root / "photos"), "role": "id"}}
        data = Folder.model_validate({"train": str(root / "train"), "tests": tests})
        problems = data.problems()
        assert all(line.startswith("data.") and "\n" not in line for line in problems), problems
        if problems:
            return
        event("used")
        files = data._tree(data.train).files
        passed_over = sum(data._tree(data.train).passed_over.values())
        there = [p.relative_to(root / "train") for p in (root / "train").rglob("*") if p.is_symlink() or p.is_file()]
        wanted = [path for path in there if not is_of_system(path)]
        assert len(files) + passed_over == len(wanted)
        assert all((passed_over == 0) == (not note.startswith("data.train: /")) for note in data.notes()[:1])
        classes = data._tree(data.train).classes
        for name in ("train", "selection", "photos"):
            split = data.split(name, 6)
            assert [classes[label] for label in split.labels] == [file.partition("/")[0] for file in split.names]
            assert len(split.labels) == data.sizes()[name] > 0
        split = data.split("train", 6)
        assert len(split.images(np.arange(len(split.labels)))) == len(split.labels)


KEY = st.sampled_from(["a", "b", "a.0", "a.1", "d/a", "d/b", "d.x/a", "./c", "e/__MACOSX/a", ".f"])
SUFFIX = st.sampled_from(["png", "PNG", "json", "seg.png", "cls"])
MEMBERS = st.dictionaries(st.tuples(KEY, SUFFIX), st.sampled_from([*"0011x"]), min_size=1, max_size=5)


@FEW
@given(MEMBERS, st.booleans())
def test_every_image_of_a_tar_has_the_label_of_its_own_key_or_the_tar_is_refused(
    members: dict[tuple[str, str], str], labelled: bool
) -> None:
    with scratch() as root:
        (root / "tars").mkdir()
        contents = {}
        with tarfile.open(root / "tars" / "0.tar", "w") as tar:
            data = {(f"{name}/base{name}", "png"): "" for name in "01"}
            data |= {(f"{name}/base{name}", "cls"): name for name in "01" if labelled}
            if labelled:  # every image gets a label, so that not each tar is refused
                data |= {(key, "cls"): "0" for key, suffix in members if suffix.lower().endswith("png")}
            for number, ((key, suffix), label) in enumerate((data | members).items()):
                content = label.encode() if suffix == "cls" else png(number)
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
                contents[info.name.removeprefix("./")] = content
        data = Folder.model_validate({"train": str(root / "tars"), "tests": {}, "selection": str(root / "tars")})
        refused = [line for line in data.problems() if line.startswith("data.train: ")]
        assert all("\n" not in line and str(root / "tars") in line for line in refused)
        if refused:
            return
        event("used")
        samples = data._tree(data.train)
        for i, (file, folder) in enumerate(zip(samples.files, samples.folders, strict=True)):
            names = [name for name, content in contents.items() if content == samples.read(i)]
            assert any(name.endswith(file.rpartition("/")[2]) for name in names)
            of = {name.rpartition("/")[0] + "/" + name.rpartition("/")[2].partition(".")[0] for name in names}
            labels = [
                content.decode()
                for name, content in contents.items()
                if name.endswith("cls")
                and name.rpartition("/")[0] + "/" + name.rpartition("/")[2].partition(".")[0] in of
            ]
            assert folder in (labels or [name.partition("/")[0] for name in names])
        assert max(Counter(samples.files).values()) == 1 or any(name.endswith("cls") for name in contents)


FORMS = [
    ("PNG", "RGB"),
    ("JPEG", "RGB"),
    ("GIF", "RGB"),
    ("TIFF", "RGB"),
    ("BMP", "RGB"),
    ("WEBP", "RGB"),
    ("PPM", "RGB"),
]
FORMS += [
    ("TIFF", "CMYK"),
    ("PNG", "LA"),
    ("PNG", "P"),
    ("PNG", "1"),
    ("TIFF", "I;16"),
    ("JPEG", "CMYK"),
    ("TGA", "RGB"),
]


@FEW
@given(st.sampled_from(FORMS), st.integers(0, 3), st.floats(0, 1), st.integers(0, 255))
def test_a_picture_cut_or_changed_is_refused_by_name_or_has_its_pixels(
    form: tuple[str, str], seed: int, at: float, byte: int
) -> None:
    kind, mode = form
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (24, 24, 3), np.uint8)
    if mode == "I;16":
        image = Image.fromarray(draw.integers(0, 65536, (24, 24)).astype(np.uint16))
    else:
        image = Image.fromarray(pixels).convert(mode)
    buffer = BytesIO()
    image.save(buffer, kind)
    data = buffer.getvalue()
    right = whole(data, "it", 24)
    cut, place = int(at * len(data)), min(int(at * len(data)), len(data) - 1)
    got = None
    with contextlib.suppress(Corrupt):
        got = whole(data[:cut], "it", 24)
    if got is None:
        with pytest.raises(Corrupt, match=r"\Ait: cannot be read as an image \(.*\Z"):
            whole(data[:cut], "it", 24)
    else:
        event("used")
        assert (got == right).all() or cut > 0.9 * len(data)
    with contextlib.suppress(Corrupt):
        whole(data[:place] + bytes([byte]) + data[place + 1 :], "it", 24)
