"""Images that two splits share, byte for byte, found without reading more than could be the same."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np

from saeft_ray.datasets.images.files import Samples
from saeft_ray.draws import IntArray

_LEARNED = ("train", "selection")
_SNIPPET = 64  # bytes from the middle, which tell nearly all files of one size apart
_LOOKS = 100_000  # files of which a snippet is read
_FAR_LOOKS = 2_000  # the same at a URL, where each is a request


class Members(NamedTuple):
    """Some of the files of `samples`: a split."""

    samples: Samples
    positions: IntArray


class Shared(NamedTuple):
    """What the split `name` shares with one before it; `whole` if these are all its images."""

    name: str
    words: str
    whole: bool


class _File(NamedTuple):
    split: int
    samples: Samples
    i: int

    @property
    def folder(self) -> str:
        return self.samples.folders[self.i]

    def snippet(self) -> bytes:
        size = int(self.samples.sizes[self.i])
        start = max(0, size // 2 - _SNIPPET // 2)
        return self.samples.read_part(self.i, start, min(size, start + _SNIPPET))

    def digest(self) -> bytes:
        return hashlib.sha256(self.samples.read_once(self.i)).digest()


def shared(splits: Mapping[str, Members]) -> list[Shared]:
    """The images that the `splits` share, for each two that share any. Files are compared if their sizes agree, at most
    100,000 of them, or 2,000 where they lie at a URL; the words then say how many could not be."""
    names = list(splits)
    groups, left = _of_equal_size(list(splits.values()))
    groups = _identical(groups, lambda file: file.split)
    found: dict[tuple[int, int], list[_File]] = defaultdict(list)
    for group in groups:
        there = sorted({file.split for file in group})
        for one, other in combinations(there, 2):
            found[one, other] += [file for file in group if file.split == other]
    aside = f" ({left:,} files of equal size were not compared)" if left else ""
    out = []
    for (one, other), files in sorted(found.items()):
        total = len(splits[names[other]].positions)
        example = files[0].samples.name(files[0].i)
        words = f"{len(files):,} of {total:,} images are images of {names[one]} too, such as {example}"
        out.append(Shared(names[other], words + aside, len(files) == total))
    out += _of_both(names, splits, found)
    if left and not out:
        out.append(Shared(names[0], f"{left:,} files of equal size were not compared with other splits", False))
    return out


def _of_both(
    names: Sequence[str], splits: Mapping[str, Members], found: Mapping[tuple[int, int], list[_File]]
) -> Iterator[Shared]:
    """The splits all whose images are images of train or selection, where neither has all of them."""
    learned = [number for number, name in enumerate(names) if name in _LEARNED]
    for other, name in enumerate(names):
        parts = [{file.i for file in found.get((one, other), ())} for one in learned]
        total = len(splits[name].positions)
        if total and max(map(len, parts), default=0) < total == len(set().union(*parts)):
            yield Shared(name, f"all {total:,} images are images of train or selection", True)


class Contradicted(NamedTuple):
    """Images of a split that are there in two classes; `whole` if these are all its images."""

    words: str
    whole: bool


def contradicted(part: Members) -> Contradicted | None:
    """The images of one split that lie in two of its classes, byte for byte, so that a label is wrong; None if
    there are none. As many are compared as by `shared`."""
    samples = part.samples
    by_size: dict[int, list[_File]] = defaultdict(list)
    for i in part.positions.tolist():
        by_size[int(samples.sizes[i])].append(_File(0, samples, i))
    groups = sorted((g for g in by_size.values() if len({file.folder for file in g}) > 1), key=len)
    room, looked = _FAR_LOOKS if samples.far else _LOOKS, list[list[_File]]()
    for group in groups:
        room -= len(group)
        if room < 0:
            break
        looked.append(group)
    same = _identical(looked, lambda file: file.folder)
    if not same:
        return None
    first = same[0][0]
    second = next(file for file in same[0] if file.folder != first.folder)
    count = sum(map(len, same))
    words = (
        f"{count:,} of {len(part.positions):,} images lie in two classes, such as {samples.name(first.i)} and "
        f"{samples.name(second.i)}"
    )
    return Contradicted(words, count == len(part.positions))


def _identical(groups: list[list[_File]], side: Callable[[_File], object]) -> list[list[_File]]:
    """Of files of equal size, those that agree in all bytes with one of another side."""
    for key in (_File.snippet, _File.digest) if groups else ():
        with ThreadPoolExecutor(16) as pool:
            groups = [part for parts in pool.map(partial(_apart, key=key, side=side), groups) for part in parts]
    return groups


def _apart(group: Sequence[_File], key: Callable[[_File], bytes], side: Callable[[_File], object]) -> list[list[_File]]:
    """The files of `group` that agree in `key` with one of another side, by what they agree in."""
    by_key: dict[bytes, list[_File]] = defaultdict(list)
    for file in group:
        by_key[key(file)].append(file)
    return [part for part in by_key.values() if len({side(file) for file in part}) > 1]


def _of_equal_size(splits: Sequence[Members]) -> tuple[list[list[_File]], int]:
    """(the files of each size that two splits have, as many as are looked at; how many are not)."""
    sizes = [part.samples.sizes[part.positions] for part in splits]
    values, counts = np.unique(np.concatenate(sizes), return_counts=True)
    held = sum(np.isin(values, each).astype(int) for each in sizes)
    common = (held > 1) & (values > 0)
    values, counts = values[common], counts[common]
    order = np.argsort(counts, kind="stable")  # a rare size tells more
    limit = _FAR_LOOKS if any(part.samples.far for part in splits) else _LOOKS
    looked = order[np.cumsum(counts[order]) <= limit]
    by_size: dict[int, list[_File]] = defaultdict(list)
    for number, (part, each) in enumerate(zip(splits, sizes, strict=True)):
        for at in np.flatnonzero(np.isin(each, values[looked])).tolist():
            by_size[int(each[at])].append(_File(number, part.samples, int(part.positions[at])))
    return list(by_size.values()), int(counts.sum() - counts[looked].sum())
