"""Users' own labels of images: a CSV file with an attribute a line, by which features get names without any words.

    image,attribute,set
    0,striped,Sketch          the first image of the set Sketch
    cats/a.png,striped,       a file name

Shapes: N images, D features, A attributes.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saeft_ray.errors import UserError
from saeft_ray.features.activity import Floats, Matrix, counts, pattern

COLUMNS = ("image", "attribute")
_SHOWN = 5  # problems that one error tells


class Labels(NamedTuple):
    """Attributes in order of name, which images have each, and how many lines name an image that is not there."""

    attributes: tuple[str, ...]
    member: Matrix  # (N, A) sparse ones
    missing: int
    said: tuple[str, ...]


class Line(NamedTuple):
    number: int
    image: str
    attribute: str
    set: str


def read(path: str) -> list[Line]:
    """The lines of a file of labels.

    Raises UserError, with line numbers, for a file that is missing, is no UTF-8 text, lacks a column, or has an empty
    image or attribute.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"features.labels: there is no file {path}; give a CSV with the columns image, attribute"
        ) from error
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"features.labels: {path} cannot be read as UTF-8 text ({error}); save it as CSV in UTF-8"
        ) from error
    rows = csv.DictReader(text.splitlines())
    header = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = header
    lacking = [name for name in COLUMNS if name not in header]
    if lacking:
        raise UserError(
            f"{path}, line 1: no column {lacking[0]!r}, but {', '.join(header) or 'nothing'}; "
            "the columns are image, attribute and, if images are numbered within sets, set"
        )
    found, wrong = [], []
    for row in rows:
        image, attribute, where = ((row.get(name) or "").strip() for name in (*COLUMNS, "set"))
        if not image or not attribute:
            wrong.append(f"line {rows.line_num} has no {'attribute' if image else 'image'}")
        found.append(Line(rows.line_num, image, attribute, where))
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong[:_SHOWN])}{_more(wrong)}; give both or delete the line")
    return found


def problems(path: str, sets: Sequence[str]) -> list[str]:
    """What is wrong with a file of labels for the sets of a sweep, before anything long runs."""
    try:
        lines = read(path)
    except UserError as error:
        return [str(error)]
    unknown = [line for line in lines if line.set and line.set not in sets]
    said = [f"{path}, line {line.number}: there is no set {line.set!r}" for line in unknown[:_SHOWN]]
    return [f"{each}; the sets are {', '.join(sets)}" for each in said]


def labels(lines: Sequence[Line], sizes: Mapping[str, int], files: Mapping[str, Sequence[str]] | None = None) -> Labels:
    """Attributes of the pooled images of sets with `sizes`, in that order. `files` holds the file names of the images
    of a set, if they have such; a name without a set is looked for in all of them, and a bare number means the first
    set. Images that are in no set are counted and said."""
    start = dict(zip(sizes, np.cumsum([0, *sizes.values()])[:-1].tolist(), strict=True))
    places: dict[tuple[str, str], list[int]] = {}
    for name, listed in (files or {}).items():
        for i, file in enumerate(listed):
            places.setdefault((name, file), []).append(start[name] + i)
            places.setdefault(("", file), []).append(start[name] + i)
    attributes = sorted({line.attribute for line in lines})
    column = {attribute: number for number, attribute in enumerate(attributes)}
    pairs, absent = set(), []
    for line in lines:
        found = places.get((line.set, line.image)) or _numbered(line, sizes, start)
        pairs |= {(place, column[line.attribute]) for place in found}
        if not found:
            absent.append(line)
    said = []
    if absent:
        shown = ", ".join(f"{line.image} (line {line.number})" for line in absent[:_SHOWN])
        said.append(f"{len(absent)} of {len(lines)} labels name an image that is in no set: {shown}{_more(absent)}")
    rows, columns = (np.array([pair[i] for pair in sorted(pairs)], np.int64) for i in (0, 1))
    shape = (sum(sizes.values()), len(attributes))
    member = sparse.csc_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    return Labels(tuple(attributes), member, len(absent), tuple(said))


def scores(active: Matrix, member: Matrix) -> Floats:
    """(D, A) F1 of "the feature is active" with "the image has the attribute"."""
    both = (pattern(active).T @ member).toarray()
    return np.asarray(2 * both / np.maximum(counts(active)[:, None] + counts(member)[None], 1))


def named(f1: Floats, least: float = 0.5) -> NDArray[np.int64]:
    """(D,) the attribute of the largest F1 of each feature, -1 where it is below `least` or there are no attributes."""
    if not f1.shape[1]:
        return np.full(len(f1), -1)
    return np.where(f1.max(1) >= least, f1.argmax(1), -1)


def _numbered(line: Line, sizes: Mapping[str, int], start: Mapping[str, int]) -> list[int]:
    """The place of an image that is given by its number within a set."""
    name = line.set or next(iter(sizes), "")
    if not line.image.isdecimal() or name not in sizes or int(line.image) >= sizes[name]:
        return []
    return [start[name] + int(line.image)]


def _more(found: Sequence[object]) -> str:
    return f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
