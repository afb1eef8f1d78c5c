"""Runs a sweep's artifacts and trials on Ray: the cluster that is there, or one of our own on this machine."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray

from saeft_ray.errors import Unfinished, UserError
from saeft_ray.on_ray import cluster, internals
from saeft_ray.on_ray.address import Found
from saeft_ray.on_ray.shared import Mark, check_shared, marked
from saeft_ray.on_ray.tune import run_phase
from saeft_ray.orchestration import artifacts as building
from saeft_ray.orchestration.phases import Watcher
from saeft_ray.orchestration.plan import Artifact, Plan
from saeft_ray.orchestration.search import TrialQueue
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.ledger import Ledger
from saeft_ray.settings import Compute
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.store import Store

_log = logging.getLogger(__name__)

# Set while a runner is entered, here and in its workers. Ray reads none of them when it is imported.
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report would block up to 2 s
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # drivers of trials must not see their workers' GPUs
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # rows are ours; nobody reads Tune's five files per trial
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: trials save checkpoints
    "RAY_AUTH_MODE": "disabled",
}
# What workers inherit; credentials travel by environment alone, never inside a pickled object.
INHERITED = ("AWS_", "SAEFT_RAY_", "OMP_NUM_THREADS", "HF_", "NCCL_", "GLOO_")
_REFUSALS = (Exception, RuntimeError, ConnectionError)  # of ray.init: too slow, another version, no answer
_LONGEST_FOLDER = 107 - len("/session_2026-11-26_23-59-59_999999_4194304/sockets/plasma_store")  # of a socket's path


class RayRunner:
    """A context manager: connects to Ray on entry, and at its exit ends the Ray that it started itself.

    `cluster` is what it runs on. Entry raises UserError where no trial fits, or where machines see another storage.
    """

    def __init__(self, plan: Plan, store: Store, ledger: Ledger, signals: StopSignals | None = None):
        self._plan, self._store, self._ledger, self._signals = plan, store, ledger, signals or StopSignals()
        self._undo = ExitStack()
        self._mark: Mark | None = None  # none where all runs on this machine
        self.cluster = cluster.Cluster(None, ())
        self._session: Path | None = None  # of a Ray of our own

    def __enter__(self) -> Self:
        compute = self._plan.config.compute
        with ExitStack() as undo:
            undo.enter_context(settled())
            connected = ray.is_initialized()
            found = Found(ray.get_runtime_context().gcs_address) if connected else cluster.find_with_room(compute)
            if not connected:
                session = undo.enter_context(connection(compute, found))
                self._signals.install()
                if session is not None:
                    self._session = session
                    undo.callback(self._keep_logs, session)
            there = cluster.machines()
            self.cluster = cluster.Cluster(found.address, there, found.aside)
            cluster.check_room(compute)
            if found.address is not None:
                self._mark = undo.enter_context(marked(self._store, f"sweeps/{self._plan.config.name}/leases"))
                check_shared(self._mark, [one for one in there if one.id != ray.get_runtime_context().get_node_id()])
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._session is not None:
            error.add_note(f"Ray's log is {self._session / 'logs'}")
        self._undo.close()

    def build(self, wanted: Sequence[Artifact], watcher: Watcher) -> None:
        """One Ray task per artifact or shard, started once everything that it is made from is there."""
        wanted = building.pieces(wanted, self._store)
        watcher.building(wanted)
        compute = self._plan.config.compute
        task = ray.remote(num_cpus=compute.cpus, num_gpus=compute.gpus, max_retries=3)(_ensure)
        plan, store = ray.put(self._plan), ray.put(self._store)
        pending: dict[Any, Artifact] = {}
        waits = cluster.Waiting(compute)
        waiting = list(wanted)
        while waiting or pending:
            unready = {artifact.key for artifact in (*waiting, *pending.values())}
            for artifact in [a for a in waiting if unready.isdisjoint(part.key for part in (*a.needs, *a.shards))]:
                waiting.remove(artifact)
                if self._store.has(artifact.kind, artifact.key):
                    watcher.built(artifact)
                else:
                    named = task.options(name=f"{artifact.kind}-{artifact.key[:10]}")
                    pending[named.remote(artifact, plan, store, self._mark)] = artifact
            done: list[Any] = []
            while pending and not done:
                waits.look()
                done, _ = ray.wait(list(pending), num_returns=1, timeout=cluster.EVERY)
            for one in done:
                artifact = pending.pop(one)
                try:
                    ray.get(one)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                watcher.built(artifact)

    def run(self, queue: TrialQueue, watcher: Watcher) -> None:
        room, most = cluster.slots(self._plan.config.compute, self.cluster.machines), self._plan.searched_at_once
        if queue.phase == "search" and room > most:
            lag = self._plan.config.search.lag
            _log.warning(
                "search: %d trials fit here at once, %d may run: %d of each method (search.lag)", room, most, lag
            )
        with self._signals.while_trials_run():
            run_phase(queue, self._plan, self._store, self._ledger, watcher, self._signals, self._mark)

    def _keep_logs(self, session: Path) -> None:
        """Copies Ray's logs of this session into the sweep's folder, where that is a local one."""
        if self._store.local and (session / "logs").is_dir():
            target = Path(self._ledger.url) / "logs" / session.name
            ignored = shutil.ignore_patterns("events", "*.sock")
            shutil.copytree(session / "logs", target, dirs_exist_ok=True, ignore=ignored, copy_function=_copy_log)


@contextmanager
def connection(compute: Compute, found: Found) -> Iterator[Path | None]:
    """Connects this process to the Ray that was `found`. Yields the session's folder of a Ray of our own, which ends
    afterwards; None for one that was there, which stays. Raises Unfinished if Ray refuses."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(compute.cpus)
    environment = {k: v for k, v in os.environ.items() if k.startswith(INHERITED)}
    kept = {name: os.environ.get(name, value) for name, value in SETTINGS.items()}
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": {**environment, **kept, "OMP_NUM_THREADS": threads}},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    with ExitStack() as undo:
        if found.address is None:
            # A dashboard frees the resources of trials that are killed: several workers need it (docs/ray.md 0.2).
            options |= {"include_dashboard": compute.workers > 1}
            options |= internals.options_of_own(undo.enter_context(_session_folder()))
        try:
            connected = ray.init(address=found.address or "local", **options)
        except Exception as error:
            if type(error) not in _REFUSALS:
                raise
            did, words = f"joined at {found.address}" if found.address else "started here", str(error).strip()
            raise Unfinished(f"Ray could not be {did}: {words.splitlines()[0][:300]}") from error
        undo.callback(ray.shutdown)  # of a Ray that was there it is the end of the connection
        yield Path(connected.address_info["session_dir"]) if found.address is None else None


