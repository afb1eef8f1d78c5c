"""`python -m saeft_ray.sweep FILE`: runs a sweep, or what is left of it, to its report."""

import argparse
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from saeft_ray.config import sweep_file
from saeft_ray.config.schema.schema import SweepConfig
from saeft_ray.datasets import NotSeen
from saeft_ray.leaving import Notice
from saeft_ray.methods import LayerPenalty
from saeft_ray.methods.facts import Facts
from saeft_ray.plan import Plan
from saeft_ray.progress import Progress, Quiet
from saeft_ray.protocol import Runner, Unfinished, conduct
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.checksum import Damaged
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.retry import Unavailable, is_full
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


def find_facts(config: SweepConfig, planning: bool = False) -> Facts:
    """Looks at data and weights. Raises ValueError for what is missing or does not fit; a plan may do with what is
    known of data that cannot be seen."""
    if config.storage.endpoint:
        os.environ["AWS_ENDPOINT_URL"] = config.storage.endpoint  # for everything that reads the sweep, here and on Ray
    problems = config.data.problems()
    unseen = tuple(problem for problem in problems if planning and isinstance(problem, NotSeen))
    if len(unseen) < len(problems):
        raise ValueError("data:" + "".join(f"\n  {problem}" for problem in problems))
    from saeft_ray.model import encoder

    model, d = encoder.identity(config.model, config.storage.endpoint), encoder.width(config.model)
    facts = Facts(
        model=model,
        image_size=encoder.image_size(config.model),
        width=d,
        data=config.data.fingerprint(),
        sizes=config.data.sizes(),
        classes=len(config.data.class_names()),
        templates=len(config.data.prompts()),
        imported=_imported(config, model, d) if config.dictionary.source else None,
        blocks=encoder.blocks(config.model),
        train=config.data.train_fingerprint(),
        unseen=unseen,
    )
    unmet = [f"methods.{label}: {words}" for label, m in config.methods.items() for words in m.unmet(facts)]
    unmet += encoder.unfit(config.model, config.compute)
    if unmet:
        raise ValueError("\n".join(unmet))
    return facts


def _imported(config: SweepConfig, model: dict[str, str], d: int) -> str:
    """The hash of the SAE that the sweep file names. Raises ValueError if it does not fit."""
    from saeft_ray.sae import exchange

    found = exchange.open_named(config.dictionary, d, config.storage.endpoint)
    if found.model not in (None, model):
        raise ValueError(
            f"dictionary.from: {config.dictionary.source} was made for {found.model}, but this sweep fine-tunes {model}"
        )
    return found.sha256


def run(plan: Plan, local: bool, console: Console) -> int:
    """Runs the sweep and writes its report."""
    config = plan.config
    store = Store(config.storage.url, endpoint=config.storage.endpoint)
    store.check_writable()
    lease = Lease(store, f"sweeps/{config.name}")
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
    return _report(ledger.url, console)


def _conduct(plan: Plan, local: bool, console: Console, store: Store, ledger: Ledger, notice: Notice) -> None:
    commit = _commit()
    for line in ledger.begin(commit):
        console.out(line, highlight=False)
    ledger.register(plan, commit)
    console.out(f"sweep {plan.config.name} in {ledger.url}", highlight=False)
    with Progress(console) if not console.quiet else Quiet() as watcher:
        runner: Runner
        if local:
            from saeft_ray.local import LocalRunner

            conduct(plan, ledger, LocalRunner(plan, store, ledger, notice), watcher)
        else:
            from saeft_ray.on_ray.runner import RayRunner

            with RayRunner(plan, store, ledger, notice) as runner:
                conduct(plan, ledger, runner, watcher)


def _report(url: str, console: Console) -> int:
    from saeft_ray import results
    from saeft_ray.report import __main__ as report

    if not console.quiet:
        results.main([url])
    return report.main([url, *(["--quiet"] if console.quiet else [])])


def show(plan: Plan, console: Console) -> None:
    """Prints what a run would build and train."""
    store = Store(plan.config.storage.url, endpoint=plan.config.storage.endpoint)
    artifacts = Table("artifact", "key", "size", "state", title="Artifacts", title_justify="left", box=None)
    unseen = ""
    for artifact in plan.artifacts():
        stored = None
        nameless = bool(plan.facts.unseen)  # keys depend on data not seen
        try:
            stored = None if unseen or nameless else store.size(artifact.kind, artifact.key)
        except Exception as error:  # whatever a store raises: a plan says what it could not see, and goes on
            unseen = f"{store.url} could not be read: {str(error) or type(error).__name__}"
        size = artifact.bytes if stored is None else stored
        shards = f", in {len(artifact.shards)} shards" if artifact.shards else ""
        state = "unknown" if unseen or nameless else f"will be built{shards}" if stored is None else "exists"
        key = "unknown" if nameless else artifact.key[:12]
        artifacts.add_row(artifact.kind, key, "not known" if size is None else _bytes(size), state)
    trials = Table("phase", "trials", "of them train", "steps each", title="Trials", title_justify="left", box=None)
    counts = plan.counts()
    for phase, trained in plan.trainings():
        trials.add_row(phase, str(counts[phase]), str(trained), str(plan.steps))
    work = sum(trained for _, trained in plan.trainings()) * plan.steps
    values = Table("method", "type", "settings", title="Methods", title_justify="left", box=None)
    for label, method in plan.config.methods.items():
        settings = ", ".join(f"{name} {_shown(value)}" for name, value in method if name != "type")
        values.add_row(label, str(getattr(method, "type", "")), settings)
    for table in (artifacts, values, trials):
        console.print(table, "")
    for words in filter(None, (*(f"could not see {each}" for each in plan.facts.unseen), unseen)):
        console.out(words, highlight=False)  # a folded path could not be copied
    asking = [label for label, method in plan.config.methods.items() if isinstance(method, LayerPenalty)]
    aside = f", save for {' and '.join(asking)}" if asking and plan.cached else ""
    console.print(
        "Nothing was run. "
        f"At most {sum(counts.values())} trials, {work:,} optimizer steps of {plan.config.train.batch_size} images. "
        f"Training runs {'no frozen encoder: its features are stored' if plan.cached else 'the frozen encoder too'}"
        f" ({plan.pool} of {plan.config.views} views an image stored){aside}.",
        highlight=False,
    )


def _shown(value: object) -> str:
    from saeft_ray.settings import Choices, Range

    if isinstance(value, Range):
        return f"searched in {value.low:g} … {value.high:g}{' (log)' if value.log else ''}"
    if isinstance(value, Choices):
        return "chosen among " + " ".join(f"{choice:g}" for choice in value.choices)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.1f} TB"


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
