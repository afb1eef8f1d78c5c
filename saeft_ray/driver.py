"""The one driver of a sweep: it holds the lease, asks runners for trials, and ends with what changed in features."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from rich.console import Console

from saeft_ray.errors import Unfinished, UserError
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
from saeft_ray.records.versions import commit
from saeft_ray.storage.store import Store


def drive(plan: Plan, store: Store, local: bool, console: Console) -> None:
    """Runs `plan` as the one driver of its sweep."""
    name = plan.config.name
    store.check_writable()
    lease = Lease(store, f"sweeps/{name}", on_lost=interrupt)
    try:
        with StopSignals() as signals, lease:
            _conduct(plan, local, console, store, Ledger(store, name, lease.token), signals)
    except KeyboardInterrupt:
        if lease.lost:
            raise Unfinished(
                f"{store.url}/sweeps/{name}: another driver took this sweep over, and continues it"
            ) from None
        raise


def _conduct(plan: Plan, local: bool, console: Console, store: Store, ledger: Ledger, signals: StopSignals) -> None:
    ran_by = commit()
    for line in ledger.begin(ran_by):
        console.out(line, highlight=False)
    ledger.register(record_of(plan, ran_by))
    console.out(f"sweep {plan.config.name} in {ledger.url}", highlight=False)
    watched = Progress(console) if not console.quiet else Quiet()
    with watched as watcher, hands(plan, store, ledger, signals, local) as (runner, each):
        run_phases(plan, ledger, runner, watcher)
        _find_features(plan, ledger, store, each)


@contextmanager
def hands(plan: Plan, store: Store, ledger: Ledger, signals: StopSignals, local: bool) -> Iterator[tuple[Runner, Map]]:
    """Who runs trials, and how other work is done for many things: in this process if `local`, else by the Ray that
    `plan` names, by the one that is here, or by one of our own that ends with the context."""
    if local:
        from saeft_ray.orchestration.local import LocalRunner

        yield LocalRunner(plan, store, ledger, signals), serially
    else:
        from saeft_ray.on_ray.ray_map import ray_map
        from saeft_ray.on_ray.runner import RayRunner

        with RayRunner(plan, store, ledger, signals) as runner:
            yield runner, ray_map(plan.config.compute)


def _find_features(plan: Plan, ledger: Ledger, store: Store, each: Map) -> None:
    """Keeps what changed for the report to show; a failure becomes a sentence there."""
    if plan.config.features.on:
        from saeft_ray.features.summary import what_changed

        keep(never_lost(what_changed, plan, ledger, store, each), ledger.url, store.endpoint)


@contextmanager
def logs_named(folder: str, local: bool) -> Iterator[None]:
    """Notes on an exception where the logs of the run are."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the sweep's folder is {folder}")
        session = Path(gettempdir(), "ray", "session_latest", "logs")
        if not local and session.is_dir():
            error.add_note(f"Ray's log is {os.path.realpath(session)}")
        raise


def check_caller(caller: str, any_ray: bool) -> None:
    """A sweep hears signals; and it must not change the settings, signals and logs of somebody's Ray unasked."""
    if threading.current_thread() is not threading.main_thread():
        raise UserError(f"{caller}: called in a thread, which hears no signals; call it in the main thread")
    ray = sys.modules.get("ray")
    if not any_ray and ray is not None and ray.is_initialized():
        address = ray.get_runtime_context().gcs_address
        raise UserError(
            f"{caller}: this process is connected to a Ray already (at {address}), whose workers lack the settings of "
            "a sweep. Give local=True to run without Ray; or call ray.shutdown() first, and the sweep starts a Ray of "
            "its own or connects to that of compute.address; or give join=True to use this one as it is"
        )
