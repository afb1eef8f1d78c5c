"""MLflow: a run for each trial, with params, metrics by epoch and tags; the report is the artifact of one more run."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

# MLflow's own patience is minutes, and it reports how it is used.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from saeft_ray.errors import UserError
from saeft_ray.mirrors import Added, free_name
from saeft_ray.mirrors.database import Database
from saeft_ray.mirrors.sweep import State, Sweep, Trial
from saeft_ray.storage.redact import redacted

_SWEEP, _TRIAL, _VERSION = "saeft_ray.sweep", "saeft_ray.trial", "saeft_ray.report"
_REPORT = "report"  # the run that has it, and its folder there
_STATES: Mapping[State, str] = {
    "waiting": "SCHEDULED",
    "error": "SCHEDULED",  # the next start of the sweep tries it again
    "running": "RUNNING",
    "ok": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
_PAGE, _AT_ONCE, _PARAMS = 1000, 900, 90  # what a request may ask for, and hold
_LONGEST = {"param": 6000, "tag": 5000}


class MLflow:
    """A tracking server or a database of MLflow: an experiment with the name of the sweep."""

    def __init__(self, uri: str):
        self._shown = f"mlflow:{redacted(uri)}"
        if "://" not in uri or uri.startswith("file:"):
            raise UserError(f"{self._shown}: give a server as http://HOST:PORT, or a database as sqlite:///FILE.db")
        self._database = None if uri.startswith(("http://", "https://")) else Database(uri, self._shown)
        self._uri = uri

    def add(self, sweep: Sweep) -> Iterator[Added]:
        try:
            experiment = self._experiment(sweep)
            runs = self._runs(experiment)
            for trial in sweep.trials:
                yield self._add(experiment, trial, runs.get(trial.id), sweep)
            self._add_report(experiment, runs.get(_REPORT), sweep)
        except MlflowException as error:
            if self.is_away(error):
                raise
            raise UserError(f"{self._shown}: refuses this: {str(error).strip().splitlines()[0]}") from error

    def is_away(self, error: Exception) -> bool:
        if self._database is not None:
            return self._database.is_away(error)
        return isinstance(error, MlflowException) and int(error.get_http_status_code()) >= 500  # type: ignore[no-untyped-call]

    @cached_property
    def _client(self) -> MlflowClient:
        """Made after the database was looked at, since MLflow makes its tables in any."""
        if self._database is not None:
            self._database.check("experiments")
        return MlflowClient(tracking_uri=self._uri)

    def _experiment(self, sweep: Sweep) -> str:
        """The id of the sweep's experiment, which is made where there is none."""

        def owner(name: str) -> str | None:
            found = self._client.get_experiment_by_name(name)
            return None if found is None else str(found.tags.get(_SWEEP, ""))

        name = free_name(sweep, owner)
        if (known := self._client.get_experiment_by_name(name)) is None:
            tags = {**_tags(sweep.about), "url": sweep.url, _SWEEP: sweep.key}
            return str(self._client.create_experiment(name, tags=tags))
        if known.lifecycle_stage != "active":
            raise UserError(
                f"{self._shown}: the experiment {name} was deleted there; restore it, or delete it for good"
            )
        return str(known.experiment_id)

    def _runs(self, experiment: str) -> dict[str, Run]:
        """The runs that are there, deleted ones too, by trial."""
        found: dict[str, Run] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [experiment], run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token
            )
            found |= {run.data.tags[_TRIAL]: run for run in page if _TRIAL in run.data.tags}
            token = page.token
            if not token:
                return found

    def _add(self, experiment: str, trial: Trial, run: Run | None, sweep: Sweep) -> Added:
        new = run is None
        if run is None:
            if not (trial.over or trial.state == "running"):
                return Added()
            began = sweep.created if trial.began is None else trial.began
            run = self._client.create_run(
                experiment, start_time=_ms(began), run_name=trial.id, tags={_TRIAL: trial.id, _SWEEP: sweep.key}
            )
        if run.info.lifecycle_stage != "active" or run.info.status in ("FINISHED", "FAILED", "KILLED"):
            return Added()
        number, status = run.info.run_id, _STATES[trial.state]
        metrics = self._missing(run, _metrics(trial, sweep.created))
        epochs = {metric.step for metric in metrics if "/" not in metric.key}
        params = [Param(_key(name), str(value)[: _LONGEST["param"]]) for name, value in trial.values.items()]
        params = [] if run.data.params.keys() >= {param.key for param in params} else params
        for start in range(0, len(params), _PARAMS):
            self._client.log_batch(number, params=params[start : start + _PARAMS])
        tags = [RunTag(*tag) for tag in _about(trial).items() if run.data.tags.get(tag[0]) != tag[1]]
        for start in range(0, max(len(metrics), len(tags)), _AT_ONCE):
            self._client.log_batch(number, metrics=metrics[start : start + _AT_ONCE], tags=tags if start == 0 else [])
        if "error" in run.data.tags and not trial.error:  # it was tried again
            self._client.delete_tag(number, "error")
        if trial.over:
            ended = sweep.created if trial.ended is None else trial.ended
            self._client.set_terminated(number, status, end_time=_ms(ended))
        elif run.info.status != status:
            self._client.update_run(number, status=status)
        return Added(int(new), len(epochs))

    def _missing(self, run: Run, metrics: list[Metric]) -> list[Metric]:
        """Those of `metrics` that the run has not, whatever an earlier copy came to."""
        known = {
            (key, metric.step)
            for key in run.data.metrics
            for metric in self._client.get_metric_history(run.info.run_id, key)
        }
        return [metric for metric in metrics if (metric.key, metric.step) not in known]

    def _add_report(self, experiment: str, run: Run | None, sweep: Sweep) -> None:
        """Puts the report there, once for each version of it."""
        if sweep.report is None:
            return
        if run is None:
            run = self._client.create_run(
                experiment, start_time=_ms(sweep.created), run_name=_REPORT, tags={_TRIAL: _REPORT, _SWEEP: sweep.key}
            )
        if run.info.lifecycle_stage == "active" and run.data.tags.get(_VERSION) != sweep.report.version:
            with tempfile.TemporaryDirectory() as folder:
                for name, data in sweep.report.read().items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                self._client.log_artifacts(run.info.run_id, folder, _REPORT)
            self._client.set_tag(run.info.run_id, _VERSION, sweep.report.version)
        if sweep.over and run.info.status == "RUNNING":
            self._client.set_terminated(run.info.run_id, "FINISHED", end_time=_ms(sweep.ended or sweep.created))


def _metrics(trial: Trial, created: float) -> list[Metric]:
    """All numbers of `trial`; final scores stand at its last epoch."""
    found = [
        Metric(_key(name), number, _ms(epoch.ended), epoch.number)
        for epoch in trial.epochs
        for name, number in epoch.numbers.items()
    ]
    last = trial.epochs[-1].number if trial.epochs else 0
    ended = created if trial.ended is None else trial.ended
    return found + [Metric(_key(name), number, _ms(ended), last) for name, number in trial.results.items()]


def _about(trial: Trial) -> dict[str, str]:
    seed = "" if trial.seed is None else str(trial.seed)
    about = {"method": trial.method, "phase": trial.phase, "configuration": trial.configuration, "seed": seed}
    about |= {"status": trial.state, "node": trial.node, "device": trial.device, "error": trial.error}
    return _tags(about)


def _tags(about: Mapping[str, str]) -> dict[str, str]:
    return {_key(name): value[: _LONGEST["tag"]] for name, value in about.items() if value}


def _key(name: str) -> str:
    """`name` in the letters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name)


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
