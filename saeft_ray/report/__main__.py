"""`python -m saeft_ray.report STORAGE` writes the report of a sweep; `--table runs.csv` that of anyone's numbers."""

import argparse
import math
import sys
import time
from pathlib import Path

from saeft_ray import door
from saeft_ray.errors import UserError
from saeft_ray.report import WrittenReport, report_sweep, write_report
from saeft_ray.report.from_table import read_table
from saeft_ray.report.numbers import in_list

_TABLE_ONLY = ("baseline", "id", "metric", "percent", "alpha", "margin", "compare", "pool", "line")


def main(arguments: list[str] | None = None, endpoint: str | None = None) -> int:
    """The door; `endpoint` is the S3 server (else the environment's). Exit status: 0, else as `door.guarded`."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.report", description="Write the report of a sweep.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "storage", metavar="STORAGE", nargs="?", help="the sweep's folder or URL, as the sweep printed it"
    )
    source.add_argument(
        "--table", metavar="CSV", type=Path, help="instead: numbers from anywhere, with the columns method, seed, "
        "dataset, accuracy and maybe role (id or ood), or with method, seed and one column for each test set; "
        "separated by commas, semicolons or tabs (with the last two, decimal commas are read). Methods that "
        "share no seed are compared unpaired, by Welch's t",
    )  # fmt: skip
    parser.add_argument("--baseline", metavar="METHOD", help="with --table: what the other methods are compared with")
    parser.add_argument(
        "--id", metavar="DATASET", action="append", default=[], help="with --table: an ID set; the others are OOD sets"
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="with --table: the column that has the values, and their name in the report, "
        "such as f1 (accuracy); in a table with a column for each test set the name alone",
    )  # fmt: skip
    parser.add_argument(
        "--percent", action="store_true", help="with --table: all its numbers are percentages (without this they are "
        "fractions, unless each has a %% sign)",
    )  # fmt: skip
    parser.add_argument("--alpha", type=float, metavar="LEVEL", help="with --table: the error level of a family (0.05)")
    parser.add_argument(
        "--margin", type=float, metavar="FRACTION", help="with --table: a difference that counts as none, such as "
        "0.003; it must have been fixed before the runs",
    )  # fmt: skip
    parser.add_argument(
        "--compare", metavar="METHOD,METHOD", action="append", default=[], help="with --table: a further pair to test"
    )
    parser.add_argument(
        "--pool", action="store_true", help="with --table: one spread for all methods, where theirs are alike"
    )
    parser.add_argument(
        "--line", metavar="DATASET=SLOPE,INTERCEPT", action="append", default=[], help="with --table: the line of "
        "standard models in logits, for effective robustness",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, help="a local folder (default: report/ inside STORAGE)")
    parser.add_argument(
        "--watch", metavar="SECONDS", type=float, nargs="?", const=30.0,
        help="write it again every so often (30 s) until the sweep is complete",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print only where the page is")
    options = parser.parse_args(arguments)
    if options.table is not None and options.watch is not None:
        parser.error("--watch follows a sweep; a table does not grow")
    given = [f"--{name}" for name in _TABLE_ONLY if getattr(options, name)]
    if options.table is None and given:
        parser.error(f"{in_list(given)}: only with --table; a sweep's file declares its own, before its runs")
    if options.alpha is not None and not 0 < options.alpha < 0.5:
        parser.error("--alpha lies between 0 and 0.5")
    if options.margin is not None and not 0 < options.margin < 1:
        parser.error("--margin is a fraction between 0 and 1: 0.003 is 0.3 percentage points")
    if options.watch is not None and options.watch <= 0:
        parser.error("--watch lies above 0")
    return door.guarded(lambda: _follow(options, endpoint))


def _follow(options: argparse.Namespace, endpoint: str | None) -> int:
    """Writes the report; again and again where a sweep is watched."""
    while True:
        written = _write(options, endpoint)
        if options.watch is None or written.complete:
            break
        if not options.quiet:
            print(f"{time.strftime('%H:%M:%S')} {written.report.headline}", flush=True)
        time.sleep(options.watch)
    if not options.quiet:
        print(written.report.headline)
        for warning in written.report.warnings:
            print(f"warning: {warning.text}")
    print(written.page)
    return 0


def _write(options: argparse.Namespace, endpoint: str | None) -> WrittenReport:
    """Writes the report once."""
    if options.table is not None:
        rows, record = read_table(
            options.table, options.baseline, options.id, options.alpha or 0.05, metric=options.metric or "accuracy",
            percent=options.percent, margin=options.margin,
            variance="pooled" if options.pool else "own", compare=[_pair(text) for text in options.compare],
            lines=dict(map(_line, options.line)),
        )  # fmt: skip
        out = options.out or options.table.with_name(f"{options.table.stem}-report")
        return WrittenReport(write_report(rows, record, out), str(out), complete=True)
    return report_sweep(options.storage, options.out, endpoint)


def _pair(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UserError(f"--compare {text}: give two methods as one,other")
    return names


def _line(text: str) -> tuple[str, tuple[float, float]]:
    name, _, numbers = text.rpartition("=")
    try:
        slope, intercept = map(float, numbers.split(","))
    except ValueError:
        slope = intercept = math.nan
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise UserError(f"--line {text}: give DATASET and two finite numbers, SLOPE and INTERCEPT: V2=0.92,-0.5")
    return name, (slope, intercept)


if __name__ == "__main__":
    sys.exit(main())
