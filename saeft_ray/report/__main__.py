"""`python -m saeft_ray.report STORAGE [--out DIR] [--quiet]`: write the report of the sweep in STORAGE."""

import argparse
import sys
import tempfile
from pathlib import Path

from saeft_ray.report import write_report
from saeft_ray.table import read_record, read_rows, write_file


def main(arguments: list[str] | None = None) -> int:
    """The door. Returns the exit code: 0, or 2 for a folder or rows that no report can be made of."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.report", description="Write the report of a sweep.")
    parser.add_argument("storage", metavar="STORAGE", help="the sweep's folder or URL, as the sweep printed it")
    parser.add_argument("--out", metavar="DIR", type=Path, help="a local folder (default: report/ inside STORAGE)")
    parser.add_argument("--quiet", action="store_true", help="print only where the page is")
    options = parser.parse_args(arguments)
    storage: str = options.storage.rstrip("/")
    try:
        record, rows = read_record(storage), read_rows(storage)
        if options.out is not None:
            report = write_report(rows, record, options.out)
            place = str(options.out)
        else:
            place = f"{storage}/report"
            with tempfile.TemporaryDirectory() as folder:
                report = write_report(rows, record, Path(folder))
                for path in sorted(Path(folder).iterdir()):
                    write_file(place, path.name, path.read_bytes())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not options.quiet:
        print(report.headline)
        for warning in report.warnings:
            print(f"warning: {warning.text}")
    print(f"{place}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
