"""The text files that the section `features` names: words, one per line, and labels of images as CSV.

image,attribute,set
0,striped,Sketch          the first image of the set Sketch
cats/a.png,striped,       a file name
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from saeft_ray.errors import UserError
from saeft_ray.table_file import parse

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
    """The lines of a file of labels. Raises UserError, with line numbers, for a file that cannot be read, lacks a
    column or a line, or has an empty image or attribute."""
    found, wrong = [], []
    # No comments: the name of an image may begin with "#".
    for line in parse(path, _text(path), COLUMNS, ("set",), comments=False).lines:
        image, attribute, where = (line.cells.get(name, "") for name in (*COLUMNS, "set"))
        if not image or not attribute:
            wrong.append(f"line {line.number} has no {'attribute' if image else 'image'}")
        found.append(Line(line.number, image, attribute, where))
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong[:SHOWN])}{more(wrong)}; give both or delete the line")
    return found


def more(found: Sequence[object]) -> str:
    """What is said of those beyond the first `SHOWN`."""
    return f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""


def _text(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a text file") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except ValueError as error:  # a path with a zero byte
        raise UserError(f"{path!r}: cannot be a path ({error}); give the path of a text file") from error
