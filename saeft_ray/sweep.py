"""`python -m saeft_ray.sweep FILE`: runs a sweep, or what is left of it, to its report."""

import argparse
import logging
import os
import signal
import sys

from saeft_ray import door, results
from saeft_ray.api import Sweep, load
from saeft_ray.errors import UserError
from saeft_ray.orchestration.progress import Terminal
from saeft_ray.report import __main__ as report


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 trials could not be run, 2 the user's mistake, 130 stopped by a signal."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.sweep", description="Run a sweep file to its report.")
    parser.add_argument("file", help="the sweep file (YAML)")
    parser.add_argument("--plan", action="store_true", help="print artifacts, trials and work; run nothing")
    parser.add_argument("--local", action="store_true", help="run serially in this process, without Ray")
    parser.add_argument("--extend", action="store_true", help="add to a sweep that exists what its file adds")
    parser.add_argument("--quiet", action="store_true", help="print only the path of the report")
    options = parser.parse_args(arguments)
    return door.guarded(
        lambda: _sweep(options),
        advice="Fix this, then run the same command to resume",
        stopped="Stopped. The same command continues from here",
    )


def _sweep(options: argparse.Namespace) -> int:
    sweep = load(options.file)
    if options.plan:
        sweep.show_plan(Terminal(stderr=options.quiet, quiet=options.quiet))
        return 0
    if sweep.folder.startswith("memory://"):
        raise UserError(f"storage: {sweep.folder} would be gone with this process; give a folder or s3://bucket/folder")
    sweep.run(local=options.local, quiet=options.quiet, extend=options.extend)
    return show(sweep, options.quiet)


def show(sweep: Sweep, quiet: bool = False) -> int:
    """Prints the table of a sweep's results, writes its report and says where it is; returns the exit status."""
    if quiet:
        return report.main([sweep.folder, "--quiet"], sweep.endpoint)
    results.main([sweep.folder], sweep.endpoint)
    return report.main([sweep.folder], sweep.endpoint)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until there are trials (signals.StopSignals)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
