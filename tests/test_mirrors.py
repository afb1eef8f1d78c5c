"""Mirrors: a sweep in the trackers that people use, read back with the trackers' own code; nothing is there twice."""

import sqlite3
import struct
import sys
from contextlib import closing
from pathlib import Path

import pytest
from remote import filesystem

from saeft_ray import mirror, mirrors
from saeft_ray.errors import Unavailable, UserError
from saeft_ray.mirrors import Added, copy, open_tracker
from saeft_ray.mirrors.sweep import SweepReader
from saeft_ray.storage.files import Files

from mirrored import BEGAN, Running, free_port, plain

NEEDS = {"tensorboard": "tensorboard", "mlflow": "mlflow", "optuna": "optuna", "wandb": "wandb"}


@pytest.fixture
def sweep(tmp_path):
    return Running(tmp_path)


SLOW = [name if name == "tensorboard" else pytest.param(name, marks=pytest.mark.slow) for name in NEEDS]


@pytest.fixture(params=SLOW)
def target(request, tmp_path, monkeypatch):
    """Each tracker in turn, in a place of its own."""
    pytest.importorskip(NEEDS[request.param])
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "wb"))
    monkeypatch.chdir(tmp_path)
    return _place(request.param, tmp_path)


def _place(name, folder):
    places = {"tensorboard": folder / "tb", "mlflow": f"sqlite:///{folder}/ml.db", "wandb": "digits"}
    return f"{name}:{places.get(name, f'sqlite:///{folder}/optuna.db')}"


def held(target, folder):
    """All that the tracker has, read with its own code: by trial, in a form that can be compared."""
    name, _, place = target.partition(":")
    return plain(
        {"tensorboard": _tensorboard, "mlflow": _mlflow, "optuna": _optuna, "wandb": _wandb}[name](place, folder)
    )


def _tensorboard(place, folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    found = {}
    for path in sorted({path.parent for path in (folder / "tb").rglob("*tfevents*")}):
        run = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
        scalars = {
            tag: [(one.step, round(one.wall_time, 3), round(one.value, 5)) for one in run.Scalars(tag)]
            for tag in run.Tags()["scalars"]
        }
        session = run.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        start = metadata.parse_session_start_info_plugin_data(session)
        values = {name: value.number_value or value.string_value for name, value in start.hparams.items()}
        end = metadata.SESSION_END_INFO_TAG in run.PluginTagToContent("hparams")
        found[path.name] = {"scalars": scalars, "values": values, "group": start.group_name, "end": end}
    return found


def _mlflow(place, folder):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=place)
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        name, history = run.info.run_name, {}
        for key in run.data.metrics:
            points = client.get_metric_history(run.info.run_id, key)
            history[key] = sorted((one.step, one.timestamp, one.value) for one in points)
        files = [one.path for one in client.list_artifacts(run.info.run_id, "report")]
        times = (run.info.start_time, run.info.end_time)
        assert name not in found
        tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
        found[name] = [run.info.status, times, run.data.params, tags, history, files]
    return found


def _optuna(place, folder):
    import optuna

    found = {}
    for summary in optuna.get_all_study_summaries(place):
        study = optuna.load_study(study_name=summary.study_name, storage=place)
        found[summary.study_name] = [
            [one.number, one.state.name, one.value, one.params, one.intermediate_values, one.user_attrs, *_rest(one)]
            for one in study.get_trials()
        ]
    return found


def _rest(trial):
    return trial.datetime_start, trial.datetime_complete, repr(trial.distributions)


def _wandb(place, folder):
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for path in sorted((folder / "wb" / "wandb").glob("offline-run-*/run-*.wandb")):
        records = [Record.FromString(data) for data in _records(path.read_bytes())]
        (run,) = [one.run for one in records if one.HasField("run")]
        history = [
            {item.key or item.nested_key[0]: item.value_json for item in one.history.item}
            for one in records
            if one.HasField("history")
        ]
        history = [
            {key: value for key, value in one.items() if key not in ("_timestamp", "_runtime")} for one in history
        ]
        summary = {
            item.key or item.nested_key[0]: item.value_json
            for one in records
            if one.HasField("summary")
            for item in one.summary.update
        }
        config = {item.key or item.nested_key[0]: item.value_json for item in run.config.update if item.key != "_wandb"}
        ends = [one.exit.exit_code for one in records if one.HasField("exit")]
        assert run.display_name not in found
        summary = {key: value for key, value in summary.items() if key not in ("_timestamp", "_runtime", "_wandb")}
        found[run.display_name] = [run.run_id, run.project, run.run_group, history, summary, config, ends]
    return found


