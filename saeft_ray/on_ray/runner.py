"""Runs a sweep's artifacts and trials on Ray: the cluster that is there, or one of our own on this machine."""

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Before Ray is imported: it reads these once. docs/ray.md 1 and docs/ray.md 6 have the measurements behind them.
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report would block up to 2 s
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # drivers of trials must not see their workers' GPUs
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # rows are ours; five files a trial in the session folder are not read
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: rows are safe, and the same command goes on
    "RAY_AUTH_MODE": "disabled",
    "RAY_DEDUP_LOGS": "0",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402

from saeft_ray.on_ray.tune import run_phase  # noqa: E402
from saeft_ray.orchestration import artifacts as building  # noqa: E402
from saeft_ray.orchestration.phases import Watcher  # noqa: E402
from saeft_ray.orchestration.plan import Artifact, Plan  # noqa: E402
from saeft_ray.orchestration.search import TrialQueue  # noqa: E402
from saeft_ray.orchestration.signals import StopSignals  # noqa: E402
from saeft_ray.records.ledger import Ledger  # noqa: E402
from saeft_ray.storage.redact import redacted  # noqa: E402
from saeft_ray.storage.store import Store  # noqa: E402

# What workers inherit; credentials travel by environment alone, never inside a pickled object.
INHERITED = ("AWS_", "SAEFT_RAY_", "OMP_NUM_THREADS", "HF_", "NCCL_", "GLOO_")


class RayRunner:
    """A context manager: connects on entry, and on leaving ends the Ray that it started itself."""

    def __init__(self, plan: Plan, store: Store, ledger: Ledger, signals: StopSignals | None = None):
        self._plan, self._store, self._ledger, self._signals = plan, store, ledger, signals or StopSignals()
        self._own = False

    def __enter__(self) -> Self:
        if ray.is_initialized():
            return self
        threads = os.environ.get("OMP_NUM_THREADS") or str(self._plan.config.compute.cpus)
        environment = {k: v for k, v in os.environ.items() if k.startswith(INHERITED)}
        environment |= {**SETTINGS, "OMP_NUM_THREADS": threads}
        address = self._plan.config.compute.address or os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {
            "runtime_env": {"env_vars": environment},
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "configure_logging": False,
        }
        self._own = address == "local" or (address is None and not _cluster_here())
        if self._own:
            # A dashboard frees the resources of trials stopped early: several workers need it (docs/ray.md 0.2).
            options |= {"include_dashboard": self._plan.config.compute.workers > 1, "_node_ip_address": "127.0.0.1"}
        ray.init(address=address or ("local" if self._own else "auto"), **options)
        self._signals.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:
            self._keep_logs()
            ray.shutdown()

    def build(self, wanted: Sequence[Artifact], watcher: Watcher) -> None:
        """One Ray task an artifact or shard, each started once what it needs and is put together from is there."""
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

    def _keep_logs(self) -> None:
        """Copies Ray's logs of this session into the sweep's folder, where that is a local one."""
        session = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
        if self._store.local and session.is_dir():
            target = Path(self._ledger.url) / "logs" / session.parent.name
            ignored = shutil.ignore_patterns("events", "*.sock")
            shutil.copytree(session, target, dirs_exist_ok=True, ignore=ignored, copy_function=_copy_log)


def _copy_log(source: str, target: str) -> None:
    """Ray may log the environment that it hands to workers, credentials included."""
    Path(target).write_text(redacted(Path(source).read_text(errors="replace")))


def _cluster_here() -> bool:
    """Whether a Ray that `ray start` or `ray up` left running is on this machine."""
    return (Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster").exists()


def _ensure(artifact: Artifact, plan: Plan, store: Store) -> None:
    import torch

    building.ensure(artifact, plan, store, torch.device("cuda" if plan.config.compute.gpus else "cpu"))
