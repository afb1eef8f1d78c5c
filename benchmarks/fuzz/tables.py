"""Tables of numbers: dialects of CSV, and lines, cells and names that do not fit."""

import csv
import io
import random
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fuzz.input import Input, wrong_if
from saeft_ray.report import findings
from saeft_ray.report.from_table import read_table
from saeft_ray.stats import Welch

_SETS = ("ID", "V2", "Sketch")
_ODD = (
    "",
    " ",
    "nan",
    "inf",
    "-1",
    "1e-3",
    "0.3%",
    "101",
    "1e999",
    "0,5",
    "abc",
    "\N{MINUS SIGN}3",
    "None",
    "1" * 20,
    "é",
    '"',
    "0.",
    "1.000",
    "1.000,5",
    "%",
)
_MIXED = ("fraction", "percent", "mark")


class _Dialect(NamedTuple):
    """How a table is written: `percent` is a sign in every cell, a word of the user's (`said`), or neither."""

    wide: bool
    delimiter: str
    comma: bool
    percent: str
    metric: str

    def cell(self, value: float) -> str:
        text = f"{100 * value:.2f}" if self.percent else f"{value:.4f}"
        return (text.replace(".", ",") if self.comma else text) + ("%" if self.percent == "sign" else "")


def _dialect(draw: random.Random) -> _Dialect:
    delimiter = draw.choice((",", ";", "\t"))
    return _Dialect(
        wide=draw.random() < 0.4,
        delimiter=delimiter,
        comma=delimiter != "," and draw.random() < 0.5,
        percent=draw.choice(("", "", "sign", "said")),
        metric=draw.choice(("accuracy", "accuracy", "f1", "Macro F1")),
    )


def make(draw: random.Random, folder: Path) -> Input:
    it = _dialect(draw)
    others = draw.random() < 0.3  # seeds that the baseline has not
    truth = {
        (method, seed + 50 * (others and method == "sae"), name): round(draw.uniform(0.05, 0.95), 4)
        for method in ("ft", "sae", "mse")
        for seed in range(draw.randint(1, 4))
        for name in _SETS
    }
    header, rows = _grid(it, truth)
    draw.shuffle(rows)
    damage = draw.choice(("none", "none", "cells", "value", "twice", "header", "bytes", "blank", *_MIXED))
    sound = damage in ("none", "blank")
    _hurt(draw, it, damage, header, rows)
    capitals = draw.choice((str, str.upper, str.title))
    header = [capitals(title) if title in ("method", "seed", "dataset", it.metric) else title for title in header]
    data = _written(draw, [header, *rows], it.delimiter, damage == "blank").encode(
        "utf-8-sig" if draw.random() < 0.2 else "utf-8"
    )
    if damage == "bytes":
        hurt = bytearray(data)
        hurt[draw.randrange(len(hurt))] = draw.choice((0, 0xFF, 0x0D, 0x22, 0x2C))
        data = bytes(hurt)
    file = folder / "runs.csv"
    file.write_bytes(data)

    def check(answer: tuple[Any, dict[str, Any]]) -> None:
        found = {(r["method"], r["seed"], r["dataset"]): r["value"] for r in answer[0].to_pylist()}
        if sound:
            wrong_if(found != truth, f"{len(found)} numbers of {len(truth)}, or others")
            _check_pairs(answer, others)
        wrong_if(damage == "cells", "a line of another width was read")
        wrong_if(damage == "twice", "two numbers for one run were read")
        wrong_if(damage in _MIXED, "numbers written in two ways were read")
        wrong_if(len(found) > len(truth), "more numbers than cells")

    given = {"metric": it.metric, "percent": it.percent == "said"}
    about = f"{damage}, {'wide' if it.wide else 'long'}"
    return Input(about, lambda: read_table(file, "ft", ["ID"], 0.05, **given), check, sound)


def _check_pairs(answer: tuple[Any, dict[str, Any]], others: bool) -> None:
    """Methods with the baseline's seeds are paired, one with others is not, and one family holds both."""
    for c in findings(*answer).primary:
        unpaired = others and c.method == "sae"
        wrong_if(isinstance(c.paired, Welch) != unpaired, f"{c.method}: paired and unpaired are confused")
        wrong_if(("unpaired" in f"{c.label} {c.unpaired}") != unpaired, f"{c.method}: a wrong label")
        wrong_if(c.family_size != 2, "the family was split")


def _grid(it: _Dialect, truth: dict[tuple[str, int, str], float]) -> tuple[list[str], list[list[str]]]:
    if not it.wide:
        lines = [[method, str(seed), name, it.cell(value)] for (method, seed, name), value in truth.items()]
        return ["method", "seed", "dataset", it.metric], lines
    runs = dict.fromkeys((method, seed) for method, seed, _ in truth)
    lines = [[m, str(s), *(it.cell(truth[m, s, name]) for name in _SETS)] for m, s in runs]
    return ["method", "seed", *_SETS], lines


def _hurt(draw: random.Random, it: _Dialect, damage: str, header: list[str], rows: list[list[str]]) -> None:
    """Does `damage` to the lines or to their header."""
    at, numbers = draw.randrange(len(rows)), range(2 if it.wide else 3, len(header))
    column = draw.choice(numbers)
    if damage == "cells":
        rows[at] = rows[at][: draw.randint(1, 3)] if draw.random() < 0.5 else [*rows[at], "0"]
    elif damage == "value":
        rows[at][draw.randrange(len(header))] = draw.choice(_ODD)
    elif damage == "twice":
        rows.append([*rows[at][: numbers[0]], *(it.cell(0.5) for _ in numbers)])
    elif damage == "header":
        column = draw.randrange(len(header))
        header[column] = draw.choice(
            ("", "Method", " seed", "dataset", "acc", "v2", "role", "accuracy", "\N{ZERO WIDTH SPACE}x")
        )
    elif damage == "fraction":  # one percentage among fractions, or the reverse
        text = f"{draw.uniform(0.05, 0.95):.4f}" if it.percent else f"{draw.uniform(5, 95):.2f}"
        rows[at][column] = text.replace(".", ",") if it.comma else text
    elif damage == "percent":
        other = it._replace(percent="" if it.percent else "sign")
        rows[at][column] = other.cell(draw.uniform(0.05, 0.95))
    elif damage == "mark":
        rows[at][column] = it._replace(comma=not it.comma).cell(draw.uniform(0.05, 0.95))


def _written(draw: random.Random, rows: list[list[str]], delimiter: str, blanks: bool) -> str:
    out = io.StringIO()
    end = draw.choice(("\n", "\r\n"))
    quoting = draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    for row in rows:
        writer.writerow(row)
        if blanks and draw.random() < 0.3:
            out.write(end)
    return out.getvalue()