def _records(data):
    """The records of a W&B file: LevelDB's log format behind a head of 7 bytes, in blocks of 32 KiB."""
    position, whole = 7, b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def test_a_sweep_is_read_as_values(sweep):
    read = SweepReader(sweep.url).read()
    trials = {trial.id: trial for trial in read.trials}
    states = {trial.id: trial.state for trial in read.trials}
    named = ("ok", "stopped", "failed", "running", "error", "waiting")
    assert states == {**{getattr(sweep, name).id: name for name in named}, sweep.confirmed.id: "ok"}
    assert [trial.number for trial in read.trials] == [0, 1, 2, 3, 4, 5, 0]
    running, ok = trials[sweep.running.id], trials[sweep.ok.id]
    assert [epoch.number for epoch in running.epochs] == [1, 2]
    assert running.epochs[1].numbers["loss.cross_entropy"] == 0.5
    assert (running.began, running.ended, running.node) == (BEGAN + 300, None, "node-2")
    assert [epoch.ended - BEGAN for epoch in ok.epochs] == [3, 6, 9]
    assert (ok.selection, ok.ended, ok.values["lambda_mse"]) == (0.9, BEGAN + 12.5, 10)
    assert ok.configuration == sweep.ok.configuration
    assert running.configuration == sweep.running.configuration
    assert repr(running.values["lambda_mse"]) == "40"  # as in rows: a tracker may keep the first text for ever
    assert trials[sweep.confirmed.id].results == {"accuracy/selection": 0.8, "accuracy/Sketch": 0.3}
    assert trials[sweep.error.id].error.endswith("no luck")
    assert (read.spaces["mse"]["lambda_mse"].high, read.spaces["ft"], read.over) == (1000, {}, False)


def test_what_has_ended_is_read_once(sweep, monkeypatch):
    reader = SweepReader(sweep.url)
    first, read, before = reader.read(), [], Files.read_bytes
    monkeypatch.setattr(Files, "read_bytes", lambda files, path: read.append(path) or before(files, path))
    assert reader.read() == first
    assert not [path for path in read if path.endswith(("rows.parquet", "spec.json"))]


def test_a_sweep_on_s3_is_read_as_one_in_a_folder(sweep, s3_url):
    fs, root = filesystem(s3_url)
    fs.put(f"{sweep.url}/", f"{root}/saeft/sweeps/small/", recursive=True)
    there, here = SweepReader(f"{s3_url}/saeft/sweeps/small").read(), SweepReader(sweep.url).read()
    assert there.trials == here.trials
    assert there.url.startswith("s3://")


def test_numbers_of_test_sets_that_were_added_later_are_read(sweep):
    reader = SweepReader(sweep.url)
    (before,) = [trial for trial in reader.read().trials if trial.id == sweep.confirmed.id]
    sweep.ledger.add(sweep.confirmed, [sweep.confirmed.row("small", "Fog", "ood", "accuracy", 0.25)])
    (after,) = [trial for trial in reader.read().trials if trial.id == sweep.confirmed.id]
    assert after == before._replace(results={**before.results, "accuracy/Fog": 0.25})
    assert after in SweepReader(sweep.url).read().trials


def test_run_twice_it_adds_nothing_twice_and_later_what_is_new(sweep, target, tmp_path, capsys):
    searched = 4 if target.startswith("optuna") else 5  # those that have begun; studies have no confirm trials
    searched += 2 if target.startswith("optuna") else 0  # and those that wait
    assert mirror.main([sweep.url, "--to", target]) == 0
    assert f"{searched} trials and {6 if target.startswith('optuna') else 8} epochs added" in capsys.readouterr().out
    first = held(target, tmp_path)
    assert mirror.main([sweep.url, "--to", target]) == 0
    assert "nothing new" in capsys.readouterr().out
    assert held(target, tmp_path) == first
    sweep.go_on(sweep.running, 3)
    assert mirror.main([sweep.url, "--to", target]) == 0
    assert "0 trials and 1 epochs added" in capsys.readouterr().out
    grown = held(target, tmp_path)
    assert grown != first
    sweep.finish()
    assert mirror.main([sweep.url, "--to", target, "--watch"]) == 0
    last = held(target, tmp_path)
    assert mirror.main([sweep.url, "--to", target]) == 0
    assert "nothing new" in capsys.readouterr().out.splitlines()[-1]
    assert held(target, tmp_path) == last


