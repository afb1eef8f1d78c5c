"""Folders of class folders: unicode, strays, links, archives, empty files, system folders."""

import random
import unicodedata
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.fuzz.input import Input, wrong_if
from saeft_ray.datasets.images.find import find
from saeft_ray.storage.location import Location

_NAMES = (
    "cat",
    "Dog",
    "größe",
    unicodedata.normalize("NFD", "café"),
    "猫",
    "a b",
    "c.d",
    "e'f",
    "-x",
    "Z",
    "🐈",
    "0",
    "010",
)
_SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png", ".webp", ".jfif", ".bmp")
_STRAYS = ("notes.txt", ".DS_Store", "Thumbs.db", "._x.jpg", ".hidden.png", "labels.csv", "README", "x.jpg.part")
_CHANGES = (
    "stray", "system", "link", "broken", "cycle", "empty", "archive", "deep", "empty class", "outside",
)  # fmt: skip
_SYSTEM = ("@eaDir", "__MACOSX", ".ipynb_checkpoints", ".git")


def _picture() -> bytes:
    out = BytesIO()
    Image.fromarray(np.full((8, 8, 3), 128, np.uint8)).save(out, "PNG")
    return out.getvalue()


PICTURE = _picture()


def make(draw: random.Random, folder: Path) -> Input:
    root = folder / "data"
    root.mkdir()
    done, truth = [], 0
    classes = draw.sample(_NAMES, draw.randint(1, 5))
    for name in classes:
        place = root / name
        place.mkdir()
        for number in range(draw.randint(1, 4)):
            (place / f"{draw.choice(('img', 'é', 'a.b', 'x y'))}{number}{draw.choice(_SUFFIXES)}").write_bytes(PICTURE)
            truth += 1
    sound = True
    for _ in range(draw.randint(0, 3)):
        place = root / draw.choice(classes)
        match draw.choice(
            ("stray", "system", "link", "broken", "cycle", "empty", "archive", "deep", "empty class", "outside")
        ):
            case "stray":
                (place / draw.choice(_STRAYS)).write_bytes(b"x")
                done.append("stray")
            case "system":
                hidden = draw.choice((root, place)) / draw.choice(_SYSTEM)
                hidden.mkdir(exist_ok=True)
                (hidden / "thumb.jpg").write_bytes(PICTURE)
                done.append("system")
            case "link" if not (root / "linked").exists():
                elsewhere = folder / "elsewhere"
                elsewhere.mkdir()
                (elsewhere / "one.png").write_bytes(PICTURE)
                (root / "linked").symlink_to(elsewhere, target_is_directory=True)
                truth += 1
                done.append("link")
            case "broken":
                (place / f"gone{len(done)}.jpg").symlink_to(folder / "nowhere.jpg")
                sound = False
                done.append("broken link")
            case "cycle":
                if not (place / "again").exists():
                    (place / "again").symlink_to(root, target_is_directory=True)
                sound = False
                done.append("cycle")
            case "empty":
                (place / f"empty{len(done)}.png").write_bytes(b"")
                sound = False
                done.append("empty file")
            case "archive":
                (root / "backup.tar").write_bytes(b"\0" * 1024)
                sound = False
                done.append("archive")
            case "deep":
                (place / "sub").mkdir(exist_ok=True)
                (place / "sub" / f"deep{len(done)}.jpg").write_bytes(PICTURE)
                truth += 1
                done.append("deep")
            case "empty class":
                (root / f"nothing{len(done)}").mkdir()
                sound = False
                done.append("empty class")
            case "outside":
                (root / f"outside{len(done)}.png").write_bytes(PICTURE)
                sound = False
                done.append("outside")

    def check(found: object) -> None:
        count = len(found)  # type: ignore[arg-type]
        if sound:
            wrong_if(count != truth, f"{count} images of {truth}")
        wrong_if(count > truth, f"{count} images where {truth} are")

    return Input(" + ".join(done) or "plain", lambda: images_at(root), check, must_pass=not done)


def images_at(root: Path) -> list[str]:
    """The files that are found. Raises UserError for the problems that a plan would list."""
    from saeft_ray.errors import UserError

    found = find(Location(str(root)))
    if problems := [*found.problems()]:
        raise UserError("; ".join(problems))
    for i in range(len(found.files)):
        found.read(i)
    return list(found.files)
