"""TensorBoard: a run for each trial, with scalars by epoch, final scores, and hparams.

A file of events is put in place whole, and its name says which epochs it holds. So what is there is known by listing
it, and a run that grows gets a further file: TensorBoard reads the files of a run in the order of their names.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from saeft_ray.errors import UserError
from saeft_ray.mirrors import Added, free_name
from saeft_ray.mirrors.sweep import Sweep, Trial, Value
from saeft_ray.storage.checksum import from_json, to_json
from saeft_ray.storage.files import Files

_MARK = "saeft_ray.json"
_EVENTS = "events.out.tfevents."
_END = "end"  # comes after all digits


class TensorBoard:
    """A folder that `tensorboard --logdir` opens: `<folder>/<sweep>/<trial>/`."""

    def __init__(self, folder: str):
        if "://" in folder or Path(folder).is_file():
            raise UserError(f"tensorboard:{folder}: give a folder of this machine")
        self._files = Files(folder)

    def add(self, sweep: Sweep) -> Iterator[Added]:
        self._claim()
        name = free_name(sweep, self._owner)
        self._mark(f"{name}/{_MARK}", {"key": sweep.key, "url": sweep.url})
        held: dict[str, list[str]] = {}
        for path in self._files.list(name):
            run, _, file = path.removeprefix(f"{name}/").rpartition("/")
            if file.startswith(_EVENTS):
                held.setdefault(run, []).append(file.removeprefix(_EVENTS))
        for trial in sweep.trials:
            yield self._add(f"{name}/{trial.id}", trial, held.get(trial.id, []), sweep.created)

    def is_away(self, error: Exception) -> bool:
        return False  # a folder does not come back by waiting

    def _claim(self) -> None:
        """Makes the folder one of mirrors; never one that holds other things."""
        folder = Path(self._files.url)
        if folder.is_dir() and any(folder.iterdir()) and not self._files.exists(_MARK):
            raise UserError(f"tensorboard:{folder}: holds other things; give a new folder, or an empty one")
        self._mark(_MARK, {"holds": "copies of sweeps by `python -m saeft_ray.mirror`"})

    def _mark(self, path: str, content: Mapping[str, str]) -> None:
        if not self._files.exists(path):
            self._files.write_once(path, to_json(content))

    def _owner(self, name: str) -> str | None:
        path = f"{name}/{_MARK}"
        if not self._files.exists(path):
            return None
        return str(from_json(self._files.read_bytes(path), f"{self._files.url}/{path}").get("key", ""))

    def _add(self, run: str, trial: Trial, held: list[str], created: float) -> Added:
        """`held` are the ends of the names of the run's files."""
        began = created if trial.began is None else trial.began
        before = max((int(name.partition("-")[2]) for name in held if name != _END), default=0)
        new = [epoch for epoch in trial.epochs if epoch.number > before]
        if _END in held or not (trial.over or trial.state == "running"):
            return Added()
        if new or not held:
            events = [] if held else [Event(wall_time=began, summary=_session_start(trial, began))]
            events += [_scalars(epoch.numbers, epoch.ended, epoch.number) for epoch in new]
            after = new[-1].number if new else 0
            self._files.write_once(f"{run}/{_EVENTS}{before:06d}-{after:06d}", _file(events, began))
        if trial.over:
            ended = began if trial.ended is None else trial.ended
            last = trial.epochs[-1].number if trial.epochs else 0
            events = [_scalars(trial.results, ended, last)] if trial.results else []
            events.append(Event(wall_time=ended, summary=_session_end(trial, ended)))
            self._files.write_once(f"{run}/{_EVENTS}{_END}", _file(events, ended))
        return Added(0 if held else 1, len(new))


def _file(events: Iterable[Event], at: float) -> bytes:
    out = io.BytesIO()
    writer = RecordWriter(out)
    for event in (Event(wall_time=at, file_version="brain.Event:2"), *events):
        writer.write(event.SerializeToString())
    return out.getvalue()


def _scalars(numbers: Mapping[str, float], at: float, step: int) -> Event:
    values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
    return Event(wall_time=at, step=step, summary=Summary(value=values))


def _session_start(trial: Trial, began: float) -> Summary:
    """Trials of one configuration are one group in TensorBoard: their seeds are replicates and no hyperparameters."""
    start = SessionStartInfo(group_name=f"{trial.phase}-{trial.configuration}", start_time_secs=began)
    hparams: dict[str, Value] = {"method": trial.method, "phase": trial.phase, **trial.values}
    for name, value in hparams.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    return _session(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def _session_end(trial: Trial, ended: float) -> Summary:
    status = api_pb2.STATUS_FAILURE if trial.state == "failed" else api_pb2.STATUS_SUCCESS
    end = SessionEndInfo(status=status, end_time_secs=ended)
    return _session(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _session(tag: str, content: HParamsPluginData) -> Summary:
    content.version = metadata.PLUGIN_DATA_VERSION
    data = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=data))])
