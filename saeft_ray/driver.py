"""The one driver of a sweep: it holds the lease, asks runners for trials, and ends with what changed in features."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from saeft_ray.errors import Unfinished
from saeft_ray.features.each import Map, serially
from saeft_ray.features.files import keep
from saeft_ray.features.found import never_lost
from saeft_ray.orchestration.phases import Runner, run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Progress, Quiet
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.orchestration.signals import StopSignals, interrupt
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.store import Store


def drive(plan: Plan, store: Store, local: bool, console: Console) -> None:
    """Runs `plan` as the one driver of its sweep."""
    name = plan.config.name
    store.check_writable()
    lease = Lease(store, f"sweeps/{name}", on_lost=interrupt)
    try:
        with StopSignals() as signals, lease:
            ledger = Ledger(store, name, lease.token)
            with _place(plan, store, ledger, signals, local) as place:
                _conduct(plan, place, console, store, ledger)
    except KeyboardInterrupt:
        if lease.lost:
            raise Unfinished(
                f"{store.url}/sweeps/{name}: another driver took this sweep over, and continues it"
            ) from None
        raise


class _Place(NamedTuple):
    """Where a sweep runs; `ray` is what its record says of the cluster, `line` what a person reads of it."""

    runner: Runner
    each: Map
    ray: dict[str, object] | None = None
    line: str = ""


@contextmanager
def _place(plan: Plan, store: Store, ledger: Ledger, signals: StopSignals, local: bool) -> Iterator[_Place]:
    if local:
        from saeft_ray.orchestration.local import LocalRunner

        yield _Place(LocalRunner(plan, store, ledger, signals), serially)
        return
    from saeft_ray.on_ray.ray_map import ray_map
    from saeft_ray.on_ray.runner import RayRunner

    with RayRunner(plan, store, ledger, signals) as runner:
        there = runner.cluster
        yield _Place(runner, ray_map(plan.config.compute), there.record(), f"Ray: {there}")


def _conduct(plan: Plan, place: _Place, console: Console, store: Store, ledger: Ledger) -> None:
    commit = _commit()
    if place.line:
        console.out(place.line, highlight=False)
    for line in ledger.begin(commit, place.ray):
        console.out(line, highlight=False)
    ledger.register({**record_of(plan, commit), "ray": place.ray})
    console.out(f"sweep {plan.config.name} in {ledger.url}", highlight=False)
    with Progress(console) if not console.quiet else Quiet() as watcher:
        run_phases(plan, ledger, place.runner, watcher)
        _find_features(plan, ledger, store, place.each)


def _find_features(plan: Plan, ledger: Ledger, store: Store, each: Map) -> None:
    """Keeps what changed for the report to show; a failure becomes a sentence there."""
    if plan.config.features.on:
        from saeft_ray.features.summary import what_changed

        keep(never_lost(what_changed, plan, ledger, store, each), ledger.url, store.endpoint)


@contextmanager
def logs_named(folder: str) -> Iterator[None]:
    """Notes on an exception where the logs of the run are."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the sweep's folder is {folder}")
        raise


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
