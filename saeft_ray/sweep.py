"""`python -m saeft_ray.sweep FILE`: runs a sweep, or what is left of it, to its report."""

import argparse
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from saeft_ray.config import sweep_file
from saeft_ray.errors import Damaged, Unavailable, Unfinished
from saeft_ray.orchestration.facts import find_facts, in_haste
from saeft_ray.orchestration.phases import Runner, conduct
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Progress, Quiet
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.orchestration.show_plan import show
from saeft_ray.orchestration.signals import Notice, interrupt
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.retry import is_full
from saeft_ray.storage.store import Store


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 trials could not be run, 2 the user's mistake, 130 stopped by a signal."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.sweep", description="Run a sweep file to its report.")
    parser.add_argument("file", help="the sweep file (YAML)")
    parser.add_argument("--plan", action="store_true", help="print artifacts, trials and work; run nothing")
    parser.add_argument("--local", action="store_true", help="run serially in this process, without Ray")
    parser.add_argument("--quiet", action="store_true", help="print only the path of the report")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.quiet, quiet=options.quiet)
    try:
        config = sweep_file.load(options.file)
        config = in_haste(config) if options.plan else config
        plan = Plan(config, find_facts(config, planning=options.plan))
        if options.plan:
            show(plan, console)
            return 0
        return run(plan, options.local, console)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except Unfinished as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if not (isinstance(error, Unavailable | Damaged) or is_full(error)):
            raise
        print(f"{redacted(str(error))}\nThe same command goes on once that is mended", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


def run(plan: Plan, local: bool, console: Console) -> int:
    """Runs the sweep and writes its report."""
    config = plan.config
    store = Store(config.storage.url, endpoint=config.storage.endpoint)
    store.check_writable()
    lease = Lease(store, f"sweeps/{config.name}", on_lost=interrupt)
    try:
        with Notice() as notice, lease:
            ledger = Ledger(store, config.name, lease.token)
            _conduct(plan, local, console, store, ledger, notice)
    except KeyboardInterrupt:
        if lease.lost:
            raise Unfinished(
                f"{store.url}/sweeps/{config.name}: another driver took this sweep over, and goes on with it"
            ) from None
        raise
    return _report(ledger.url, config.storage.endpoint, console)


def _conduct(plan: Plan, local: bool, console: Console, store: Store, ledger: Ledger, notice: Notice) -> None:
    commit = _commit()
    for line in ledger.begin(commit):
        console.out(line, highlight=False)
    ledger.register(record_of(plan, commit))
    console.out(f"sweep {plan.config.name} in {ledger.url}", highlight=False)
    with Progress(console) if not console.quiet else Quiet() as watcher:
        runner: Runner
        if local:
            from saeft_ray.orchestration.local import LocalRunner

            conduct(plan, ledger, LocalRunner(plan, store, ledger, notice), watcher)
        else:
            from saeft_ray.on_ray.runner import RayRunner

            with RayRunner(plan, store, ledger, notice) as runner:
                conduct(plan, ledger, runner, watcher)


def _report(url: str, endpoint: str | None, console: Console) -> int:
    from saeft_ray import results
    from saeft_ray.report import __main__ as report

    if not console.quiet:
        results.main([url], endpoint)
    return report.main([url, *(["--quiet"] if console.quiet else [])], endpoint)


def _commit() -> str | None:
    """The commit of the code that runs, where it runs from a checkout."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until there are trials (leaving.Notice)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
