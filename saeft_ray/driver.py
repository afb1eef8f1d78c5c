"""The one driver of a sweep: it holds the lease, asks runners for trials, and ends with what changed in features."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console

from saeft_ray.errors import Unfinished, UserError
from saeft_ray.features.each import Map, serially
from saeft_ray.features.files import JSON, keep
from saeft_ray.features.found import never_lost
from saeft_ray.orchestration.cap import Cap, Capped
from saeft_ray.orchestration.growing import in_words
from saeft_ray.orchestration.phases import Runner, run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Progress, Quiet
from saeft_ray.orchestration.pulse import EVERY, ON_TERMINAL, Pulse
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.orchestration.room import check_room
from saeft_ray.orchestration.signals import StopSignals, interrupt
from saeft_ray.records.hours import Hours
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import file_exists
from saeft_ray.records.versions import commit
from saeft_ray.storage.store import Store


def drive(plan: Plan, store: Store, local: bool, console: Console, extend: bool = False) -> None:
    """Runs `plan` as the one driver of its sweep; with `extend`, what the file adds to a sweep that exists is added."""
    name = plan.config.name
    store.check_writable()
    lease = Lease(store, f"sweeps/{name}", on_lost=interrupt)
    try:
        with StopSignals() as signals, lease:
            ledger, hours = Ledger(store, name, lease.token), Hours(store, name, lease.token)
            with hands(plan, store, ledger, signals, local) as them:
                _register(plan, them, console, store, ledger, extend)
                _conduct(plan, them, console, store, ledger, signals, hours)
    except KeyboardInterrupt:
        if lease.lost:
            raise Unfinished(
                f"{store.url}/sweeps/{name}: another driver took this sweep over, and continues it"
            ) from None
        raise


class Hands(NamedTuple):
    """Who runs trials (`runner`), and how other work is done for many things (`each`). `ray` is what the sweep's record
    says of the cluster, `line` what a person reads of it."""

    runner: Runner
    each: Map
    ray: dict[str, object] | None = None
    line: str = ""


@contextmanager
def hands(plan: Plan, store: Store, ledger: Ledger, signals: StopSignals, local: bool) -> Iterator[Hands]:
    """Work in this process if `local`, else on the Ray that `plan` names, on this user's, or on a new one, which ends
    with the context."""
    if local:
        from saeft_ray.orchestration.local import LocalRunner

        yield Hands(LocalRunner(plan, store, ledger, signals), serially)
        return
    from saeft_ray.on_ray.ray_map import ray_map
    from saeft_ray.on_ray.runner import RayRunner

    with RayRunner(plan, store, ledger, signals) as runner:
        there = runner.cluster
        yield Hands(runner, ray_map(plan.config.compute), there.record(), f"Ray: {there}")


def _register(plan: Plan, them: Hands, console: Console, store: Store, ledger: Ledger, extend: bool) -> None:
    ran_by = commit()
    for line in filter(None, (them.line, *plan.facts.notes, *ledger.begin(ran_by, them.ray))):
        console.out(line, highlight=False)
    record = {**record_of(plan, ran_by), "ray": them.ray}
    if grows := in_words(plan, store, ledger, record):
        if not extend:
            raise UserError(f"{grows}\nGive --extend to add this (extend=True from Python); nothing was changed")
        console.out(grows, highlight=False)
    ledger.register(record, extend)
    check_room(plan, store, ledger)


def _conduct(
    plan: Plan, them: Hands, console: Console, store: Store, ledger: Ledger, signals: StopSignals, hours: Hours
) -> None:
    console.out(f"sweep {plan.config.name} in {ledger.url}", highlight=False)
    every = ON_TERMINAL if console.is_terminal else EVERY
    with (
        Progress(console) if not console.quiet else Quiet() as shown,
        Pulse(shown, ledger, every, hours) as watcher,
        Cap(plan.config.compute, hours, signals, watcher.far) as cap,
    ):
        run_phases(plan, ledger, Capped(them.runner, store, cap), watcher)
        if plan.config.features.on and not file_exists(ledger.url, JSON, store.endpoint):
            cap.check()
        _find_features(plan, ledger, store, them.each, console)
        _look_for_a_cue(plan, ledger, store, them.each)


def _look_for_a_cue(plan: Plan, ledger: Ledger, store: Store, each: Map) -> None:
    """Notes once whether something that the classes do not need tells the label, for plan and report to tell."""
    from saeft_ray.features.cue import FindCue

    if ledger.cue() is None:
        for found in each(FindCue(plan, store), ["selection"]):
            if found:
                ledger.note_cue(found)


def _find_features(plan: Plan, ledger: Ledger, store: Store, each: Map, console: Console) -> None:
    """Keeps what changed for the report to show; a failure becomes a sentence there."""
    if plan.config.features.on:
        from saeft_ray.features.progress import telling
        from saeft_ray.features.summary import what_changed

        told = each if console.quiet or console.is_terminal else telling(each, _line(console))
        keep(never_lost(what_changed, plan, ledger, store, told), ledger.url, store.endpoint)


def _line(console: Console) -> Callable[[str], None]:
    return lambda words: console.out(words, highlight=False)


@contextmanager
def logs_named(folder: str) -> Iterator[None]:
    """Notes on an exception where the logs of the run are."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the sweep's folder is {folder}")
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
