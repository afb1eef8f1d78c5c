"""Tables of numbers: dialects of CSV, and lines, cells and names that do not fit."""

import csv
import io
import random
from pathlib import Path
from typing import Any

from benchmarks.fuzz.input import Input, wrong_if
from saeft_ray.report.from_table import read_table

_HEADER = ["method", "seed", "dataset", "accuracy"]
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
)


def make(draw: random.Random, folder: Path) -> Input:
    sets = ["ID", "V2", "Sketch"]
    rows = [
        [method, str(seed), name, f"{draw.uniform(0.05, 0.95):.4f}"]
        for method in ("ft", "sae", "mse")
        for seed in range(draw.randint(1, 4))
        for name in sets
    ]
    draw.shuffle(rows)
    truth = {(row[0], int(row[1]), row[2]): float(row[3]) for row in rows}
    damage = draw.choice(("none", "none", "cells", "value", "twice", "header", "bytes", "blank"))
    header, sound = list(_HEADER), damage in ("none", "blank")
    at = draw.randrange(len(rows))
    if damage == "cells":
        rows[at] = rows[at][: draw.randint(1, 3)] if draw.random() < 0.5 else [*rows[at], "0"]
    elif damage == "value":
        rows[at][draw.randrange(4)] = draw.choice(_ODD)
    elif damage == "twice":
        rows.append([*rows[at][:3], "0.5"])
    elif damage == "header":
        column = draw.randrange(4)
        header[column] = draw.choice(
            ("", "Method", " seed", "dataset", "acc", header[column].upper(), "\N{ZERO WIDTH SPACE}x")
        )
    text = _written(draw, [header, *rows], blanks=damage == "blank")
    data = text.encode("utf-8-sig" if draw.random() < 0.2 else "utf-8")
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
        wrong_if(damage == "cells", "a line of another width was read")
        wrong_if(damage == "twice", "two accuracies for one run were read")
        wrong_if(len(found) > len(truth), "more numbers than lines")

    return Input(damage, lambda: read_table(file, "ft", ["ID"], 0.05), check, sound)


def _written(draw: random.Random, rows: list[list[str]], blanks: bool) -> str:
    out = io.StringIO()
    end = draw.choice(("\n", "\r\n"))
    writer = csv.writer(out, lineterminator=end, quoting=draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    for row in rows:
        writer.writerow(row)
        if blanks and draw.random() < 0.3:
            out.write(end)
    return out.getvalue()
