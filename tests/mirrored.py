"""A sweep for the tests of mirrors: trials in every state, and what they become later."""

import json
import socket
from pathlib import Path

from saeft_ray.records.course import Course
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store

import report_rows

BEGAN = 1_800_000_000.0
EPOCH = {"terms": {"cross_entropy": 0.5, "mse": 0.1}, "clipped": 0.25, "seconds": 3.0, "monitors": {}}


def epochs(count):
    return [{**EPOCH, "epoch": n + 1, "lr": 0.1 / (n + 1), "selection": 0.5 + n / 10} for n in range(count)]


def course(count, began=BEGAN):
    return Course("node-1", "cpu", began, began + 12.5, epochs(count))


def spec(label, number=0, phase="search", seed=7, **settings):
    return TrialSpec(phase=phase, method=label, settings={"type": label, **settings}, seed=seed, number=number)


class Running:
    """A sweep that runs, in `folder`: a search of `mse` of which a trial ended, one was stopped, one diverged, one runs
    and has done two epochs, one could not be run and one waits; and a confirm trial of `ft`."""

    def __init__(self, folder, name="small", **record):
        self.ledger = Ledger(Store(str(folder)), name, 3)
        record = report_rows.record() | {"name": name} | record
        record["config"]["methods"]["mse"] = {"type": "mse", "lambda_mse": {"low": 1.0, "high": 1000.0, "log": True}}
        (folder / "sweeps" / name).mkdir(parents=True)
        report_rows.put_json(folder / "sweeps" / name / "sweep.json", record)
        self.ledger.begin(None)
        searched = [spec("mse", number, lambda_mse=10.0 * (number + 1)) for number in range(6)]
        self.ok, self.stopped, self.failed, self.running, self.error, self.waiting = searched
        self.confirmed = spec("ft", 0, "confirm", 1000)
        for one in (*searched, self.confirmed):
            self.ledger.begin_trial(one)
        self.end(self.ok, 0.9, 3)
        rows = [self.stopped.row(name, "selection", "selection", "accuracy", 0.4, status="stopped")]
        self.ledger.finish(self.stopped, rows, course(1, BEGAN + 100))
        why = {"status": "failed", "error": "cross_entropy not finite"}
        rows = [self.failed.row(name, "selection", "selection", "accuracy", None, **why)]
        self.ledger.finish(self.failed, rows, course(0, BEGAN + 200))
        self.ledger.give_up(self.error, "Traceback\nRuntimeError: no luck")
        self.go_on(self.running, 2)
        self.end(self.confirmed, 0.8, 2, Sketch=0.3)
        self.say(None)

    @property
    def url(self):
        return self.ledger.url

    def end(self, one, selection, count, began=BEGAN, **sets):
        rows = [one.row("small", "selection", "selection", "accuracy", selection)]
        rows += [one.row("small", name, "ood", "accuracy", value) for name, value in sets.items()]
        self.ledger.finish(one, rows, course(count, began))

    def go_on(self, one, count):
        where = {"node": "node-2", "device": "cpu", "since": BEGAN + 300, "at": BEGAN + 300 + 3 * count}
        self.ledger.show_life(one.id, {**where, "epoch": count, "epochs": 3, "history": epochs(count)})

    def say(self, ended):
        said = {"phase": "search", "done": 3, "total": 6, "running": [self.running.id], "failures": 0, "best": {}}
        self.ledger.show_progress({**said, "left": None, "rate": None, "at": BEGAN + 400, "ended": ended})

    def finish(self):
        """All trials of the search end, the report is written, and so the sweep has ended."""
        self.end(self.running, 0.7, 3, BEGAN + 300)
        for one in (self.error, self.waiting):
            self.end(one, 0.7, 3)
        report = Path(self.url, "report")
        report.mkdir()
        (report / "index.html").write_text("<h1>report</h1>")
        self.say("done")


def plain(value):
    """`value` as something that can be compared whatever the order of its keys."""
    return json.loads(json.dumps(value, sort_keys=True, default=str))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
