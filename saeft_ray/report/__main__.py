"""`python -m saeft_ray.report STORAGE` writes the report of a sweep; `--table runs.csv` that of anyone's numbers."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from saeft_ray.report import Report, write_report
from saeft_ray.report.from_table import read_table
from saeft_ray.table import read_record, read_rows, write_file


def main(arguments: list[str] | None = None) -> int:
    """The door. Returns the exit code: 0, or 2 for a folder, rows or a table that no report can be made of."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.report", description="Write the report of a sweep.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "storage", metavar="STORAGE", nargs="?", help="the sweep's folder or URL, as the sweep printed it"
    )
    source.add_argument(
        "--table", metavar="CSV", type=Path, help="instead: numbers from anywhere, with the columns method, seed, "
        "dataset, accuracy (a fraction) and maybe role (id or ood)",
    )  # fmt: skip
    parser.add_argument("--baseline", metavar="METHOD", help="with --table: what the other methods are compared with")
    parser.add_argument(
        "--id", metavar="DATASET", action="append", default=[], help="with --table: an ID set; the others are OOD sets"
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="with --table: the error level of a family")
    parser.add_argument("--out", metavar="DIR", type=Path, help="a local folder (default: report/ inside STORAGE)")
    parser.add_argument(
        "--watch", metavar="SECONDS", type=float, nargs="?", const=30.0,
        help="write it again every so often (30 s) until the sweep is complete",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print only where the page is")
    options = parser.parse_args(arguments)
    if options.table is not None and options.watch is not None:
        parser.error("--watch follows a sweep; a table does not grow")
    if options.table is None and (options.baseline or options.id):
        parser.error("--baseline and --id belong to --table; a sweep's file names its own")
    if not 0 < options.alpha < 0.5 or (options.watch is not None and options.watch <= 0):
        parser.error("--alpha lies between 0 and 0.5, and --watch above 0")
    try:
        while True:
            report, place, complete = _write(options)
            if options.watch is None or complete:
                break
            if not options.quiet:
                print(f"{time.strftime('%H:%M:%S')} {report.headline}", flush=True)
            time.sleep(options.watch)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if not options.quiet:
        print(report.headline)
        for warning in report.warnings:
            print(f"warning: {warning.text}")
    print(f"{place}/report.html")
    return 0


def _write(options: argparse.Namespace) -> tuple[Report, str, bool]:
    """Writes the report once: what it says, where it is, and whether nothing is left to come."""
    if options.table is not None:
        rows, record = read_table(options.table, options.baseline, options.id, options.alpha)
        out = options.out or options.table.with_name(f"{options.table.stem}-report")
        return write_report(rows, record, out), str(out), True
    storage: str = options.storage.rstrip("/")
    record, rows = read_record(storage), read_rows(storage)
    if options.out is not None:
        report = write_report(rows, record, options.out)
        return report, str(options.out), _complete(report, record)
    place = f"{storage}/report"
    with tempfile.TemporaryDirectory() as folder:
        report = write_report(rows, record, Path(folder))
        for path in sorted(Path(folder).iterdir()):
            write_file(place, path.name, path.read_bytes())
    return report, place, _complete(report, record)


def _complete(report: Report, record: dict[str, object]) -> bool:
    return "registration" in record and not report.open


if __name__ == "__main__":
    sys.exit(main())
