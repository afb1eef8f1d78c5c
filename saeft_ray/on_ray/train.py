"""A trial on several workers: Ray Train starts them, each runs the same `trial.run` with its own rank."""

from contextlib import suppress
from typing import Any

from saeft_ray.errors import Preempted
from saeft_ray.on_ray.shared import Mark
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store
from saeft_ray.storage.temporary import scratch

RESTARTS = 3  # of the whole group after a worker dies; each continues from the last checkpoint


def train_on_workers(
    plan: Plan, spec: TrialSpec, store: Store, ledger: Ledger, mark: Mark | None = None
) -> dict[str, Any]:
    """Runs `spec` on `compute.workers` workers; returns the trial's last report. Raises Preempted."""
    import ray.train
    from ray.train.torch import TorchTrainer

    compute = plan.config.compute
    resources = {"CPU": compute.cpus, **({"GPU": int(compute.gpus)} if compute.gpus else {})}
    with scratch("train") as folder:
        result = TorchTrainer(
            _work,
            train_loop_config={"plan": plan, "spec": spec, "store": store, "ledger": ledger, "mark": mark},
            scaling_config=ray.train.ScalingConfig(
                num_workers=compute.workers, use_gpu=compute.gpus > 0, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                name=spec.id,
                storage_path=folder,
                failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        ).fit()
    returned: dict[str, Any] | None = result.return_value
    if returned is None:
        raise Preempted(spec.id)
    return returned


def _work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One worker's part: rank 0 evaluates and writes the rows. None from the others, and if all were
    asked to stop: Train would start a group again whose workers raise."""
    import ray.train
    import torch.distributed as dist
    from ray.train.torch import get_device
    from torch import Tensor, nn
    from torch.nn.parallel import DistributedDataParallel

    from saeft_ray.on_ray import preemption
    from saeft_ray.orchestration import trial
    from saeft_ray.training.worker import Worker

    plan, spec, store, ledger, mark = (config[name] for name in ("plan", "spec", "store", "ledger", "mark"))
    if mark is not None:
        mark.check()
    context = ray.train.get_context()
    size, device = context.get_world_size(), get_device()

    def wrap(module: nn.Module) -> nn.Module:
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)

    def mean(tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        average: Tensor = total / size
        return average

    rank = context.get_world_rank()
    there = {"device": device, "rank": rank, "world_size": size, "wrap": wrap, "mean": mean}
    worker = Worker.of(plan.config.compute, **there, must_stop=preemption.must_stop)
    last = None
    with suppress(Preempted):
        for item in trial.recorded(plan, spec, store, worker, ledger):
            if isinstance(item, trial.Outcome) and worker.rank == 0:
                last = final(item.selection, item.status)
    dist.barrier()  # no worker leaves while rank 0 still evaluates: Train would count that as a failure
    return last


def final(selection: float | None, status: str) -> dict[str, Any]:
    """The report of a trial. Tune compares numbers, so a failed trial reports less than any accuracy."""
    return {"selection": -1.0 if selection is None else selection, "status": status}
