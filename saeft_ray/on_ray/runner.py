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

from saeft_ray.on_ray import internals
from saeft_ray.on_ray.tune import run_phase
from saeft_ray.orchestration import artifacts as building
from saeft_ray.orchestration.phases import Watcher
from saeft_ray.orchestration.plan import Artifact, Plan
from saeft_ray.orchestration.search import TrialQueue
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.store import Store

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


class RayRunner:
    """A context manager: connects to Ray on entry, and at its exit ends the Ray that it started itself."""

    def __init__(self, plan: Plan, store: Store, ledger: Ledger, signals: StopSignals | None = None):
        self._plan, self._store, self._ledger, self._signals = plan, store, ledger, signals or StopSignals()
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(_settled())
            if not ray.is_initialized():
                self._connect(undo)
            self._undo = undo.pop_all()
        return self

    def _connect(self, undo: ExitStack) -> None:
        compute = self._plan.config.compute
        threads = os.environ.get("OMP_NUM_THREADS") or str(compute.cpus)
        environment = {k: v for k, v in os.environ.items() if k.startswith(INHERITED)}
        environment |= {**{name: os.environ[name] for name in SETTINGS}, "OMP_NUM_THREADS": threads}
        address = compute.address or os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {
            "runtime_env": {"env_vars": environment},
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "configure_logging": False,
        }
        own = address == "local" or (address is None and not _cluster_here())
        if own:
            # A dashboard frees the resources of trials stopped early: several workers need it (docs/ray.md 0.2).
            options |= {"include_dashboard": compute.workers > 1, **internals.LOOPBACK}
        connected = ray.init(address=address or ("local" if own else "auto"), **options)
        self._signals.install()
        if own:
            undo.callback(ray.shutdown)
            undo.callback(self._keep_logs, Path(connected.address_info["session_dir"]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def build(self, wanted: Sequence[Artifact], watcher: Watcher) -> None:
        """One Ray task per artifact or shard, started once everything that it is made from is there."""
        wanted = building.pieces(wanted, self._store)
        watcher.building(wanted)
        compute = self._plan.config.compute
        task = ray.remote(num_cpus=compute.cpus, num_gpus=compute.gpus, max_retries=3)(_ensure)
        plan, store = ray.put(self._plan), ray.put(self._store)
        pending: dict[Any, Artifact] = {}
        waiting = list(wanted)
        while waiting or pending:
            unready = {artifact.key for artifact in (*waiting, *pending.values())}
            for artifact in [a for a in waiting if unready.isdisjoint(part.key for part in (*a.needs, *a.shards))]:
                waiting.remove(artifact)
                if self._store.has(artifact.kind, artifact.key):
                    watcher.built(artifact)
                else:
                    pending[task.remote(artifact, plan, store)] = artifact
            if pending:
                (done,), _ = ray.wait(list(pending), num_returns=1)
                artifact = pending.pop(done)
                try:
                    ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                watcher.built(artifact)

    def run(self, queue: TrialQueue, watcher: Watcher) -> None:
        with self._signals.while_trials_run():
            run_phase(queue, self._plan, self._store, self._ledger, watcher, self._signals)

    def _keep_logs(self, session: Path) -> None:
        """Copies Ray's logs of this session into the sweep's folder, where that is a local one."""
        if self._store.local and (session / "logs").is_dir():
            target = Path(self._ledger.url) / "logs" / session.name
            ignored = shutil.ignore_patterns("events", "*.sock")
            shutil.copytree(session / "logs", target, dirs_exist_ok=True, ignore=ignored, copy_function=_copy_log)


@contextmanager
def _settled() -> Iterator[None]:
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


def _cluster_here() -> bool:
    """Whether a Ray that `ray start` or `ray up` left running is on this machine."""
    return (Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster").exists()


def _ensure(artifact: Artifact, plan: Plan, store: Store) -> None:
    import torch

    building.ensure(artifact, plan, store, torch.device("cuda" if plan.config.compute.gpus else "cpu"))
