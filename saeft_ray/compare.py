"""`python -m saeft_ray.compare A B`: two sweeps side by side, their settings and their results paired by seed."""

import argparse
import sys

from saeft_ray import door
from saeft_ray.errors import UserError
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.report.content import Comparison
from saeft_ray.report.side_by_side import Opened, side_by_side
from saeft_ray.results import render
from saeft_ray.storage.location import Location

_LONGEST = 60  # characters of a setting in a table


def main(arguments: list[str] | None = None, endpoint: str | None = None) -> int:
    """The door; `endpoint` is the S3 server (else the environment's). Exit status: 0, else as `door.guarded`; where
    nothing could be compared it is 0 too, and the output says why."""
    parser = argparse.ArgumentParser(
        prog="python -m saeft_ray.compare",
        description="Show which settings of two sweeps differ, and pair the confirm trials of the methods that both "
        "have by their seeds, where data, model, seeds and test sets are the same.",
    )
    parser.add_argument("first", metavar="A", help="a sweep's folder or URL, as the sweep printed it")
    parser.add_argument("second", metavar="B", help="another sweep's, of this storage or of another")
    options = parser.parse_args(arguments)
    return door.guarded(lambda: _compare(options.first, options.second, endpoint))


def _compare(first: str, second: str, endpoint: str | None) -> int:
    if Location(first, endpoint) == Location(second, endpoint):
        raise UserError(f"{first}: was given twice; give two sweeps")
    opened = [Opened(read_record(url, endpoint), read_rows(url, endpoint)) for url in (first, second)]
    found = side_by_side(*opened)
    names = [first, second] if opened[0].name == opened[1].name else [one.name for one in opened]
    settings = [(place, *map(_short, values)) for place, *values in found.settings]
    if settings:
        sys.stdout.write(render(("setting", *names), settings, "table"))
    else:
        print("their settings, data, model and code are the same")
    print()
    if found.comparisons:
        head = ("method", "on", "seeds", *(f"{name} %" for name in names), "difference", "95 % interval", "p")
        sys.stdout.write(render(head, [_line(each) for each in found.comparisons], "table"))
        print()
    for sentence in (*found.refused, *(found.cautions if found.comparisons else ())):
        print(sentence)
    return 0


def _line(found: Comparison) -> tuple[object, ...]:
    paired = found.paired
    assert paired is not None, "what has no pair was refused"
    interval = None if paired.lo is None or paired.hi is None else f"{100 * paired.lo:+.2f} to {100 * paired.hi:+.2f}"
    means = (f"{100 * mean:.2f}" for mean in (paired.mean_a, paired.mean_b))
    label = found.method.rpartition(" of ")[0]
    return label, found.endpoint, paired.n, *means, f"{100 * paired.mean:+.2f}", interval, found.p_adjusted


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
