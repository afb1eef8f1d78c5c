"""The text files that the section `features` names: words, one per line, and labels of images as CSV.

image,attribute,set
0,striped,Sketch          the first image of the set Sketch
cats/a.png,striped,       a file name
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from saeft_ray.errors import UserError

COLUMNS = ("image", "attribute")
SHOWN = 5  # problems that one error tells


class Line(NamedTuple):
    number: int
    image: str
    attribute: str
    set: str


def read_words(path: str) -> list[str]:
    """The words of a file that holds one per line; a line that begins with "#" is a comment. Raises UserError for a
    file that cannot be read or holds no word."""
    lines = [line.strip() for line in _text(path).splitlines()]
    words = [line for line in lines if line and not line.startswith("#")]
    if not words:
        raise UserError(f"{path}: holds no word; give a word or phrase per line")
    return words


def read_labels(path: str) -> list[Line]:
    """The lines of a file of labels. Raises UserError, with line numbers, for a file that cannot be read, a head that
    is not ours, no line, and lines without an image or attribute or with more fields than the head."""
    # Text that is cut into lines by anything but the reader would be cut inside of quotes too.
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    found, wrong = [], []
    try:
        rows.fieldnames = _head(path, rows.fieldnames or ())
        for row in rows:
            image, attribute, where = ((row.get(name) or "").strip() for name in (*COLUMNS, "set"))
            if any(row.get(None) or ()):
                wrong.append(f"line {rows.line_num} has more fields than the head (put quotes around a comma)")
            elif not image or not attribute:
                wrong.append(f"line {rows.line_num} has no {'attribute' if image else 'image'}")
            found.append(Line(rows.line_num, image, attribute, where))
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: is not CSV ({error})") from error
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong[:SHOWN])}{more(wrong)}; mend or delete the line")
    if not found:
        raise UserError(f"{path}: has no line below its head; give a line per image and attribute")
    return found


def _head(path: str, given: Sequence[str]) -> list[str]:
    """The names of the columns. Raises UserError if one of ours is not there once."""
    names = [name.strip() for name in given]
    allowed = "the columns are image, attribute and, if images are numbered within sets, set, with commas between them"
    for name in COLUMNS:
        if name not in names:
            raise UserError(f"{path}, line 1: no column {name!r}, but {', '.join(names) or 'nothing'}; {allowed}")
    if twice := [name for name in (*COLUMNS, "set") if names.count(name) > 1]:
        raise UserError(f"{path}, line 1: column {twice[0]!r} stands there {names.count(twice[0])} times; {allowed}")
    return names


def more(found: Sequence[object]) -> str:
    """What is said of those beyond the first `SHOWN`."""
    return f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a text file") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except ValueError as error:  # a path with a zero byte
        raise UserError(f"{path!r}: cannot be a path ({error}); give the path of a text file") from error
