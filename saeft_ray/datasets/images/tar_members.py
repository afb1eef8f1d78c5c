"""The images of a tar and their classes, by WebDataset's rule for names.

Files are one sample if their names agree up to the first dot after the last slash. An image's class is the folder in
its name, or the number in the `.cls` of its sample.
"""

import os
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from io import FileIO
from typing import NamedTuple

from saeft_ray.datasets.images.decode import SUFFIXES, UNREADABLE
from saeft_ray.datasets.images.files import of_system, suffix_of

_LONGEST_LABEL = 64  # bytes of a .cls
_PART = 1 << 20
_TOP = re.compile(r"^(\./+|/+)+")  # what stands before a name that begins at the top: "./", "/", ".//"


class Member(NamedTuple):
    """A file of a tar, and what of its name follows the name of its sample."""

    name: str
    offset: int
    size: int
    rest: str


def members_of(file: FileIO) -> dict[str, list[Member]]:
    """The files of a tar by the name of their sample, those of systems aside.

    Raises tarfile.TarError, also for members whose content is not where the index would look for it.
    """
    samples: dict[str, list[Member]] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            name = _TOP.sub("", member.name)
            if member.isdir() or any(of_system(part) for part in name.split("/")):
                continue
            if not member.isreg() or member.issparse():
                raise tarfile.TarError(f"{name} is a link or has holes; write the tar with the files themselves")
            folder, slash, base = name.rpartition("/")
            sample, _, rest = base.partition(".")
            found = Member(name, member.offset_data, member.size, rest.lower())
            samples.setdefault(f"{folder}{slash}{sample}", []).append(found)
        _check_end(file, tar.offset)
    return samples


def _check_end(file: FileIO, offset: int) -> None:
    """Raises tarfile.TarError unless the tar ends at `offset` with its mark, and the file with it: where a header is
    damaged or the file cut between two members, Python's reader just stops."""
    rest = os.pread(file.fileno(), _PART, offset)
    if len(rest) < tarfile.BLOCKSIZE or any(rest[: tarfile.BLOCKSIZE]):
        raise tarfile.TarError(f"no end mark at byte {offset:,}")
    while rest:
        if any(rest):
            raise tarfile.TarError(f"it goes on after its end mark at byte {offset:,}")
        offset += len(rest)
        rest = os.pread(file.fileno(), _PART, offset)


def images_of(file: FileIO, samples: Mapping[str, list[Member]]) -> tuple[list[tuple[str, int, int]], Counter[str]]:
    """((name, offset, size) of the images of a tar, each below its class; what else there is, counted by suffix).

    Raises ValueError for images whose class is not plain.
    """
    found, others = list[tuple[str, int, int]](), Counter[str]()
    labelled = any(member.rest.endswith("cls") for members in samples.values() for member in members)
    for sample, members in samples.items():
        images = [member for member in members if suffix_of(member.name) in SUFFIXES]
        labels = [member for member in members if suffix_of(member.name) == ".cls"]
        others.update(suffix_of(m.name) or "without a suffix" for m in members if m not in images and m not in labels)
        if unreadable := [m.name for m in members if suffix_of(m.name) in UNREADABLE]:
            raise ValueError(f"{unreadable[0]} is a picture of a type that cannot be read; convert or remove it")
        if labels:
            label = _only(sample, "labels", labels)
            if not images:
                others["sample without an image"] += 1
                continue
            image = _only(sample, "images", images)
            others.update(suffix_of(m.name) for m in [*images, *labels] if m not in (image, label))
            images = [image]
            folder = _number(file, label)
        elif images and labelled:
            raise ValueError(
                f"{images[0].name} has no .cls, and other images of this tar have one; complete or remove it"
            )
        for image in images:
            if not labels and "/" not in image.name:
                raise ValueError(f"{image.name} has neither a folder nor a .cls that gives its class; complete the tar")
            name = f"{folder}/{image.name.rpartition('/')[2]}" if labels else image.name
            found.append((name, image.offset, image.size))
    names = Counter(name for name, _, _ in found)
    if not labelled and (twice := [name for name, count in names.items() if count > 1]):
        raise ValueError(f"{twice[0]} is there {names[twice[0]]} times; keep one")
    return found, others


def _only(sample: str, what: str, members: Sequence[Member]) -> Member:
    """The one of `members` that the sample means: the one whose name is the sample's and a suffix, or the only one."""
    plain = [member for member in members if "." not in member.rest] or members
    if len(plain) > 1:
        raise ValueError(
            f"{plain[0].name} and {plain[1].name} are two {what} of one sample, {sample!r}: a sample's name "
            "ends at its first dot; write other dots as underscores"
        )
    return plain[0]


def _number(file: FileIO, label: Member) -> str:
    """The class that a .cls gives. Raises ValueError if it is no number from 0."""
    text = os.pread(file.fileno(), min(label.size, _LONGEST_LABEL), label.offset).decode(errors="replace").strip()
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{label.name} holds {text!r}, which is not the number of a class; give 0, 1, 2 …")
    return str(int(text))
