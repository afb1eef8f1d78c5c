"""One phase is one Tune experiment: Tune asks our deal for trials, places them, retries them and stops them early.

Tune's own state is thrown away afterwards. What must survive is in the ledger, written by the trials themselves.
"""

import tempfile
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from saeft_ray.ledger import Ledger
from saeft_ray.on_ray.workers import train_on_workers
from saeft_ray.plan import Plan, TrialSpec
from saeft_ray.protocol import Unfinished, Watcher
from saeft_ray.search import Deal
from saeft_ray.store import Store

RETRIES = 2  # of a trial whose process or node dies; divergence is a result and never retried


def run_phase(deal: Deal, plan: Plan, store: Store, ledger: Ledger, watcher: Watcher) -> None:
    """Runs all trials of `deal`. Raises Unfinished, after all others have ended, if trials could not be run."""
    compute = plan.config.compute
    searcher = _Dealer(deal, ledger, watcher)
    alone = compute.workers == 1
    need = {"CPU": compute.cpus, "GPU": compute.gpus} if alone else _driver_resources()
    early = deal.phase == "search" and plan.config.search.early_stopping == "asha"
    with tempfile.TemporaryDirectory(prefix="saeft_ray-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_trial, plan=plan, store=store), need),
            tune_config=tune.TuneConfig(
                metric="selection",
                mode="max",
                search_alg=searcher,
                scheduler=_asha(plan) if early else None,
                num_samples=deal.left,
                max_concurrent_trials=_concurrent(plan),
                # A nested trainer blocks where Tune cannot take its process back (RAY.md, 0.3).
                reuse_actors=alone,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=deal.phase,
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        grid = tuner.fit()
    errors = [f"{_spec(result.config).id}: {result.error}" for result in grid if result.error]
    if errors:
        raise Unfinished(
            f"{len(errors)} of {len(grid)} {deal.phase} trials could not be run; the others are safe, and the same "
            "command tries these again:\n" + "\n".join(errors)
        )
    left = deal.left
    if left:
        raise Unfinished(f"Tune ended the {deal.phase} phase with {left} trials not run; the same command goes on")


class _Dealer(Searcher):  # type: ignore[misc]
    """Stands between Tune and a deal."""

    def __init__(self, deal: Deal, ledger: Ledger, watcher: Watcher):
        super().__init__(metric="selection", mode="max")
        self._deal, self._ledger, self._watcher = deal, ledger, watcher
        self._running: dict[str, TrialSpec] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._deal.left:
            return str(Searcher.FINISHED)
        spec = self._deal.ask()
        if spec is None:
            return None
        self._ledger.deal(spec)
        self._running[trial_id] = spec
        self._watcher.started(spec)
        return {"spec": spec.model_dump_json()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        spec = self._running.pop(trial_id, None)
        if spec is None:
            return
        result = result or {}
        selection = None if error or result.get("status") == "failed" else result.get("selection")
        if not error and "status" not in result:
            self._ledger.stop(spec, selection)
        self._deal.tell(spec, selection)
        self._watcher.ended(spec, selection)

    def save(self, checkpoint_path: str) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return Searcher, ()  # Tune pickles its searcher for restores that we never make


def _trial(config: dict[str, Any], plan: Plan, store: Store) -> None:
    """The body of a Tune trial: runs it here, or on workers of its own, and reports how it ended."""
    spec = _spec(config)
    if plan.config.compute.workers > 1:
        tune.report(train_on_workers(plan, spec, store))
        return
    import torch

    from saeft_ray import trial
    from saeft_ray.finetune import Place

    device = torch.device("cuda" if plan.config.compute.gpus else "cpu")
    place = Place(device, loaders=plan.config.compute.loaders)
    for item in trial.run(plan, spec, store, place):
        if isinstance(item, trial.Outcome):
            Ledger(store, plan.config.name).finish(spec, item.rows)
            tune.report(final(item.selection, item.status, plan))
        elif item.selection is not None and item.epoch.epoch < plan.config.train.epochs:
            tune.report({"selection": item.selection, "epoch": item.epoch.epoch})


def final(selection: float | None, status: str, plan: Plan) -> dict[str, Any]:
    """The last report of a trial. Tune compares numbers, so a failed trial reports less than any accuracy."""
    epochs = plan.config.train.epochs
    return {"selection": -1.0 if selection is None else selection, "status": status, "epoch": epochs}


def _name(trial: Any) -> str:
    """Tune's name of a trial: ours, and Tune's own number for folders."""
    return f"{_spec(trial.config).id}-{trial.trial_id}"


def _spec(config: dict[str, Any]) -> TrialSpec:
    """What `_Dealer.suggest` put into Tune's config."""
    return TrialSpec.model_validate_json(config["spec"])


def _asha(plan: Plan) -> ASHAScheduler:
    return ASHAScheduler(time_attr="epoch", max_t=plan.config.train.epochs, grace_period=1, reduction_factor=2)


def _driver_resources() -> dict[str, float]:
    """A driver only waits for its workers: any share of a CPU that it held could be the one they wait for. It stays on
    the head, which is not a spot machine."""
    return {"CPU": 0, "node:__internal_head__": 0.001}


def _concurrent(plan: Plan) -> int | None:
    """Trials at once. Workers of nested trials are invisible to Tune, so there it must be told."""
    compute = plan.config.compute
    if compute.workers == 1:
        return compute.concurrent
    total = _resources()
    slots = int((total.get("GPU", 0) // compute.gpus) if compute.gpus else total.get("CPU", 1) // compute.cpus)
    fit = slots // compute.workers
    if fit < 1:
        raise ValueError(
            f"compute.workers: {compute.workers} workers a trial want {compute.workers * compute.cpus} CPUs and "
            f"{compute.workers * compute.gpus:g} GPUs; the cluster has {total.get('CPU', 0):g} CPUs and "
            f"{total.get('GPU', 0):g} GPUs"
        )
    return min(fit, compute.concurrent or fit)


def _resources() -> dict[str, float]:
    """What the cluster has, or will have once it has grown as far as its file lets it."""
    now = ray.cluster_resources()
    most = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    bounded = {name: amount for name, amount in most.items() if amount < 1 << 62}  # sys.maxsize is Ray's "no bound"
    return {name: max(now.get(name, 0), bounded.get(name, 0)) for name in ("CPU", "GPU")}
