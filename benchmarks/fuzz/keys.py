"""Tar shards: WebDataset's keys with dots, folders and capitals, labels that are none, and tars that are cut."""

import io
import random
import tarfile
from pathlib import Path

from benchmarks.fuzz.folders import PICTURE, images_at
from benchmarks.fuzz.input import Input, wrong_if

_STEMS = ("img", "é", "x_y", "A", "train/img", "sub/deep/img", "猫")
_LABELS = (b"", b"-1", b"x", b"1.0", b"\xff", b" 2\n", b"99999999999999999999", b"0x1")


def make(draw: random.Random, folder: Path) -> Input:
    root = folder / "data"
    root.mkdir()
    members: list[tuple[str, bytes]] = []
    truth: dict[str, str] = {}  # class by image
    stem = draw.choice(_STEMS)
    damage = draw.choice(
        ("none", "none", "dots", "label", "lost label", "two labels", "cut", "link", "two images", "stray")
    )
    count = draw.randint(2, 6)
    for number in range(count):
        sample = f"{stem}{number:04d}" if damage != "dots" else f"{stem}.{number:04d}"
        label = number % 2
        image = f"{sample}.{draw.choice(('jpg', 'PNG', 'webp'))}"
        members += [(image, PICTURE), (f"{sample}.cls", str(label).encode())]
        truth[image.rpartition("/")[2]] = str(label)
    at = 2 * draw.randrange(count)
    name = members[at][0].rpartition(".")[0]
    if damage == "label":
        members[at + 1] = (members[at + 1][0], draw.choice(_LABELS))
    elif damage == "lost label":
        del members[at + 1]
    elif damage == "two labels":
        members.append((f"{name}.cls", b"1"))
    elif damage == "two images":
        members.append((f"{name}.{draw.choice(('jpeg', 'bmp'))}", PICTURE))
    elif damage == "stray":
        members.append((f"{name}.{draw.choice(('json', 'txt', 'seg.txt'))}", b"{}"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=draw.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as tar:
        for member, content in members:
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        if damage == "link":
            entry = tarfile.TarInfo("link.jpg")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    data = out.getvalue()
    if damage == "cut":
        data = data[: draw.randrange(1, len(data.rstrip(b"\0")))]
    (root / "a.tar").write_bytes(data)

    def check(found: list[str]) -> None:
        got = {file.partition("/")[2]: file.partition("/")[0] for file in found}
        if damage in ("none", "stray"):
            wrong_if(got != truth, f"labels {got} and not {truth}")
        wrong_if(damage in ("dots", "lost label", "two labels", "cut", "link"), f"{damage} was read")

    return Input(f"{damage} {stem}", lambda: images_at(root), check, must_pass=damage == "none")