class Killed(BaseException):
    """Not an Exception: nothing in between may catch it, as nothing catches SIGKILL."""


def _changes(name):
    """The calls by which a tracker is changed."""
    if name == "tensorboard":
        return [(Files, "write_once")]
    if name == "optuna":
        from optuna import Study
        from optuna.storages import RDBStorage

        steps = ("create_new_study", "set_study_user_attr", "set_trial_user_attr", "set_trial_intermediate_value")
        return [(Study, "add_trial"), *((RDBStorage, step) for step in (*steps, "set_trial_state_values"))]
    if name == "mlflow":
        from mlflow import MlflowClient

        steps = ("create_experiment", "create_run", "log_batch", "set_terminated", "log_artifacts", "set_tag")
        return [(MlflowClient, step) for step in steps]
    from saeft_ray.mirrors import wandb

    return [(wandb.WandB, "_write"), (Path, "rename"), (wandb.shutil, "rmtree")]


def test_killed_at_any_step_the_next_copy_makes_it_whole(sweep, target, tmp_path, monkeypatch):
    """A process after the other is killed right after a call that changes the tracker."""
    alive = [0]

    def killing(before):
        def step(*arguments, **options):
            result = before(*arguments, **options)
            alive[0] -= 1
            if alive[0] == 0:
                raise Killed
            return result

        return step

    def copied():
        """Copies by processes of which the first is killed at its second change, and each next one a change later."""
        kills, tracker = 0, open_tracker(target)
        while True:
            alive[0] = kills + 2
            try:
                copy(SweepReader(sweep.url).read(), tracker, 0)
                alive[0] = -1
                return kills
            except Killed:
                kills += 1

    for owner, name in _changes(target.partition(":")[0]):
        monkeypatch.setattr(owner, name, killing(getattr(owner, name)))
    assert copied() >= 2
    sweep.go_on(sweep.running, 3)
    copied()
    sweep.finish()
    assert copied() >= 1
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "undisturbed"
    other.mkdir()
    monkeypatch.setenv("WANDB_DIR", str(other / "wb"))
    copy(SweepReader(sweep.url).read(), open_tracker(_place(target.partition(":")[0], other)))
    whole, found = held(_place(target.partition(":")[0], other), other), held(target, tmp_path)
    assert found == whole


def test_optuna_has_true_states_times_and_distributions(sweep, tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path}/optuna.db"
    copy(SweepReader(sweep.url).read(), open_tracker(f"optuna:{url}"))
    (name,) = optuna.get_all_study_names(url)
    study = optuna.load_study(study_name=name, storage=url)
    assert (name, study.best_value, study.best_params) == ("small/mse", 0.9, {"lambda_mse": 10.0})
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING", "WAITING"]
    first = study.trials[0]
    assert first.distributions == {"lambda_mse": optuna.distributions.FloatDistribution(1, 1000, log=True)}
    assert (first.datetime_start.timestamp(), first.datetime_complete.timestamp()) == (BEGAN, BEGAN + 12.5)
    sweep.finish()
    copy(SweepReader(sweep.url).read(), open_tracker(f"optuna:{url}"))
    late = optuna.load_study(study_name=name, storage=url).trials[3]
    assert (late.state.name, late.value) == ("COMPLETE", 0.7)
    times = [time.timestamp() - BEGAN for time in (late.datetime_start, late.datetime_complete)]
    assert times == [300, 312.5]


