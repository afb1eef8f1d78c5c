"""Optuna: a study for each method that was searched, in a database that optuna-dashboard opens.

Studies hold the trials of the search alone: rerank and confirm run values again that the search had chosen.
"""

import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from saeft_ray.errors import UserError
from saeft_ray.mirrors import Added, free_name
from saeft_ray.mirrors.database import Database
from saeft_ray.mirrors.sweep import State, Sweep, Trial
from saeft_ray.orchestration.search import distribution
from saeft_ray.storage.redact import redacted

_SWEEP, _TRIAL = "sweep", "trial"  # attributes by which a study and a trial are found again
_STATES: Mapping[State, TrialState] = {
    "waiting": TrialState.WAITING,
    "error": TrialState.WAITING,  # the next start of the sweep tries it again
    "running": TrialState.RUNNING,
    "ok": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
# Optuna notes the time at which it is told of an end; a copy is told later, and corrects it.
_TIMES = sqlalchemy.table(
    "trials",
    sqlalchemy.column("trial_id", sqlalchemy.Integer),
    sqlalchemy.column("datetime_start", sqlalchemy.DateTime),
    sqlalchemy.column("datetime_complete", sqlalchemy.DateTime),
)
_ROUNDED = 1.0  # seconds: some databases keep no fractions


class Optuna:
    """A database, by its SQLAlchemy URL: studies `<sweep>/<method>`."""

    def __init__(self, url: str):
        self._url, self._shown = url, f"optuna:{redacted(url)}"
        self._database = Database(url, self._shown)
        self._storage: optuna.storages.RDBStorage | None = None

    def add(self, sweep: Sweep) -> Iterator[Added]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = self._open()
        name = free_name(sweep, lambda name: self._owner(storage, name, sweep))
        for method, space in sweep.spaces.items():
            trials = [trial for trial in sweep.trials if trial.method == method and trial.phase == "search"]
            if trials and space:
                study = optuna.create_study(
                    storage=storage, study_name=f"{name}/{method}", direction="maximize", load_if_exists=True
                )
                self._describe(study, sweep, method)
                known = {trial.user_attrs.get(_TRIAL): trial for trial in study.get_trials(deepcopy=False)}
                distributions = {name: distribution(value) for name, value in space.items()}
                for trial in trials:
                    wanted = _frozen(trial, distributions, sweep.created)
                    if trial.id in known:
                        yield self._update(storage, known[trial.id], wanted)
                    else:
                        study.add_trial(wanted)
                        yield Added(1, len(trial.epochs))

    def is_away(self, error: Exception) -> bool:
        return self._database.is_away(error)

    def _open(self) -> optuna.storages.RDBStorage:
        """Connected once. Raises UserError for a database that holds other things."""
        if self._storage is not None:
            return self._storage
        self._database.check("studies")
        try:
            self._storage = optuna.storages.RDBStorage(self._url)
        except RuntimeError as error:  # of another version of Optuna
            raise UserError(f"{self._shown}: {error}") from error
        return self._storage

    def _owner(self, storage: optuna.storages.RDBStorage, name: str, sweep: Sweep) -> str | None:
        """Whose the studies `<name>/…` of the sweep's methods are."""
        for study in optuna.get_all_study_summaries(storage, include_best_trial=False):
            if study.study_name in {f"{name}/{method}" for method in sweep.spaces}:
                unmarked = None if not study.n_trials else ""  # begun, and cut off before it was marked
                if (owner := study.user_attrs.get(_SWEEP, unmarked)) is not None:
                    return str(owner)
        return None

    def _describe(self, study: optuna.Study, sweep: Sweep, method: str) -> None:
        if study.user_attrs.get(_SWEEP) == sweep.key:
            return
        with warnings.catch_warnings():  # Optuna calls the names of metrics an experiment
            warnings.simplefilter("ignore")
            study.set_metric_names(["selection accuracy"])
        for name, value in {**sweep.about, "url": sweep.url, "method": method, _SWEEP: sweep.key}.items():
            study.set_user_attr(name, value)

    def _update(self, storage: optuna.storages.RDBStorage, known: FrozenTrial, wanted: FrozenTrial) -> Added:
        """Brings a trial that the study has to what it is now; each step may be done twice."""
        number, new = known._trial_id, wanted.intermediate_values.keys() - known.intermediate_values.keys()
        before = known.user_attrs.get("epochs", 0)
        if not known.state.is_finished():
            for name, value in wanted.user_attrs.items():
                if known.user_attrs.get(name) != value:
                    storage.set_trial_user_attr(number, name, value)
            for step in new:
                storage.set_trial_intermediate_value(number, step, wanted.intermediate_values[step])
            if known.state != wanted.state:
                storage.set_trial_state_values(number, wanted.state, wanted.values)
        now = storage.get_trial(number)
        if now.state == wanted.state and not (
            _same(now.datetime_start, wanted.datetime_start) and _same(now.datetime_complete, wanted.datetime_complete)
        ):
            times = {"datetime_start": wanted.datetime_start, "datetime_complete": wanted.datetime_complete}
            with self._database.engine.begin() as connection:
                connection.execute(_TIMES.update().where(_TIMES.c.trial_id == number).values(**times))
        return Added(0, wanted.user_attrs["epochs"] - before)


def _frozen(trial: Trial, distributions: Mapping[str, BaseDistribution], created: float) -> FrozenTrial:
    """`trial` as Optuna has it. Trials from before times were kept have that at which the sweep was created."""
    state = _STATES[trial.state]
    began = created if trial.began is None else trial.began
    about = {_TRIAL: trial.id, "seed": trial.seed, "configuration": trial.configuration, "status": trial.state}
    about |= {"epochs": len(trial.epochs), "node": trial.node, "device": trial.device, "error": trial.error}
    return FrozenTrial(
        number=-1,  # the study gives the next one; suggestions are copied in their order
        trial_id=-1,
        state=state,
        value=trial.selection if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        datetime_start=None if state == TrialState.WAITING else datetime.fromtimestamp(began),
        datetime_complete=datetime.fromtimestamp(began if trial.ended is None else trial.ended) if trial.over else None,
        params={name: trial.values[name] for name in distributions},
        distributions=dict(distributions),
        user_attrs=about,
        system_attrs={},
        intermediate_values={
            epoch.number: epoch.numbers["selection"] for epoch in trial.epochs if "selection" in epoch.numbers
        },
    )


def _same(one: datetime | None, other: datetime | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs((one - other).total_seconds()) < _ROUNDED
