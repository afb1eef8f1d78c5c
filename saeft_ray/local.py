"""The serial runner: a whole sweep in this process, trial after trial; for debuggers, tests and small machines."""

from collections.abc import Sequence

from saeft_ray import artifacts, trial
from saeft_ray.finetune import Place
from saeft_ray.ledger import Ledger
from saeft_ray.plan import Artifact, Plan
from saeft_ray.protocol import Watcher
from saeft_ray.search import Deal
from saeft_ray.store import Store


class LocalRunner:
    """Runs everything here, on the GPU if the sweep file asks for one."""

    def __init__(self, plan: Plan, store: Store, ledger: Ledger):
        self._plan, self._store, self._ledger = plan, store, ledger
        self._place = Place.of(plan.config.compute)

    def build(self, wanted: Sequence[Artifact], watcher: Watcher) -> None:
        wanted = artifacts.pieces(wanted, self._store)
        watcher.building(wanted)
        for artifact in wanted:
            artifacts.ensure(artifact, self._plan, self._store, self._place.device)
            watcher.built(artifact)

    def run(self, deal: Deal, watcher: Watcher) -> None:
        while deal.left:
            spec = deal.ask()
            assert spec is not None, "a serial runner leaves no trial waiting for another"
            self._ledger.deal(spec)
            watcher.started(spec)
            for item in trial.run(self._plan, spec, self._store, self._place):
                if isinstance(item, trial.Outcome):
                    self._ledger.finish(spec, item.rows)
                    deal.tell(spec, item.selection)
                    watcher.ended(spec, item.selection)