def test_two_sweeps_of_one_name_stay_apart(sweep, target, tmp_path):
    copy(SweepReader(sweep.url).read(), open_tracker(target))
    (tmp_path / "elsewhere").mkdir()
    other = Running(tmp_path / "elsewhere", created="2026-02-03T04:05:06+00:00")
    added = copy(SweepReader(other.url).read(), open_tracker(target))
    assert added.trials >= 5
    assert copy(SweepReader(other.url).read(), open_tracker(target)) == Added()
    assert copy(SweepReader(sweep.url).read(), open_tracker(target)) == Added()


@pytest.mark.parametrize("name", NEEDS)
def test_a_place_that_holds_other_things_stays_as_it_is(sweep, name, tmp_path, monkeypatch, capsys):
    pytest.importorskip(NEEDS[name])
    mine = {"tensorboard": "tb/thesis.tex", "mlflow": "ml.db", "optuna": "optuna.db", "wandb": "wb/wandb"}[name]
    path = tmp_path / mine
    path.parent.mkdir(exist_ok=True)
    if name in ("mlflow", "optuna"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE birds (name TEXT)")
    else:
        path.write_text("years of work")
    before = path.read_bytes()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "wb"))
    assert mirror.main([sweep.url, "--to", _place(name, tmp_path)]) == 2
    said = capsys.readouterr().err
    assert ("is a file" if name == "wandb" else "holds other things") in said
    assert path.read_bytes() == before
    assert [one for one in path.parent.iterdir() if path.parent != tmp_path] in ([path], [])


def test_bad_targets_are_one_line(sweep, tmp_path, capsys, monkeypatch):
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    bad = {
        "neptune:x": "give tensorboard:DIR | mlflow:URI | optuna:URL | wandb:PROJECT",
        "tensorboard:": "is not a tracker that is known here",
        "tensorboard:s3://bucket/x": "give a folder of this machine",
        "mlflow:folder": "give a server as http://HOST:PORT",
        "optuna:folder": "is not the URL of a database",
        f"optuna:sqlite:///{tmp_path}/none/x.db": "cannot be opened as a database",
        "optuna:oracle://u:secret@h/x": "needs the module",
        "wandb:a/b/c": "give PROJECT or ENTITY/PROJECT",
    }
    for target, words in bad.items():
        assert mirror.main([sweep.url, "--to", target]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1
        assert "secret" not in said
    assert mirror.main([str(tmp_path / "nowhere"), "--to", "tensorboard:x"]) == 2
    assert "no sweep at" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        mirror.main([sweep.url, "--to", "tensorboard:x", "--watch", "0"])


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_package_that_is_not_installed_is_one_line(sweep, name, capsys, monkeypatch):
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, f"saeft_ray.mirrors.{name}", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Without(name), *sys.meta_path])
    assert mirror.main([sweep.url, "--to", f"{name}:http://127.0.0.1:9"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(f"pip install {mirrors.KINDS[name].package}\n")


class _Without:
    def __init__(self, name):
        self._name = name

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == self._name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_server_that_is_down_is_asked_again_and_then_named(sweep, monkeypatch, capsys):
    pytest.importorskip("mlflow")
    monkeypatch.setattr(mirrors, "PATIENCE", 1.0)
    assert mirror.main([sweep.url, "--to", f"mlflow:http://127.0.0.1:{free_port()}"]) == 1
    said = capsys.readouterr().err
    assert "the tracker does not answer" in said
    assert "run the same command again" in said
    assert "Traceback" not in said


def test_a_tracker_that_comes_back_gets_what_is_missing(sweep):
    """It goes away after each trial; what is waited for is the time without an answer, not that of the copy."""
    read = SweepReader(sweep.url).read()

    class Away:
        def __init__(self):
            self.held = []

        def add(self, sweep):
            for trial in sweep.trials:
                if trial.id not in self.held:
                    self.held.append(trial.id)
                    yield Added(1, 2)
                    raise ConnectionError("refused by redis://me:secret@host")

        def is_away(self, error):
            return isinstance(error, ConnectionError)

    assert copy(read, Away(), 0.5) == Added(7, 14)

    class Gone(Away):
        def add(self, sweep):
            raise ConnectionError("refused by redis://me:secret@host")

    with pytest.raises(Unavailable, match=r"refused by redis://\*\*\*@host"):
        copy(read, Gone(), 0.1)
    with pytest.raises(UserError, match="is not a tracker"):
        open_tracker("none:such")