@contextmanager
def _session_folder() -> Iterator[str]:
    """The folder for a Ray of our own: Ray's, or where the paths of its sockets would be too long or no ASCII, one in
    /tmp for as long as it is needed."""
    usual = internals.temporary_folder()
    if usual.isascii() and len(usual) <= _LONGEST_FOLDER:
        yield usual
        return
    try:
        short = tempfile.TemporaryDirectory(prefix="saeft-", dir="/tmp", ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(
            f"TMPDIR: {usual} is too long for the sockets of Ray, or not ASCII, and /tmp cannot be used ({error}); set "
            f"RAY_TMPDIR to a folder of at most {_LONGEST_FOLDER - len('/ray')} characters"
        ) from error
    with short as folder:
        yield folder


@contextmanager
def settled() -> Iterator[None]:
    """SETTINGS, and no pages of tracebacks from Tune about trials that are tried again: one line of ours names each.
    Afterwards the process, a notebook perhaps, is as it was. What somebody has set stays."""
    added = SETTINGS.keys() - os.environ.keys()
    os.environ.update({name: SETTINGS[name] for name in added})
    tune = logging.getLogger("ray.tune")
    level = tune.level
    tune.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        tune.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


def _copy_log(source: str, target: str) -> None:
    """Ray may log the environment that it hands to workers, credentials included."""
    Path(target).write_text(redacted(Path(source).read_text(errors="replace")))


def _ensure(artifact: Artifact, plan: Plan, store: Store, mark: Mark | None) -> None:
    import torch

    if mark is not None:
        mark.check()
    building.ensure(artifact, plan, store, torch.device("cuda" if plan.config.compute.gpus else "cpu"))
