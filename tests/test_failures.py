"""What keeps a trial from ending is told apart, and only divergence is a result of the method."""

import errno
import logging

import pytest
import torch
from safetensors import SafetensorError

from saeft_ray import report
from saeft_ray.errors import Corrupt, Damaged, Gone, NoRoom, Unavailable, Unfinished, UserError
from saeft_ray.orchestration import local
from saeft_ray.orchestration.failures import ATTEMPTS, Attempts, Failure, cause_of, short_traceback
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.trial import Outcome
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.report.build import findings
from saeft_ray.storage.redact import redacted

import sweeps

SECRET = "a-secret-that-nobody-may-see"


def raised(error, cause=None):
    try:
        raise error from cause
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
        (raised(RuntimeError("training failed"), MemoryError()), "memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/cache/x"), "storage"),
        (Unavailable("s3://b: Access Denied"), "storage"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "storage"),
        (SafetensorError("Error while deserializing: No such file or directory (os error 2)"), "bug"),
        (raised(RuntimeError("while loading"), OSError(errno.ENOSPC, "No space left")), "storage"),
        (UserError("data: no such folder"), "input"),
        (Corrupt("a.png: not a whole image"), "input"),
        (Damaged("a.safetensors: not what was written"), "input"),
        (raised(RuntimeError("in a loader"), NoRoom("the cache is too small")), "input"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"), "crashed"),
        (KeyError("head"), "bug"),
        (RuntimeError("shapes cannot be multiplied"), "bug"),
        (Corrupt("photos/1.png: cannot be read as an image"), "input"),
        (raised(RuntimeError("in a loader"), Gone("photos/1.png: is gone")), "input"),
    ],
)
def test_causes(error, cause):
    assert cause_of(error) == cause


@pytest.mark.parametrize("error", [UserError("a.csv: line 3"), Damaged("x: not what was written"), OSError(28, "")])
def test_what_would_fail_again_stops_the_phase_once_with_its_name(error):
    with pytest.raises(Unfinished, match="confirm-ft-1: ") as caught:
        Attempts().wait("confirm-ft-1", Failure.of(error))
    assert "run the same command to resume" in str(caught.value)


def test_a_lost_machine_is_no_fault_and_pauses_grow():
    attempts = Attempts()
    waits = [attempts.wait("t", Failure.of(OSError(), "lost")) for _ in range(100)]
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 60
    attempts.check("search")
    for cause in ("memory", "bug"):
        assert [attempts.wait("t", Failure.of(OSError("x"), cause)) is None for _ in range(ATTEMPTS[cause])] == [
            False,
            True,
        ]
    with pytest.raises(Unfinished, match="1 search trials could not be run"):
        attempts.check("search")


def test_tracebacks_are_short_and_hold_no_secrets(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    def deep(n):
        return deep(n - 1) if n else {}["x " + SECRET + " https://me:word@host/b?X-Amz-Signature=abc&x=1"]

    with pytest.raises(KeyError) as caught:
        deep(200)
    text = short_traceback(caught.value)
    assert "KeyError" in text
    assert len(text.splitlines()) <= 25
    for hidden in (SECRET, "me:word", "abc"):
        assert hidden not in text
    assert redacted("https://host/a b", {}) == "https://host/a b"


class Machine:
    """Stands in for training: `broken` trials raise, the others have one row a data set."""

    def __init__(self, plan, error):
        self.plan, self.error = plan, error
        self.broken, self.runs = set(), []

    def run(self, plan, spec, store, place):
        self.runs.append(spec.id)
        if spec.id in self.broken:
            raise self.error
        datasets = {"selection": "selection", **(plan.config.data.test_sets() if spec.phase == "confirm" else {})}
        value = 0.5 + (spec.seed or 0) % 97 / 1000 + 0.01 * (spec.method == "mse")
        yield Outcome([spec.row("small", d, r, "accuracy", value, n=1000) for d, r in datasets.items()], value, "ok")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A sweep of ft and mse with three seeds, and the machine that runs it."""
    config = sweeps.config(tmp_path, methods={"ft": {}, "mse": {"lambda_mse": 3}}, confirm={"seeds": 3})
    plan, store, ledger = sweeps.opened(config)
    machine = Machine(plan, KeyError("a bug near " + SECRET))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(local.trial, "run", machine.run)
    monkeypatch.setattr(local.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(LocalRunner, "build", lambda self, wanted, watcher: None)
    return machine, plan, ledger, lambda: run_phases(plan, ledger, LocalRunner(plan, store, ledger), Quiet())


def test_a_bug_stops_its_trial_alone_and_stands_in_the_table_until_it_is_mended(small, tmp_path, caplog):
    machine, plan, ledger, conducted = small
    specs = plan.confirm(plan.config.methods)
    hurt = next(spec for spec in specs if spec.method == "mse")
    machine.broken = {hurt.id}
    with pytest.raises(Unfinished, match=rf"(?s)1 confirm trials could not be run.*{hurt.id}: bug, 2 times"):
        conducted()
    assert machine.runs.count(hurt.id) == ATTEMPTS["bug"]
    assert ledger.finished() == {spec.id for spec in specs} - {hurt.id}
    (row,) = [row for row in read_rows(ledger.url).to_pylist() if row["status"] == "error"]
    assert (row["trial"], row["seed"], row["value"]) == (hurt.id, hurt.seed, None)
    assert "KeyError" in row["error"]
    assert "in run" in row["error"]
    assert SECRET not in row["error"] + caplog.text
    found = findings(read_rows(ledger.url), read_record(ledger.url))
    assert found.open, "no verdict before every registered seed has ended"
    assert all(failures.failed == 0 for failures in found.failures)
    assert {f.method: f.attempts for f in found.failures} == {"ft": 3, "mse": 2}
    (warning,) = [warning for warning in found.warnings if warning.rule == "not run"]
    assert hurt.id in warning.text
    report.write_report(read_rows(ledger.url), read_record(ledger.url), tmp_path / "report")
    machine.broken, machine.runs = set(), []
    conducted()
    assert machine.runs == [hurt.id]
    assert {row["status"] for row in read_rows(ledger.url).to_pylist()} == {"ok"}
    assert not findings(read_rows(ledger.url), read_record(ledger.url)).open


def test_a_full_disk_stops_the_sweep_and_is_no_row(small):
    machine, plan, ledger, conducted = small
    first, *_ = plan.confirm(plan.config.methods)
    machine.broken, machine.error = {first.id}, OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(Unfinished, match=rf"{first.id}: .*No space left on device\n"):
        conducted()
    assert machine.runs == [first.id]
    assert read_rows(ledger.url).num_rows == 0
    machine.broken = set()
    conducted()
    assert len(ledger.finished()) == 6


def test_no_secret_in_what_is_logged_on_the_way(small, caplog):
    machine, plan, _, conducted = small
    machine.broken = {plan.confirm(plan.config.methods)[0].id}
    with caplog.at_level(logging.DEBUG), pytest.raises(Unfinished) as caught:
        conducted()
    assert "tried again" in caplog.text
    assert SECRET not in caplog.text + str(caught.value)
