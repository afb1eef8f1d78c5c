"""`python -m saeft_ray.mirror STORAGE --to TARGET [--watch]`: copy a sweep into the tracker that people use already."""

import argparse
import sys
import time

from saeft_ray import door
from saeft_ray.mirrors import KINDS, TARGETS, copy, open_tracker
from saeft_ray.mirrors.sweep import SweepReader
from saeft_ray.storage.redact import redacted

EVERY = 30.0  # seconds between two looks


def main(arguments: list[str] | None = None, endpoint: str | None = None) -> int:
    """The door; `endpoint` is the S3 server (else the environment's). Exit status: 0, else as `door.guarded`."""
    parser = argparse.ArgumentParser(
        prog="python -m saeft_ray.mirror",
        description="Copy a sweep, finished or running, into a tracker. Run again it adds what is missing.",
        epilog=f"Needs: {', '.join(f'{kind.package} for {name}' for name, kind in KINDS.items())}.",
    )
    parser.add_argument("storage", metavar="STORAGE", help="the sweep's folder or URL, as the sweep printed it")
    parser.add_argument("--to", metavar="TARGET", required=True, help=TARGETS)
    parser.add_argument(
        "--watch", metavar="SECONDS", type=float, nargs="?", const=EVERY,
        help=f"look again every so often ({EVERY:.0f} s) until the sweep ends",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.watch is not None and options.watch <= 0:
        parser.error("--watch lies above 0")
    return door.guarded(lambda: _mirror(options.storage, options.to, options.watch, endpoint))


def _mirror(storage: str, target: str, watch: float | None, endpoint: str | None) -> int:
    reader, tracker, ran = SweepReader(storage, endpoint), None, False
    while True:
        sweep = reader.read()
        tracker = tracker or open_tracker(target)
        added = copy(sweep, tracker)
        new = f"{added.trials} trials and {added.epochs} epochs added" if any(added) else "nothing new"
        print(f"{redacted(target)}: {new}; the sweep has begun {len(sweep.trials)} trials", flush=True)
        # After the last trial comes the report: it is looked for once more.
        if watch is None or (sweep.over and not ran):
            return 0
        ran = not sweep.over
        time.sleep(watch)


if __name__ == "__main__":
    sys.exit(main())
